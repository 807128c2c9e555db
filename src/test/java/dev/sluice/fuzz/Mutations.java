package dev.sluice.fuzz;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import tools.jackson.core.JacksonException;
import tools.jackson.core.StreamWriteConstraints;
import tools.jackson.core.json.JsonFactory;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.JsonNodeFactory;
import tools.jackson.databind.node.ObjectNode;

/// Inputs that are nearly right: a valid one with some damage, the same for the same seed.
///
/// A fuzz test makes one of these for each input, with the input's number as the seed, so that a
/// failure names the number and can be made again alone.
public final class Mutations {
  private static final int MOST_CHANGES = 4;
  private static final int DEEPEST = 300;

  /// Stands before a key that is to be written twice; no key begins with it.
  private static final String TWICE = "\uE000twice ";

  private static final JsonNodeFactory NODES = JsonNodeFactory.instance;
  private static final JsonMapper JSON =
      JsonMapper.builder(
              JsonFactory.builder()
                  .streamWriteConstraints(
                      StreamWriteConstraints.builder().maxNestingDepth(Integer.MAX_VALUE).build())
                  .build())
          .build();

  /// Numbers at the edges of what types hold, and beyond.
  private static final List<String> NUMBERS =
      List.of(
          "0",
          "1",
          "-1",
          "2",
          "127",
          "128",
          "255",
          "256",
          "65535",
          "65536",
          "2147483647",
          "2147483648",
          "-2147483648",
          "4294967295",
          "4294967296",
          "9223372036854775807",
          "9223372036854775808",
          "18446744073709551615",
          "1e400",
          "-1e400",
          "1e-400",
          "0.5",
          "1.0",
          "3.4028235e39",
          "-0.0",
          "123456789012345678901234567890");

  private static final List<String> STRINGS =
      List.of(
          "",
          " ",
          "\0",
          "\u001B[31m",
          "\r\n",
          "a\nb",
          "\u2028",
          "\u202Eabc",
          "\uFFFD",
          "\uFEFF",
          "\uD83D\uDC0B",
          "e\u0301",
          "\uD83D",
          "\uDC0B",
          "null",
          "true",
          "0",
          "-1",
          "NaN",
          "../../x",
          "/dev/zero",
          "%s%n",
          "${x}",
          "a".repeat(100_000));

  private static final List<String> TEXTS =
      List.of(
          "Call me Ishmael. Some years ago\u2014never mind how long precisely",
          "  two  spaces\t\ttabs\n\n\nlines\r\nends ",
          "na\u00EFve Caf\u00E9 e\u0301\u0327\u0301\u0300 \u00DF \u0130\u0131 \uFB03 \uFDFA",
          "\u9BE8 \u4E2D\u6587 \uD55C\uAD6D\uC5B4 \u0E44\u0E17\u0E22 \u0627\u0644\u0639",
          "\uD83D\uDC0B\uD83D\uDC68\u200D\uD83D\uDC69\u200D\uD83D\uDC67 \uD83C\uDDE9\uD83C\uDDEA",
          "<s> </s> <unk> [CLS] [MASK] <|endoftext|> <0x41> \u2581",
          "12345678901234567890 3.14 1,000 \u0663\u00BD",
          "((((()))))[[[[{{{{\\\\\\\\////****",
          "\0\u0001\u0002\u007F\u0085\u00A0\u00AD\u200B\u2028\uFEFF\uFFFE");

  private final Random random;
  private final List<String> strings;

  /// @param seed of everything that is drawn
  /// @param strings values that are worse than others for what is read, such as regular expressions
  public Mutations(long seed, String... strings) {
    this.random = new Random(seed * 0x9E3779B97F4A7C15L);
    var all = new ArrayList<>(STRINGS);
    for (int i = 0; i < 1 + STRINGS.size() / Math.max(1, strings.length); i++) {
      all.addAll(Arrays.asList(strings));
    }
    this.strings = all;
  }

  /// A number from 0 to below `bound`.
  public int below(int bound) {
    return random.nextInt(bound);
  }

  /// One of several.
  public <T> T oneOf(List<T> choices) {
    return choices.get(random.nextInt(choices.size()));
  }

  /// Mostly one: two are rarely both noticed.
  private int changes() {
    int changes = 1;
    while (changes < MOST_CHANGES && random.nextInt(3) == 0) {
      changes++;
    }
    return changes;
  }

  // ---------------------------------------------------------------- bytes

  /// A copy with up to four places overwritten, left out, put in twice, put in, or cut off.
  public byte[] bytes(byte[] original) {
    byte[] bytes = original.clone();
    for (int n = changes(); n > 0 && bytes.length > 0; n--) {
      int at = random.nextInt(bytes.length);
      int length = 1 + random.nextInt(Math.min(16, bytes.length - at));
      bytes =
          switch (random.nextInt(6)) {
            case 0 -> with(bytes, at, 1, new byte[] {(byte) (bytes[at] ^ 1 << random.nextInt(8))});
            case 1 -> with(bytes, at, 1, new byte[] {(byte) random.nextInt(256)});
            case 2 -> with(bytes, at, length, new byte[0]);
            case 3 -> with(bytes, at, 0, Arrays.copyOfRange(bytes, at, at + length));
            case 4 -> with(bytes, at, 0, oneOf(strings).getBytes(StandardCharsets.UTF_8));
            default -> random.nextInt(4) > 0 ? bytes : Arrays.copyOf(bytes, at);
          };
    }
    return bytes;
  }

  private static byte[] with(byte[] bytes, int at, int removed, byte[] inserted) {
    byte[] changed = new byte[bytes.length - removed + inserted.length];
    System.arraycopy(bytes, 0, changed, 0, at);
    System.arraycopy(inserted, 0, changed, at, inserted.length);
    int rest = at + removed;
    System.arraycopy(bytes, rest, changed, at + inserted.length, bytes.length - rest);
    return changed;
  }

  // ---------------------------------------------------------------- JSON

  /// A JSON text with up to four values replaced by one of another kind, by an extreme one,
  /// wrapped, taken from elsewhere, or with keys that are gone, doubled, misspelt or new.
  public String json(String original) {
    JsonNode root = JSON.readTree(original);
    for (int n = changes(); n > 0; n--) {
      root = changed(root, root);
    }
    return JSON.writeValueAsString(root).replace("\"" + TWICE, "\"");
  }

  /// Walks down to a value and changes it. Small objects are as likely to be met as large ones,
  /// since each step chooses among the children of one.
  private JsonNode changed(JsonNode node, JsonNode root) {
    if (!node.isContainer() || node.isEmpty() || random.nextInt(8) == 0) {
      return node.isObject() && !node.isEmpty() && random.nextBoolean()
          ? withOtherKeys((ObjectNode) node, root)
          : replacement(node, root);
    }
    if (node instanceof ObjectNode object) {
      String key = oneOf(List.copyOf(object.propertyNames()));
      object.set(key, changed(object.get(key), root));
    } else if (node instanceof ArrayNode array) {
      int index = random.nextInt(array.size());
      array.set(index, changed(array.get(index), root));
    }
    return node;
  }

  private JsonNode withOtherKeys(ObjectNode object, JsonNode root) {
    String key = oneOf(List.copyOf(object.propertyNames()));
    switch (random.nextInt(5)) {
      case 0 -> object.remove(key);
      case 1 -> {
        JsonNode value = object.remove(key);
        object.set(oneOf(strings), value);
      }
      case 2 -> object.set(TWICE + key, replacement(object.get(key), root));
      case 3 -> object.set(oneOf(strings), replacement(object, root));
      default -> object.set(key.substring(key.length() / 2), object.get(key).deepCopy());
    }
    return object;
  }

  private JsonNode replacement(JsonNode node, JsonNode root) {
    return switch (random.nextInt(9)) {
      case 0 -> NODES.nullNode();
      case 1 -> NODES.booleanNode(random.nextBoolean());
      case 2 -> number();
      case 3, 4 -> NODES.stringNode(oneOf(strings));
      case 5 -> NODES.arrayNode();
      case 6 -> random.nextBoolean() ? NODES.objectNode() : elsewhere(root).deepCopy();
      case 7 -> wrapped(node);
      default -> sameKind(node);
    };
  }

  private JsonNode number() {
    return JSON.readTree(oneOf(NUMBERS).replace("1e400", "1e308"));
  }

  private JsonNode sameKind(JsonNode node) {
    if (node.isNumber()) {
      return random.nextBoolean()
          ? number()
          : NODES.numberNode(node.asLong(0) + random.nextInt(5) - 2);
    }
    if (node.isString()) {
      String text = node.asString();
      int at = random.nextInt(text.length() + 1);
      return NODES.stringNode(text.substring(0, at) + oneOf(strings) + text.substring(at));
    }
    if (node.isArray() && !node.isEmpty()) {
      ArrayNode array = ((ArrayNode) node).deepCopy();
      switch (random.nextInt(3)) {
        case 0 -> array.remove(random.nextInt(array.size()));
        case 1 -> array.add(array.get(random.nextInt(array.size())).deepCopy());
        default -> {
          for (int i = random.nextInt(1000); i > 0; i--) {
            array.add(array.get(0).deepCopy());
          }
        }
      }
      return array;
    }
    return node.isBoolean() ? NODES.booleanNode(!node.asBoolean()) : node.deepCopy();
  }

  private JsonNode wrapped(JsonNode node) {
    JsonNode wrapped = node.deepCopy();
    for (int depth = random.nextInt(4) > 0 ? 1 : random.nextInt(DEEPEST); depth > 0; depth--) {
      ArrayNode around = NODES.arrayNode();
      around.add(wrapped);
      wrapped = around;
    }
    return wrapped;
  }

  private JsonNode elsewhere(JsonNode root) {
    JsonNode node = root;
    while (node.isContainer() && !node.isEmpty() && random.nextInt(4) > 0) {
      node = oneOf(List.copyOf(node.values()));
    }
    return node;
  }

  // ---------------------------------------------------------------- TOML

  /// A TOML text with up to four lines left out, put in twice, moved, or given another value.
  public String toml(String original) {
    var lines = new ArrayList<>(original.lines().toList());
    for (int n = changes(); n > 0 && !lines.isEmpty(); n--) {
      int at = random.nextInt(lines.size());
      String line = lines.get(at);
      switch (random.nextInt(5)) {
        case 0 -> lines.remove(at);
        case 1 -> lines.add(random.nextInt(lines.size() + 1), line);
        case 2 -> lines.set(at, new String(bytes(utf8(line)), StandardCharsets.UTF_8));
        default -> {
          int equals = line.indexOf('=');
          lines.set(at, line.substring(0, Math.max(0, equals)) + "= " + tomlValue());
        }
      }
    }
    return String.join("\n", lines) + "\n";
  }

  private String tomlValue() {
    int depth = random.nextInt(4) > 0 ? 1 : random.nextInt(10 * DEEPEST);
    return switch (random.nextInt(7)) {
      case 0 -> oneOf(NUMBERS);
      case 1 -> oneOf(List.of("nan", "-inf", "true", "1979-05-27", "99999-12-31T00:00:00Z", "0x1"));
      case 2 -> NODES.stringNode(oneOf(strings)).toString();
      case 3 -> "[".repeat(depth) + "]".repeat(depth);
      case 4 -> "{ a = ".repeat(depth) + "1" + " }".repeat(depth);
      case 5 -> "{}";
      default -> "";
    };
  }

  // ---------------------------------------------------------------- text

  /// A text: of several scripts, with control characters, halves of surrogate pairs, long runs.
  public String text() {
    var text = new StringBuilder();
    for (int n = 1 + random.nextInt(5); n > 0; n--) {
      switch (random.nextInt(4)) {
        case 0 -> text.append(oneOf(strings));
        case 1 -> text.append((char) random.nextInt(0x10000));
        case 2 -> text.append(oneOf(TEXTS).substring(0, 1).repeat(random.nextInt(3000)));
        default -> text.append(oneOf(TEXTS));
      }
    }
    return text.toString();
  }

  // ---------------------------------------------------------------- files

  /// A file of JSON, or of one JSON value a line, mostly still that.
  public byte[] jsonFile(byte[] original) {
    if (below(5) == 0) {
      return bytes(original);
    }
    String text = new String(original, StandardCharsets.UTF_8);
    try {
      return utf8(json(text));
    } catch (JacksonException e) {
      var lines = new ArrayList<>(text.lines().toList());
      int at = below(lines.size());
      lines.set(at, json(lines.get(at)));
      return utf8(String.join("\n", lines) + "\n");
    }
  }

  /// A file of TOML, mostly still TOML.
  public byte[] tomlFile(byte[] original) {
    return below(8) == 0
        ? bytes(original)
        : utf8(toml(new String(original, StandardCharsets.UTF_8)));
  }

  /// A value as a command line has it.
  public String argument() {
    return switch (below(4)) {
      case 0 -> oneOf(strings);
      case 1 -> String.valueOf(below(20));
      default -> oneOf(NUMBERS);
    };
  }

  private static byte[] utf8(String text) {
    return text.getBytes(StandardCharsets.UTF_8);
  }
}
