package dev.sluice.fuzz;

import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;
import tools.jackson.databind.node.StringNode;

/// Makes broken inputs of good ones, always the same of the same random numbers.
public final class Mutations {
  private static final JsonMapper JSON = JsonMapper.builder().build();

  /// What programs stumble over as text.
  private static final String[] TEXTS = {
    "",
    " ",
    "\u001B[31mred\u0007",
    "\0",
    "a\nb",
    "..",
    "../../x",
    "/etc/passwd",
    "\uD800",
    "\u202Egpj",
    "NaN",
    "null",
    "x".repeat(5000),
    "%s%n%d",
    "{}",
    "'",
    "\"",
    "\\",
    "ﬁ",
    "🦭",
    "-1",
    "1e400",
    "C:\\x",
    "a/b",
    "\u2028"
  };

  /// What programs stumble over as numbers, as they are written.
  private static final String[] NUMBERS = {
    "-1",
    "0",
    "1",
    "2",
    "127",
    "255",
    "65536",
    "2147483647",
    "2147483648",
    "-2147483648",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "0.5",
    "-0.0",
    "1e-320",
    "1e308",
    "1e400",
    "99999999999999999999999999999999999999999999999999"
  };

  private Mutations() {}

  // ---------------------------------------------------------------- bytes

  /// A few changes to bytes: bits, bytes, whole numbers, pieces taken out, doubled or put
  /// elsewhere, the end cut off.
  public static byte[] bytes(Random random, byte[] good) {
    byte[] bytes = good;
    for (int n = 1 + random.nextInt(4); n > 0; n--) {
      bytes = oneChange(random, bytes);
    }
    return bytes;
  }

  private static byte[] oneChange(Random random, byte[] bytes) {
    if (bytes.length == 0) {
      return new byte[] {(byte) random.nextInt(256)};
    }
    byte[] changed = bytes.clone();
    int at = random.nextInt(bytes.length);
    switch (random.nextInt(10)) {
      case 0 -> changed[at] ^= (byte) (1 << random.nextInt(8));
      case 1 -> changed[at] = (byte) random.nextInt(256);
      case 2 ->
          changed[at] =
              new byte[] {0, -1, 0x1B, '\n', '"', '\\', '{', '[', ',', ' '}[random.nextInt(10)];
      case 3 -> number(random, changed, at, Integer.BYTES);
      case 4 -> number(random, changed, at, Long.BYTES);
      case 5 -> {
        return join(bytes, 0, at); // cut off
      }
      case 6 -> {
        int end = at + random.nextInt(Math.min(64, bytes.length - at) + 1);
        return join(bytes, 0, at, end, bytes.length); // a piece taken out
      }
      case 7 -> {
        int end = at + random.nextInt(Math.min(64, bytes.length - at) + 1);
        return join(bytes, 0, end, at, bytes.length); // doubled
      }
      case 8 -> {
        byte[] text = TEXTS[random.nextInt(TEXTS.length)].getBytes(StandardCharsets.UTF_8);
        var out = new ByteArrayOutputStream();
        out.write(bytes, 0, at);
        out.writeBytes(text);
        out.write(bytes, at, bytes.length - at);
        return out.toByteArray();
      }
      default -> {
        int other = random.nextInt(bytes.length);
        byte kept = changed[at];
        changed[at] = changed[other];
        changed[other] = kept;
      }
    }
    return changed;
  }

  private static void number(Random random, byte[] bytes, int at, int size) {
    if (at + size <= bytes.length) {
      long[] values = {
        0, 1, -1, Integer.MAX_VALUE, Integer.MIN_VALUE, Long.MAX_VALUE, 1L << 40, 255
      };
      long value = values[random.nextInt(values.length)];
      var buffer = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
      if (size == Integer.BYTES) {
        buffer.putInt(at, (int) value);
      } else {
        buffer.putLong(at, value);
      }
    }
  }

  /// Pieces of `bytes`, given by where they begin and end.
  private static byte[] join(byte[] bytes, int... borders) {
    var out = new ByteArrayOutputStream();
    for (int i = 0; i < borders.length; i += 2) {
      out.write(bytes, borders[i], borders[i + 1] - borders[i]);
    }
    return out.toByteArray();
  }

  // ---------------------------------------------------------------- JSON

  /// Changes to a JSON text that a parser of its structure must meet: values of other kinds and of
  /// extreme size, keys dropped, doubled, misspelt, nested; now and then broken bytes as well.
  public static byte[] json(Random random, byte[] good) {
    try {
      JsonNode tree = JSON.readTree(good);
      int changes = 1 + random.nextInt(3);
      for (int i = 0; i < changes; i++) {
        tree = changed(random, tree);
      }
      String text = JSON.writeValueAsString(tree);
      // numbers that the library's nodes cannot hold are written in afterwards
      text = text.replace("\"#NUMBER#\"", NUMBERS[random.nextInt(NUMBERS.length)]);
      byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
      return random.nextInt(8) == 0 ? bytes(random, bytes) : bytes;
    } catch (JacksonException e) {
      return bytes(random, good);
    }
  }

  private static JsonNode changed(Random random, JsonNode tree) {
    List<JsonNode> containers = new ArrayList<>();
    collect(tree, containers);
    if (containers.isEmpty()) {
      return other(random);
    }
    JsonNode place = containers.get(random.nextInt(containers.size()));
    if (place instanceof ObjectNode object && !object.isEmpty()) {
      var names = new ArrayList<>(object.propertyNames());
      String name = names.get(random.nextInt(names.size()));
      switch (random.nextInt(6)) {
        case 0 -> object.remove(name);
        case 1 -> object.set(name + "x", object.remove(name));
        case 2 -> object.set(TEXTS[random.nextInt(TEXTS.length)], other(random));
        case 3 -> object.set(name, JSON.createObjectNode().set(name, object.get(name)));
        default -> object.set(name, other(random));
      }
    } else if (place instanceof ArrayNode array && !array.isEmpty()) {
      int at = random.nextInt(array.size());
      switch (random.nextInt(4)) {
        case 0 -> array.remove(at);
        case 1 -> array.add(array.get(at));
        default -> array.set(at, other(random));
      }
    } else if (place instanceof ObjectNode object) {
      object.set(TEXTS[random.nextInt(TEXTS.length)], other(random));
    } else if (place instanceof ArrayNode array) {
      array.add(other(random));
    }
    return tree;
  }

  private static void collect(JsonNode node, List<JsonNode> containers) {
    if (node.isContainer()) {
      containers.add(node);
      node.forEach(child -> collect(child, containers));
    }
  }

  /// A value of any kind.
  private static JsonNode other(Random random) {
    return switch (random.nextInt(10)) {
      case 0 -> JSON.createObjectNode();
      case 1 -> JSON.createArrayNode();
      case 2 -> JSON.getNodeFactory().nullNode();
      case 3 -> JSON.getNodeFactory().booleanNode(random.nextBoolean());
      case 4 -> StringNode.valueOf(TEXTS[random.nextInt(TEXTS.length)]);
      case 5 -> {
        var deep = JSON.createArrayNode();
        var inner = deep;
        for (int i = random.nextInt(600); i > 0; i--) {
          inner = inner.addArray();
        }
        yield deep;
      }
      case 6 -> JSON.createArrayNode().add(TEXTS[random.nextInt(TEXTS.length)]).add(-1);
      default -> StringNode.valueOf("#NUMBER#");
    };
  }

  // ---------------------------------------------------------------- text of settings

  /// Changes to lines of `name = value`, or to any lines: values of other kinds, names changed,
  /// lines dropped, doubled and put elsewhere; now and then broken bytes.
  public static byte[] settings(Random random, byte[] good) {
    var lines = new ArrayList<>(new String(good, StandardCharsets.UTF_8).lines().toList());
    for (int n = 1 + random.nextInt(3); n > 0 && !lines.isEmpty(); n--) {
      int at = random.nextInt(lines.size());
      String line = lines.get(at);
      int equals = line.indexOf('=');
      switch (random.nextInt(7)) {
        case 0 -> lines.remove(at);
        case 1 -> lines.add(random.nextInt(lines.size() + 1), line);
        case 2 -> lines.set(at, line.isEmpty() ? "[" : line.substring(1));
        case 3 -> lines.add(at, "[" + "[".repeat(random.nextInt(3)) + "a.b]");
        default -> {
          if (equals > 0) {
            lines.set(at, line.substring(0, equals + 1) + " " + value(random));
          }
        }
      }
    }
    byte[] bytes = String.join("\n", lines).getBytes(StandardCharsets.UTF_8);
    return random.nextInt(6) == 0 ? bytes(random, bytes) : bytes;
  }

  private static String value(Random random) {
    return switch (random.nextInt(9)) {
      case 0 -> "true";
      case 1 -> "[]";
      case 2 -> "{}";
      case 3 -> "[1, \"a\", [2]]";
      case 4 ->
          "\"" + TEXTS[random.nextInt(TEXTS.length)].replaceAll("[\\p{Cntrl}\"\\\\]", "?") + "\"";
      case 5 ->
          new String[] {"nan", "inf", "-inf", "2026-11-28", "0x7FFFFFFFFFFFFFFF"}
              [random.nextInt(5)];
      case 6 -> "[".repeat(1 + random.nextInt(4000));
      default -> NUMBERS[random.nextInt(NUMBERS.length)];
    };
  }

  /// One of the texts that programs stumble over.
  public static String text(Random random) {
    return TEXTS[random.nextInt(TEXTS.length)];
  }

  /// One of the numbers that programs stumble over.
  public static String number(Random random) {
    return NUMBERS[random.nextInt(NUMBERS.length)];
  }
}
