package dev.sluice.tokenizer;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.files.JsonFile;
import dev.sluice.files.RegularFile;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.Consumer;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JacksonException;
import tools.jackson.core.JsonParser;
import tools.jackson.core.JsonToken;
import tools.jackson.databind.DeserializationFeature;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.ObjectReader;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;

/// A `tokenizer.json`, and what must hold before the library sees it: that it is JSON of the right
/// kind, and that its ids are such as a model can have.
///
/// @param path where it was read
/// @param bytes its content
/// @param idOfToken the ids that the library gives, those of added tokens included
/// @param added the tokens that stand beside the vocabulary: what a text spells out as a whole
/// @param special those of them that have no text
/// @param vocabularySize one more than the highest id
/// @param config what stands for `tokenizer_config.json` where it is no file of a folder; else null
record TokenizerFile(
    Path path,
    byte[] bytes,
    Map<String, Integer> idOfToken,
    Set<String> added,
    Set<String> special,
    int vocabularySize,
    @Nullable ObjectNode config) {
  static final String WAY_OUT = "fetch the model's tokenizer.json again, or use another";

  private static final String NO_TOKENS = "it lists no tokens";

  static final long LARGEST = 256L << 20;
  private static final int SHOWN = 40;
  private static final int BYTES = 256;

  /// A model has a row for every id up to the highest, so most of them must be tokens.
  private static final int SPARE_IDS = 1000;

  private static final JsonMapper JSON = JsonFile.mapper().build();

  /// Reads one value of a file that goes on.
  private static final ObjectReader PART =
      JSON.reader().without(DeserializationFeature.FAIL_ON_TRAILING_TOKENS);

  /// Reads the file once: what is hashed and checked is what is used.
  static byte[] bytes(Path path) {
    return RegularFile.read(path, LARGEST, WAY_OUT);
  }

  /// The content that was made of another file.
  ///
  /// @param vocabulary that the content lists
  /// @param added those of them that are added tokens, and which have no text
  static TokenizerFile of(
      Path path, byte[] bytes, TokenIds vocabulary, Map<String, Boolean> added, ObjectNode config) {
    if (vocabulary.isEmpty()) {
      throw unusable(path, NO_TOKENS);
    }
    Map<String, Boolean> written = new LinkedHashMap<>(added);
    written.remove(""); // the library leaves out empty ones
    return new TokenizerFile(
        path,
        bytes,
        vocabulary,
        Set.copyOf(written.keySet()),
        special(written),
        vocabulary.size(),
        config);
  }

  /// Checks the content of a file.
  static TokenizerFile of(Path path, byte[] bytes) {
    var reading = new Reading(path, new LinkedHashMap<>());
    try (var parser = JSON.createParser(bytes)) {
      reading.root(parser);
    } catch (JacksonException e) {
      // The tree's reader says what is wrong, and where.
      var _ = JsonFile.read(path, bytes, WAY_OUT);
      throw JsonFile.notJson(
          path.toString(), new String(bytes, StandardCharsets.UTF_8), e, WAY_OUT);
    }
    return reading.checked(bytes);
  }

  /// Checks the content of a file, and gives it on.
  static TokenizerFile of(Path path, byte[] bytes, Consumer<byte[]> to) {
    var file = of(path, bytes);
    to.accept(bytes);
    return file;
  }

  /// The token with an id, or null.
  @Nullable String token(int id) {
    return idOfToken.entrySet().stream()
        .filter(entry -> entry.getValue() == id)
        .map(Map.Entry::getKey)
        .findFirst()
        .orElse(null);
  }

  /// The content of a file without the tokens that have no text.
  static byte[] withoutSpecial(Path path, byte[] bytes) {
    var root = (ObjectNode) JsonFile.read(path, bytes, WAY_OUT);
    if (root.path("added_tokens") instanceof ArrayNode tokens) {
      tokens.removeIf(token -> token.path("special").asBoolean(false));
    }
    return root.toString().getBytes(StandardCharsets.UTF_8);
  }

  /// The object in a file that stands beside this one; empty where there is no such file.
  ObjectNode beside(String name) {
    if (config != null) {
      return name.equals(EndToken.BY_TEXT.getFirst()) ? config : JSON.createObjectNode();
    }
    Path file = path.resolveSibling(name);
    return Files.exists(file)
        ? JsonFile.object(file, JsonFile.SMALL, "mend or remove it")
        : JSON.createObjectNode();
  }

  /// The text of a token in such an object, where it stands as it is or as `{"content": …}`; null
  /// where there is none.
  static @Nullable String content(JsonNode token) {
    return (token.isObject() ? token.path("content") : token).asStringOpt().orElse(null);
  }

  /// What makes text of tokens; the rest of the file is passed over.
  private JsonNode decoder() {
    try (var parser = JSON.createParser(bytes)) {
      parser.nextToken();
      for (String key = parser.nextName(); key != null; key = parser.nextName()) {
        parser.nextToken();
        if (key.equals("decoder")) {
          return PART.readTree(parser);
        }
        parser.skipChildren();
      }
    }
    return JSON.nullNode();
  }

  /// The bytes of each token of a byte-level tokenizer, by id; see [Tokenizer#tokenBytes].
  byte[][] tokenBytes() {
    JsonNode decoder = decoder();
    List<JsonNode> parts = new ArrayList<>(List.of(decoder));
    if (decoder.path("type").asString("").equals("Sequence")) {
      parts.clear();
      decoder.path("decoders").forEach(parts::add);
    }
    if (parts.size() != 1 || !parts.getFirst().path("type").asString("").equals("ByteLevel")) {
      throw new InvalidInputException(
          "the tokens of %s have no bytes of their own: its decoder is %s, and ByteLevel alone gives a token the same bytes in every text; use a model with a byte-level tokenizer"
              .formatted(path, Printable.brief(decoder, SHOWN)));
    }
    byte[] byteOf = new byte[2 * BYTES]; // of the characters that stand for bytes
    boolean[] stands = new boolean[byteOf.length];
    int next = BYTES;
    for (int b = 0; b < BYTES; b++) {
      boolean isShown = (b >= '!' && b <= '~') || (b >= 0xA1 && b != 0xAD);
      int character = isShown ? b : next++;
      byteOf[character] = (byte) b;
      stands[character] = true;
    }
    byte[][] all = new byte[vocabularySize][0];
    idOfToken.forEach(
        (token, id) -> {
          if (!added.contains(token)) {
            boolean isOfBytes = token.chars().allMatch(c -> c < stands.length && stands[c]);
            all[id] = token.getBytes(StandardCharsets.UTF_8); // as the library has it
            if (isOfBytes) {
              all[id] = new byte[token.length()];
              for (int i = 0; i < token.length(); i++) {
                all[id][i] = byteOf[token.charAt(i)];
              }
            }
          }
        });
    return all;
  }

  /// The added tokens that have no text.
  private static Set<String> special(Map<String, Boolean> added) {
    var special = new LinkedHashSet<String>();
    added.forEach(
        (token, is) -> {
          if (is) {
            special.add(token);
          }
        });
    return special;
  }

  private static InvalidInputException unusable(Path path, String why) {
    return new InvalidInputException(
        "%s is not a usable Hugging Face tokenizer: %s; %s".formatted(path, why, WAY_OUT));
  }

  /// What is found on the way through the file.
  private static final class Reading {
    private final Path path;
    private final Map<String, Integer> vocabulary;
    private final Map<String, Boolean> added = new LinkedHashMap<>();
    private int entries; // of the vocabulary, of which two may be the same token
    private boolean hasModel;
    private boolean hasVocabulary;

    Reading(Path path, Map<String, Integer> vocabulary) {
      this.path = path;
      this.vocabulary = vocabulary;
    }

    void root(JsonParser parser) {
      if (parser.nextToken() != JsonToken.START_OBJECT) {
        throw unusable("it does not hold a JSON object");
      }
      for (String key = parser.nextName(); key != null; key = parser.nextName()) {
        JsonToken value = parser.nextToken();
        switch (key) {
          case "model" -> {
            require(value, JsonToken.START_OBJECT, key, parser);
            model(parser);
          }
          case "added_tokens" -> {
            require(value, JsonToken.START_ARRAY, key, parser);
            addedTokens(parser);
          }
          default -> parser.skipChildren();
        }
      }
      if (parser.nextToken() != null) {
        throw unusable("something follows the JSON object");
      }
    }

    private void model(JsonParser parser) {
      hasModel = true;
      for (String key = parser.nextName(); key != null; key = parser.nextName()) {
        JsonToken value = parser.nextToken();
        if (!key.equals("vocab")) {
          parser.skipChildren();
        } else if (value == JsonToken.START_OBJECT) {
          hasVocabulary = true;
          ids(parser);
        } else {
          require(value, JsonToken.START_ARRAY, "model.vocab", parser);
          hasVocabulary = true;
          scores(parser);
        }
      }
    }

    /// `{token: id, …}`, as all models but Unigram have it.
    private void ids(JsonParser parser) {
      for (String token = parser.nextName(); token != null; token = parser.nextName()) {
        if (parser.nextToken() != JsonToken.VALUE_NUMBER_INT) {
          throw unusable(
              "the id of the token %s is %s and not a whole number"
                  .formatted(quoted(token), found(parser)));
        }
        String digits = parser.getString();
        long id = digits.length() > 10 ? Long.MAX_VALUE : Long.parseLong(digits);
        if (digits.startsWith("-") || id > Integer.MAX_VALUE) {
          throw unusable(
              "the id of the token %s is %s; ids are 0 or more, and no larger than a vocabulary"
                  .formatted(quoted(token), Printable.brief(digits, SHOWN)));
        }
        vocabulary.put(token, (int) id);
        entries++;
      }
    }

    /// `[[token, score], …]`, as Unigram has it: the place is the id.
    private void scores(JsonParser parser) {
      while (parser.nextToken() != JsonToken.END_ARRAY) {
        if (parser.currentToken() != JsonToken.START_ARRAY
            || parser.nextToken() != JsonToken.VALUE_STRING) {
          throw unusable(
              "entry %d of model.vocab is %s, and not a token with its score"
                  .formatted(entries, found(parser)));
        }
        vocabulary.put(parser.getString(), entries); // of two that are alike the last counts
        if (!parser.nextToken().isNumeric() || parser.nextToken() != JsonToken.END_ARRAY) {
          throw unusable(
              "entry %d of model.vocab has %s for the score of its token"
                  .formatted(entries, found(parser)));
        }
        entries++;
      }
    }

    private void addedTokens(JsonParser parser) {
      while (parser.nextToken() != JsonToken.END_ARRAY) {
        require(parser.currentToken(), JsonToken.START_OBJECT, "an entry of added_tokens", parser);
        String content = null;
        boolean special = false;
        for (String key = parser.nextName(); key != null; key = parser.nextName()) {
          JsonToken value = parser.nextToken();
          switch (key) {
            case "content" -> {
              require(value, JsonToken.VALUE_STRING, "content in added_tokens", parser);
              content = parser.getString();
            }
            case "special" -> special = value == JsonToken.VALUE_TRUE;
            default -> parser.skipChildren();
          }
        }
        if (content == null) {
          throw unusable("an entry of added_tokens has no content");
        }
        added(content, special);
      }
    }

    private void added(String content, boolean special) {
      if (!content.isEmpty()) { // the library leaves out empty ones
        added.merge(content, special, Boolean::logicalOr);
      }
    }

    private void require(JsonToken value, JsonToken wanted, String name, JsonParser parser) {
      if (value != wanted) {
        throw unusable("%s is %s".formatted(name, found(parser)));
      }
    }

    TokenizerFile checked(byte[] bytes) {
      if (!hasModel || !hasVocabulary) {
        throw unusable(
            hasModel ? "its model has no vocab" : "it has no model (a tokenizer.json has)");
      }
      numberAdded();
      if (vocabulary.isEmpty()) {
        throw unusable(NO_TOKENS);
      }
      return new TokenizerFile(
          path,
          bytes,
          vocabulary,
          Set.copyOf(added.keySet()),
          special(added),
          vocabularySize(vocabulary),
          null);
    }

    /// As the library numbers them, whatever ids the file gives added tokens: one that the
    /// vocabulary has keeps its id there, the others follow the vocabulary.
    private void numberAdded() {
      int highest = -1;
      for (String token : added.keySet()) {
        Integer present = vocabulary.get(token);
        int id = present != null ? present : Math.max(entries, highest + 1);
        highest = Math.max(highest, id);
        vocabulary.put(token, id);
      }
    }

    private int vocabularySize(Map<String, Integer> idOfToken) {
      var highest = Collections.max(idOfToken.entrySet(), Map.Entry.comparingByValue());
      int tokens = idOfToken.size();
      if (highest.getValue() > 2L * tokens + SPARE_IDS) {
        throw unusable(
            "the token %s has the id %d among only %d tokens, and a model has a row for every id"
                .formatted(quoted(highest.getKey()), highest.getValue(), tokens));
      }
      int size = highest.getValue() + 1;
      String[] tokenOfId = new String[size];
      idOfToken.forEach(
          (token, id) -> {
            if (tokenOfId[id] != null) {
              throw unusable(
                  "the tokens %s and %s have the same id %d"
                      .formatted(quoted(tokenOfId[id]), quoted(token), id));
            }
            tokenOfId[id] = token;
          });
      return size;
    }

    private InvalidInputException unusable(String why) {
      return TokenizerFile.unusable(path, why);
    }

    /// The value that the parser stands at, in words.
    private static String found(JsonParser parser) {
      return switch (parser.currentToken()) {
        case START_OBJECT, END_OBJECT, PROPERTY_NAME -> "an object";
        case START_ARRAY, END_ARRAY -> "a list";
        case VALUE_STRING -> quoted(parser.getString());
        case VALUE_NULL -> "null";
        case null -> "nothing";
        default -> Printable.brief(parser.getString(), SHOWN);
      };
    }
  }

  static String quoted(String token) {
    return "'" + Printable.brief(token, SHOWN) + "'";
  }

  // ---------------------------------------------------------------- the library's complaints

  /// The types of each part that the library has; a sequence lists parts under the name beside it.
  private static final Map<String, Set<String>> TYPES =
      Map.of(
          "model",
          Set.of("BPE", "Unigram", "WordLevel", "WordPiece"),
          "normalizer",
          Set.of(
              "BertNormalizer",
              "ByteLevel",
              "Lowercase",
              "NFC",
              "NFD",
              "NFKC",
              "NFKD",
              "Nmt",
              "Precompiled",
              "Prepend",
              "Replace",
              "Sequence",
              "Strip",
              "StripAccents"),
          "pre_tokenizer",
          Set.of(
              "BertPreTokenizer",
              "ByteLevel",
              "CharDelimiterSplit",
              "Digits",
              "FixedLength",
              "Metaspace",
              "Punctuation",
              "Sequence",
              "Split",
              "UnicodeScripts",
              "Whitespace",
              "WhitespaceSplit"),
          "post_processor",
          Set.of(
              "BertProcessing", "ByteLevel", "RobertaProcessing", "Sequence", "TemplateProcessing"),
          "decoder",
          Set.of(
              "BPEDecoder",
              "ByteFallback",
              "ByteLevel",
              "CTC",
              "Fuse",
              "Metaspace",
              "Replace",
              "Sequence",
              "Strip",
              "WordPiece"));

  private static final Map<String, String> PARTS =
      Map.of(
          "Model", "model",
          "Normalizer", "normalizer",
          "PreTokenizer", "pre_tokenizer",
          "PostProcessor", "post_processor",
          "Decoder", "decoder");

  private static final Pattern NO_VARIANT =
      Pattern.compile("untagged enum (\\w+?)(?:Wrapper|Untagged)");

  /// What the library has against this file, in the file's words where they can be found.
  InvalidInputException refused(String complaint) {
    JsonNode root = JsonFile.read(path, bytes, WAY_OUT);
    for (String part : new TreeSet<>(TYPES.keySet())) {
      String unknown = unknownType(part, root.path(part));
      if (unknown != null) {
        return unusable(
            path,
            "its %s has the type %s; known are %s"
                .formatted(part, unknown, String.join(", ", new TreeSet<>(known(part)))));
      }
    }
    var matcher = NO_VARIANT.matcher(complaint);
    String part = matcher.find() ? PARTS.get(matcher.group(1)) : null;
    if (part == null) {
      return unusable(path, "the tokenizers library says '%s'".formatted(complaint));
    }
    return unusable(
        path,
        "a key of its %s is missing, or its value is of the wrong kind: %s"
            .formatted(part, Printable.brief(root.path(part), 4 * SHOWN)));
  }

  private static Set<String> known(String part) {
    return Objects.requireNonNull(TYPES.get(part));
  }

  private static @Nullable String unknownType(String part, JsonNode node) {
    JsonNode type = node.path("type");
    if (type.isMissingNode()) {
      return null;
    }
    if (!type.isString() || !known(part).contains(type.asString())) {
      return quoted(type.isString() ? type.asString() : type.toString());
    }
    for (JsonNode member : node) {
      if (type.asString().equals("Sequence") && member.isArray()) {
        for (JsonNode inner : member) {
          String unknown = unknownType(part, inner);
          if (unknown != null) {
            return unknown;
          }
        }
      }
    }
    return null;
  }
}
