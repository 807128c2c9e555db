package dev.sluice.tokenizer;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.files.JsonFile;
import dev.sluice.files.WholeFile;
import dev.sluice.gguf.GgufFile;
import dev.sluice.gguf.GgufMetadata;
import dev.sluice.gguf.GgufTexts;
import dev.sluice.gguf.GgufWriter;
import dev.sluice.template.ChatTemplates;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ObjectNode;

/// A tokenizer between the metadata of a GGUF file and `tokenizer.json`, both ways: a byte-level
/// BPE whose way of cutting texts is one of those that are known here. Ids are the same in both.
public final class GgufTokenizer {
  private static final String START = "tokenizer.ggml.";

  /// In the place of a kind, where there is no tokenizer.
  private static final String NONE = "none";

  private static final String MODEL = START + "model";
  private static final String PRE = START + "pre";
  private static final String TOKENS = START + "tokens";
  private static final String TYPES = START + "token_type";
  private static final String MERGES = START + "merges";
  private static final String TEMPLATE = "tokenizer.chat_template";

  /// What tokens are called that end a text, a turn or a message.
  private static final List<String> ENDS = List.of("eos", "eot", "eom");

  private static final String ADD_BOS = START + "add_bos_token";
  private static final String BYTE_LEVEL = "gpt2";
  private static final String CONFIG = EndToken.BY_TEXT.getFirst();

  // The kinds of tokens, of llama.cpp's `llama_token_type`.
  private static final int NORMAL = 1;
  private static final int CONTROL = 3;
  private static final int USER_DEFINED = 4;
  private static final int UNUSED = 5;

  private static final JsonMapper JSON = JsonFile.mapper().build();

  /// How a text is cut before merges are looked for.
  ///
  /// llama.cpp has expressions of its own. They cut some texts in other places than the published
  /// file of `afmoe` (Thai, neighbouring scripts, numbers that are no decimal digits, several
  /// spaces before a number) and of `laguna` (`\r\n`); the models know the published file's pieces.
  ///
  /// @param words that `tokenizer.ggml.pre` has for it, the first of which is written
  /// @param cuts the parts of `pre_tokenizer` one after the other, as the published
  ///   `tokenizer.json` has them, but for the last, which makes characters of bytes
  /// @param composes whether the text is brought to the form NFC first
  /// @param takesWhole whether a piece that is a token is never cut
  private record Pre(
      List<String> words, List<ObjectNode> cuts, boolean composes, boolean takesWhole) {
    String word() {
      return words.getFirst();
    }
  }

  private static final String ISOLATED = "Isolated";

  private static final String CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";

  private static final String SPACES = "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

  private static final String QWEN2 =
      CONTRACTIONS
          + "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
          + SPACES;

  /// Words, and punctuation with the letters behind it. The line breaks within are characters and
  /// no escapes in the files.
  private static final String DEEPSEEK_V3 =
      "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"
          + "|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*"
          + "|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";

  private static final List<Pre> KNOWN =
      List.of(
          new Pre(List.of("qwen2"), List.of(split(QWEN2, ISOLATED)), true, false),
          new Pre(
              List.of("qwen35"),
              List.of(
                  split(
                      CONTRACTIONS
                          + "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}"
                          + "| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|"
                          + SPACES,
                      ISOLATED)),
              true,
              false),
          new Pre(
              List.of("gpt-4o"),
              List.of(
                  split(
                      "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*"
                          + "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
                          + CONTRACTIONS
                          + "?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+"
                          + "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*"
                          + CONTRACTIONS
                          + "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|"
                          + SPACES,
                      ISOLATED)),
              false,
              true),
          new Pre(
              List.of("llama-bpe", "llama3", "llama-v3"),
              List.of(
                  split(
                      CONTRACTIONS
                          + "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}"
                          + "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
                          + SPACES,
                      ISOLATED)),
              false,
              true),
          new Pre(
              List.of("deepseek-v3"),
              List.of(
                  split("\\p{N}{1,3}", ISOLATED),
                  split("[一-龥\u3040-ゟ゠-ヿ]+", ISOLATED),
                  split(DEEPSEEK_V3, ISOLATED)),
              false,
              false),
          new Pre(
              List.of("afmoe"),
              List.of(
                  digitRuns(),
                  // Digits in groups of three from the right: from the right in groups of 510, of
                  // these the one or two digits at the left, and threes from the left.
                  split(
                      "\\p{Nd}{1,510}(?=(?>\\p{Nd}{510})*(?:\\P{Nd}|$))|\\G\\p{Nd}{510}", ISOLATED),
                  split("\\A\\p{Nd}{1,2}(?=\\p{Nd}{3}+\\z)", ISOLATED),
                  split("\\A\\p{Nd}{3}|\\G\\p{Nd}{3}", ISOLATED),
                  // Scripts that are written without spaces.
                  split(
                      "(?:[\\u4E00-\\u9FFF\\u3040-\\u309F\\u30A0-\\u30FF\\u3400-\\u4DBF"
                          + "\\uf900-\\uFAFF\\uFF65-\\uFF9F\\u2F00-\\u2FDF]+|[\\u0E00-\\u0E7F]+"
                          + "|[\\u0E80-\\u0EFF]+|[\\u1780-\\u17FF]+"
                          + "|[\\u1000-\\u109F\\uAA60-\\uAA7F\\uA9E0-\\uA9FF]+"
                          + "|[\\uAC00-\\uD7AF\\u1100-\\u11FF]+)",
                      ISOLATED),
                  split(DEEPSEEK_V3, ISOLATED)),
              false,
              false),
          new Pre(
              List.of("laguna"),
              List.of(
                  // Line breaks begin a piece.
                  split("(?:\\r?\\n)+(?!\\r?\\n)", "MergedWithNext"), split(QWEN2, ISOLATED)),
              false,
              false));

  private static ObjectNode split(String pattern, String behavior) {
    ObjectNode split = JSON.createObjectNode().put("type", "Split");
    split.putObject("pattern").put("Regex", pattern);
    return split.put("behavior", behavior).put("invert", false);
  }

  private static ObjectNode digitRuns() {
    return JSON.createObjectNode().put("type", "Digits").put("individual_digits", false);
  }

  private GgufTokenizer() {}

  // ---------------------------------------------------------------- reading

  /// The tokenizer of a GGUF file.
  ///
  /// @param to takes the content of a `tokenizer.json` as soon as there is one, before all of it is
  ///   known to be sound
  static TokenizerFile read(GgufFile file, Consumer<byte[]> to) {
    return new Reading(file.path(), file.metadata()).read(to);
  }

  /// The chat template of a GGUF file, or null where it has none.
  ///
  /// @param path of the file, for messages
  public static @Nullable ChatTemplates chatTemplates(Path path, GgufFile file) {
    var metadata = file.metadata();
    String source = metadata.text(TEMPLATE);
    if (source == null) {
      return null;
    }
    var tokens = metadata.texts(TOKENS);
    Map<String, String> named = new HashMap<>();
    for (String role : List.of("bos", "eos")) {
      String token = new Reading(path, metadata).role(role, tokens);
      if (token != null) {
        named.put(role + "_token", token);
      }
    }
    return ChatTemplates.of("The chat template of " + path, source, named);
  }

  /// The tokens that end a turn or a text, by their ids, as a GGUF file says.
  public static Set<Integer> endings(GgufFile file) {
    Set<Integer> ids = new LinkedHashSet<>();
    for (String role : ENDS) {
      Long id = file.metadata().whole(START + role + "_token_id");
      if (id != null && id <= Integer.MAX_VALUE) {
        ids.add(id.intValue());
      }
    }
    return ids;
  }

  /// Says in a directory's `generation_config.json` which tokens end a text, where a file has
  /// several: a tokenizer's own files name one.
  ///
  /// @param rows of the model's vocabulary, beyond which no token is written
  public static void writeEnds(GgufFile file, int rows, Path directory) throws IOException {
    Set<Integer> ends = new LinkedHashSet<>(endings(file));
    ends.removeIf(id -> id >= rows);
    if (ends.size() > 1) {
      ObjectNode config = JSON.createObjectNode();
      ends.forEach(config.putArray("eos_token_id")::add);
      WholeFile.write(directory.resolve(TokenizerFolder.GENERATION), config + "\n");
    }
  }

  private record Reading(Path path, GgufMetadata metadata) {
    // Bytes of JSON around a token, around a merge but for its space, and all others of both lists.
    private static final int AROUND_TOKEN = "\"\":,".length();
    private static final int AROUND_MERGE = "[\"\",\"\"],".length() - 1;
    private static final int AROUND_ALL = "\"vocab\":{},\"merges\":[]}}".length();

    private InvalidInputException unusable(String why) {
      return new InvalidInputException(
          "%s holds no tokenizer that Sluice reads: %s; pass the model's tokenizer.json with --tokenizer"
              .formatted(path, why));
    }

    TokenizerFile read(Consumer<byte[]> to) {
      String model = metadata.text(MODEL);
      if (!BYTE_LEVEL.equals(model)) {
        throw unusable(
            model == null
                ? "it has no metadata key " + MODEL
                : "%s is %s, and only %s is known"
                    .formatted(MODEL, TokenizerFile.quoted(model), BYTE_LEVEL));
      }
      var pre = pre();
      var tokens = metadata.texts(TOKENS);
      var merges = metadata.texts(MERGES);
      if (tokens == null || merges == null) {
        throw unusable("it has no metadata key " + (tokens == null ? TOKENS : MERGES));
      }
      int[] types = metadata.ints(TYPES);
      if (types != null && types.length != tokens.count()) {
        throw unusable(
            "%s has %d values for %d tokens".formatted(TYPES, types.length, tokens.count()));
      }
      ObjectNode json = JSON.createObjectNode();
      json.put("version", "1.0");
      Map<String, Boolean> added = addedTokens(json, tokens, types);
      if (pre.composes) {
        json.putObject("normalizer").put("type", "NFC");
      } else {
        json.putNull("normalizer");
      }
      var parts = json.putObject("pre_tokenizer").put("type", "Sequence").putArray("pretokenizers");
      pre.cuts.forEach(parts::add);
      byteLevel(parts.addObject());
      postProcessor(json, tokens);
      byteLevel(json.putObject("decoder"));
      model(json.putObject("model"), pre);
      int used = used(tokens, types);
      byte[] bytes = bytes(json, tokens, used, merges);
      to.accept(bytes);
      return TokenizerFile.of(path, bytes, vocabulary(tokens, used), added, config(tokens));
    }

    private Pre pre() {
      String word = metadata.text(PRE);
      for (var pre : KNOWN) {
        if (word != null && pre.words.contains(word)) {
          return pre;
        }
      }
      throw unusable(
          "%s is %s, and how it cuts texts is not known here; known are %s"
              .formatted(
                  PRE,
                  word == null ? "missing" : TokenizerFile.quoted(word),
                  String.join(", ", KNOWN.stream().flatMap(pre -> pre.words.stream()).toList())));
    }

    private static void byteLevel(ObjectNode node) {
      node.put("type", "ByteLevel")
          .put("add_prefix_space", false)
          .put("trim_offsets", false)
          .put("use_regex", false);
    }

    /// Writes the added tokens and gives them, and which of them have no text.
    private static Map<String, Boolean> addedTokens(
        ObjectNode json, GgufTexts tokens, int @Nullable [] types) {
      Map<String, Boolean> all = new LinkedHashMap<>();
      var added = json.putArray("added_tokens");
      for (int id = 0; types != null && id < types.length; id++) {
        if (types[id] == CONTROL || types[id] == USER_DEFINED) {
          String token = tokens.text(id);
          added
              .addObject()
              .put("id", id)
              .put("content", token)
              .put("single_word", false)
              .put("lstrip", false)
              .put("rstrip", false)
              .put("normalized", false)
              .put("special", types[id] == CONTROL);
          all.merge(token, types[id] == CONTROL, Boolean::logicalOr);
        }
      }
      return all;
    }

    /// A text that is framed begins with a token where the file says so.
    private void postProcessor(ObjectNode json, GgufTexts tokens) {
      Boolean begins = metadata.flag(ADD_BOS);
      String begin = Boolean.TRUE.equals(begins) ? role("bos", tokens) : null;
      if (begin == null) {
        byteLevel(json.putObject("post_processor"));
        return;
      }
      var template = json.putObject("post_processor").put("type", "TemplateProcessing");
      var single = template.putArray("single");
      special(single.addObject(), begin);
      sequence(single.addObject(), "A");
      var pair = template.putArray("pair");
      special(pair.addObject(), begin);
      sequence(pair.addObject(), "A");
      sequence(pair.addObject(), "B");
      var tokensOf = template.putObject("special_tokens").putObject(begin);
      tokensOf.put("id", begin).putArray("ids").add(metadata.whole(id("bos")));
      tokensOf.putArray("tokens").add(begin);
    }

    private static void special(ObjectNode node, String token) {
      node.putObject("SpecialToken").put("id", token).put("type_id", 0);
    }

    private static void sequence(ObjectNode node, String id) {
      node.putObject("Sequence").put("id", id).put("type_id", 0);
    }

    private static void model(ObjectNode node, Pre pre) {
      node.put("type", "BPE");
      for (String key :
          List.of("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")) {
        node.putNull(key);
      }
      node.put("fuse_unk", false).put("byte_fallback", false);
      node.put("ignore_merges", pre.takesWhole);
    }

    /// How many tokens there are without those at the end that only fill the model's rows.
    private static int used(GgufTexts tokens, int @Nullable [] types) {
      int used = tokens.count();
      while (types != null && used > 0 && types[used - 1] == UNUSED) {
        used--;
      }
      return used;
    }

    private TokenIds vocabulary(GgufTexts tokens, int used) {
      var vocabulary = new TokenIds(tokens, used);
      int[] twice = vocabulary.twice();
      if (twice != null) {
        throw unusable(
            "the tokens %d and %d are both %s"
                .formatted(twice[0], twice[1], TokenizerFile.quoted(tokens.text(twice[0]))));
      }
      return vocabulary;
    }

    /// The file, whose last part, the model, ends with the vocabulary and the merges.
    private byte[] bytes(ObjectNode json, GgufTexts tokens, int used, GgufTexts merges) {
      var bytes = new JsonBytes();
      char before = '{';
      for (var part : json.properties()) {
        if (!part.getKey().equals("model")) {
          bytes.as(before).text(part.getKey()).as(':').value(part.getValue());
          before = ',';
        }
      }
      bytes.as(before).text("model").as(':');
      before = '{';
      for (var part : json.path("model").properties()) {
        bytes.as(before).text(part.getKey()).as(':').value(part.getValue());
        before = ',';
      }
      bytes.as(before).reserve(listed(tokens, used, merges));
      bytes.text("vocab").as(':').as('{');
      byte[] ofTokens = tokens.bytes();
      for (int id = 0; id < used; id++) {
        bytes.text(ofTokens, tokens.start(id), tokens.end(id)).as(':').number(id).as(',');
        requireUsualSize(bytes);
      }
      bytes.closed('}').as(',').text("merges").as(':').as('[');
      byte[] ofMerges = merges.bytes();
      for (int i = 0; i < merges.count(); i++) {
        int start = merges.start(i);
        int end = merges.end(i);
        int space = start + 1;
        while (space < end && ofMerges[space] != ' ') {
          space++;
        }
        if (space >= end - 1) {
          throw unusable(
              "the merge %s is no two tokens".formatted(TokenizerFile.quoted(merges.text(i))));
        }
        bytes.as('[').text(ofMerges, start, space).as(',').text(ofMerges, space + 1, end);
        bytes.as(']').as(',');
        requireUsualSize(bytes);
      }
      return bytes.closed(']').as('}').as('}').toByteArray();
    }

    /// What the vocabulary and the merges take, to the byte, so that there is one array of
    /// megabytes and not several.
    private static long listed(GgufTexts tokens, int used, GgufTexts merges) {
      long size = JsonBytes.written(tokens.bytes(), 0, used == 0 ? 0 : tokens.end(used - 1));
      long digits = used;
      for (long more = 10; more < used; more *= 10) {
        digits += used - more;
      }
      int count = merges.count();
      size += JsonBytes.written(merges.bytes(), 0, count == 0 ? 0 : merges.end(count - 1));
      int commas = Math.min(used, 1) + Math.min(count, 1); // which no last one has behind it
      size += AROUND_TOKEN * (long) used + AROUND_MERGE * (long) count - commas;
      return size + digits + AROUND_ALL;
    }

    private void requireUsualSize(JsonBytes bytes) {
      if (bytes.length > TokenizerFile.LARGEST) {
        throw unusable(
            "its tokens and merges would be a file of more than the %d MB that one may have"
                .formatted(TokenizerFile.LARGEST >> 20));
      }
    }

    /// What `tokenizer_config.json` would say.
    private ObjectNode config(GgufTexts tokens) {
      ObjectNode config = JSON.createObjectNode();
      boolean neverBegins = Boolean.FALSE.equals(metadata.flag(ADD_BOS));
      for (String role : List.of("eos", "bos", "padding", "unknown")) {
        String token = role(role, tokens);
        if (token != null && !(role.equals("bos") && neverBegins)) {
          config.put(
              switch (role) {
                case "padding" -> "pad_token";
                case "unknown" -> "unk_token";
                default -> role + "_token";
              },
              token);
        }
      }
      String template = metadata.text(TEMPLATE);
      if (template != null) {
        config.put("chat_template", template);
      }
      return config;
    }

    private static String id(String role) {
      return START + role + "_token_id";
    }

    /// @param tokens null where there are none
    private @Nullable String role(String role, @Nullable GgufTexts tokens) {
      Long id = metadata.whole(id(role));
      if (id == null) {
        return null;
      }
      int count = tokens == null ? 0 : tokens.count();
      if (tokens == null || id < 0 || id >= count) {
        throw unusable("%s is %d and it has %d tokens".formatted(id(role), id, count));
      }
      return tokens.text(id.intValue());
    }
  }

  /// JSON as it is written, without spaces. Vocabularies are hundreds of thousands of texts, which
  /// a start waits for: nothing stands between them and the bytes.
  private static final class JsonBytes {
    private static final byte[] DIGITS = "0123456789ABCDEF".getBytes(StandardCharsets.US_ASCII);
    private static final int LONGEST_ESCAPE = 6;

    private byte[] bytes = new byte[1 << 16];
    private int length;

    /// What bytes of text take, without quotation marks.
    static long written(byte[] utf8, int start, int end) {
      long size = (long) end - start;
      for (int i = start; i < end; i++) {
        byte b = utf8[i];
        if (b >= 0 && (b < ' ' || b == '"' || b == '\\')) {
          size += escaped(b, new byte[LONGEST_ESCAPE], 0) - 1;
        }
      }
      return size;
    }

    /// Makes room for exactly so many more, if that is not too much.
    void reserve(long more) {
      if (length + more <= TokenizerFile.LARGEST) {
        bytes = Arrays.copyOf(bytes, (int) (length + more));
      }
    }

    private void require(int more) {
      if (more > bytes.length - length) {
        bytes = Arrays.copyOf(bytes, Math.addExact(Math.max(bytes.length, more), bytes.length));
      }
    }

    JsonBytes as(char character) {
      require(1);
      bytes[length++] = (byte) character;
      return this;
    }

    /// Ends a list or an object, of which each part was followed by a comma.
    JsonBytes closed(char bracket) {
      if (bytes[length - 1] == ',') {
        length--;
      }
      return as(bracket);
    }

    /// @param number 0 or more
    JsonBytes number(int number) {
      int digits = 1;
      for (int rest = number / 10; rest > 0; rest /= 10) {
        digits++;
      }
      require(digits);
      int rest = number;
      for (int at = length + digits - 1; at >= length; at--) {
        bytes[at] = DIGITS[rest % 10];
        rest /= 10;
      }
      length += digits;
      return this;
    }

    JsonBytes value(JsonNode value) {
      return raw(JSON.writeValueAsBytes(value));
    }

    private JsonBytes raw(byte[] more) {
      require(more.length);
      System.arraycopy(more, 0, bytes, length, more.length);
      length += more.length;
      return this;
    }

    JsonBytes text(String text) {
      byte[] utf8 = text.getBytes(StandardCharsets.UTF_8);
      return text(utf8, 0, utf8.length);
    }

    JsonBytes text(byte[] utf8, int start, int end) {
      if (LONGEST_ESCAPE * (end - start + 2L) > bytes.length - length) {
        require(Math.toIntExact(written(utf8, start, end) + 2));
      }
      byte[] to = bytes;
      int at = length;
      to[at++] = '"';
      for (int i = start; i < end; i++) {
        byte b = utf8[i];
        if (b < 0 || (b >= ' ' && b != '"' && b != '\\')) {
          to[at++] = b;
        } else {
          at = escaped(b, to, at);
        }
      }
      to[at++] = '"';
      length = at;
      return this;
    }

    private static int escaped(byte b, byte[] to, int from) {
      int at = from;
      to[at++] = '\\';
      char known =
          switch (b) {
            case '"', '\\' -> (char) b;
            case '\b' -> 'b';
            case '\f' -> 'f';
            case '\n' -> 'n';
            case '\r' -> 'r';
            case '\t' -> 't';
            default -> 'u';
          };
      to[at++] = (byte) known;
      if (known == 'u') {
        to[at++] = '0';
        to[at++] = '0';
        to[at++] = DIGITS[b >> 4];
        to[at++] = DIGITS[b & 0xF];
      }
      return at;
    }

    byte[] toByteArray() {
      return length == bytes.length ? bytes : Arrays.copyOf(bytes, length);
    }
  }

  // ---------------------------------------------------------------- writing

  /// Says in a file's metadata what the tokenizer of a folder is.
  ///
  /// @param folder that may hold a `tokenizer.json`
  /// @param rows of the model's embedding: ids without a token are filled
  /// @return what is to be told, in sentences
  public static List<String> write(Path folder, int rows, GgufWriter to) {
    Path path = folder.resolve(TokenizerFolder.TOKENIZER);
    if (!Files.exists(path)) {
      writeNone(to);
      return List.of(
          "%s holds no %s, so the file holds no tokenizer; it takes and gives ids"
              .formatted(folder, TokenizerFolder.TOKENIZER));
    }
    byte[] bytes = TokenizerFile.bytes(path);
    if (ByteTokenizer.is(bytes)) {
      writeNone(to);
      return List.of(
          "the model's tokens are bytes, for which GGUF has no tokenizer; the file takes and gives"
              + " ids");
    }
    return write(TokenizerFile.of(path, bytes), rows, to);
  }

  /// Says that a file has no tokenizer.
  public static void writeNone(GgufWriter to) {
    to.text(MODEL, NONE);
  }

  /// Whether a file says that it has a tokenizer, whatever it is.
  public static boolean isIn(GgufFile file) {
    return file.metadata().has(MODEL) && !NONE.equals(file.metadata().text(MODEL));
  }

  private static List<String> write(TokenizerFile file, int rows, GgufWriter to) {
    JsonNode json = JsonFile.read(file.path(), file.bytes(), TokenizerFile.WAY_OUT);
    var pre = pre(file, json);
    if (file.vocabularySize() > rows) {
      throw unknown(file, "it has %d ids and the model %d".formatted(file.vocabularySize(), rows));
    }
    String[] tokens = new String[rows];
    int[] types = new int[rows];
    Arrays.fill(types, UNUSED);
    file.idOfToken()
        .forEach(
            (token, id) -> {
              tokens[id] = token;
              types[id] =
                  file.special().contains(token)
                      ? CONTROL
                      : file.added().contains(token) ? USER_DEFINED : NORMAL;
            });
    for (int id = 0; id < rows; id++) {
      tokens[id] = tokens[id] == null ? "[PAD" + id + "]" : tokens[id];
    }
    to.text(MODEL, BYTE_LEVEL).text(PRE, pre.word());
    to.texts(TOKENS, List.of(tokens)).wholes(TYPES, types).texts(MERGES, merges(file, json));
    roles(file, json, pre.words.contains("llama-bpe"), to);
    return ends(file, rows, to);
  }

  /// The tokens that end a text: the tokenizer's own, and what `generation_config.json` or else
  /// `config.json` has besides, for which GGUF has names of its own.
  ///
  /// @return what is not written, in sentences for the user
  private static List<String> ends(TokenizerFile file, int rows, GgufWriter to) {
    List<String> notes = new ArrayList<>();
    Set<Integer> ends = new LinkedHashSet<>();
    var own = EndToken.of(file, null);
    if (own.isKnown()) {
      ends.add(own.id());
    }
    for (String name : EndToken.BY_ID) {
      JsonNode listed = file.beside(name).path("eos_token_id");
      for (JsonNode id : listed.isArray() ? listed : List.of(listed)) {
        if (id.isInt() && id.intValue() >= 0 && id.intValue() < rows) {
          ends.add(id.intValue());
        } else if (!id.isMissingNode() && !id.isNull()) {
          notes.add(
              "%s has the eos_token_id %s, which is none of the model's tokens and is not written"
                  .formatted(name, Printable.brief(id, 60)));
        }
      }
      if (!listed.isMissingNode() && !listed.isNull()) {
        break;
      }
    }
    List<Integer> left = new ArrayList<>(ends);
    for (String role : ENDS) {
      if (!left.isEmpty()) {
        to.whole(START + role + "_token_id", left.removeFirst());
      }
    }
    if (!left.isEmpty()) {
      notes.add(
          "a GGUF file names %d tokens that end a text, so %s end none in it"
              .formatted(ENDS.size(), left));
    }
    return notes;
  }

  private static InvalidInputException unknown(TokenizerFile file, String why) {
    return new InvalidInputException(
        "%s cannot be written as GGUF: %s; take the file away to write the model without a tokenizer"
            .formatted(file.path(), why));
  }

  /// The way of cutting texts that is the file's, to the letter.
  private static Pre pre(TokenizerFile file, JsonNode json) {
    JsonNode model = json.path("model");
    if (!model.path("type").asString("BPE").equals("BPE")
        || model.path("byte_fallback").asBoolean(false)) {
      throw unknown(file, "it is no byte-level BPE");
    }
    List<JsonNode> cuts = parts(json.path("pre_tokenizer"), "pretokenizers");
    boolean isByteLevel = !cuts.isEmpty() && isBytesAlone(cuts.removeLast());
    if (cuts.size() == 1) {
      cuts.set(0, isolated(cuts.getFirst()));
    }
    boolean composes = composes(file, json.path("normalizer"));
    boolean takesWhole = model.path("ignore_merges").asBoolean(false);
    for (var pre : KNOWN) {
      if (isByteLevel && pre.cuts.equals(cuts)) {
        if (pre.composes != composes) {
          throw unknown(
              file,
              "it cuts texts as %s does, which takes them %s, and it takes them %s"
                  .formatted(pre.word(), form(pre.composes), form(composes)));
        }
        if (pre.takesWhole != takesWhole) {
          throw unknown(
              file,
              "it cuts texts as %s does, whose ignore_merges is %s, and its own is %s"
                  .formatted(pre.word(), pre.takesWhole, takesWhole));
        }
        return pre;
      }
    }
    throw unknown(
        file,
        "how it cuts texts, %s, is none of those that have a name here: %s"
            .formatted(
                Printable.brief(json.path("pre_tokenizer"), 200),
                String.join(", ", KNOWN.stream().map(Pre::word).toList())));
  }

  private static String form(boolean composes) {
    return composes ? "in the form NFC" : "as they are";
  }

  /// What a sequence consists of, or the one thing that stands in its place.
  private static List<JsonNode> parts(JsonNode whole, String name) {
    List<JsonNode> parts = new ArrayList<>();
    if (whole.path(name).isArray()) {
      whole.path(name).forEach(parts::add);
    } else if (whole.isObject()) {
      parts.add(whole);
    }
    return parts;
  }

  /// Whether a part makes characters of bytes and does nothing else.
  private static boolean isBytesAlone(JsonNode part) {
    return part.path("type").asString("").equals("ByteLevel")
        && !part.path("add_prefix_space").asBoolean(true)
        && !part.path("use_regex").asBoolean(true);
  }

  /// A split that takes out what lies between its matches, of which a pattern that matches every
  /// character leaves nothing, as one that keeps both.
  private static JsonNode isolated(JsonNode split) {
    boolean keepsMatches =
        split.path("behavior").asString("").equals("Removed")
            && split.path("invert").asBoolean(false);
    return keepsMatches ? split(split.path("pattern").path("Regex").asString(""), ISOLATED) : split;
  }

  private static boolean composes(TokenizerFile file, JsonNode normalizer) {
    boolean composes = false;
    for (JsonNode part : parts(normalizer, "normalizers")) {
      String type = part.path("type").asString("");
      if (!type.equals("NFC")) {
        throw unknown(
            file,
            "it changes texts by %s, and only NFC is known here"
                .formatted(TokenizerFile.quoted(type)));
      }
      composes = true;
    }
    return composes;
  }

  private static List<String> merges(TokenizerFile file, JsonNode json) {
    List<String> merges = new ArrayList<>();
    for (JsonNode merge : json.path("model").path("merges")) {
      String pair =
          merge.isArray()
              ? merge.path(0).asString("") + " " + merge.path(1).asString("")
              : merge.asString("");
      if (pair.indexOf(' ', 1) < 0) {
        throw unknown(file, "the merge %s is no two tokens".formatted(TokenizerFile.quoted(pair)));
      }
      merges.add(pair);
    }
    return merges;
  }

  /// The tokens with a part to play, and the chat template.
  private static void roles(TokenizerFile file, JsonNode json, boolean isLlama, GgufWriter to) {
    Map<String, String> roles = new HashMap<>();
    roles.put("bos_token", "bos");
    roles.put("pad_token", "padding");
    roles.put("unk_token", "unknown");
    ObjectNode config = file.beside(CONFIG);
    for (String key : List.of("bos_token", "pad_token", "unk_token")) {
      String token = TokenizerFile.content(config.path(key));
      Integer id = token == null ? null : file.idOfToken().get(token);
      if (id != null) {
        to.whole(START + Objects.requireNonNull(roles.get(key)) + "_token_id", id);
      }
    }
    boolean frames =
        parts(json.path("post_processor"), "processors").stream()
            .anyMatch(
                part ->
                    part.path("type").asString("").equals("TemplateProcessing")
                        && part.path("single").path(0).has("SpecialToken"));
    boolean begins = TokenizerFile.content(config.path("bos_token")) != null;
    if (frames || !begins || isLlama) {
      to.flag(ADD_BOS, frames); // where it is false, no token begins a text
    }
    String template = TokenizerFolder.chatTemplate(file);
    if (template != null) {
      to.text(TEMPLATE, template);
    }
  }
}
