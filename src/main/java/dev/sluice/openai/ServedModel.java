package dev.sluice.openai;

import dev.sluice.chat.ChatFormat;
import dev.sluice.generation.Choice;
import dev.sluice.schema.JsonSchema;
import dev.sluice.schema.TokenMask;
import dev.sluice.schema.Vocabulary;
import dev.sluice.tokenizer.Tokenizer;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.OptionalInt;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;

/// What a server knows of the model beside its weights. Threads may share it.
public final class ServedModel {
  /// Schemas whose sets of tokens are kept, some megabytes each.
  private static final int KEPT = 8;

  private static final int NO_TOKEN = -1;

  private final String name;
  private final String version;
  private final Tokenizer tokenizer;
  private final @Nullable ChatFormat format;
  private final Function<String, int[]> encoding;
  private final Set<Integer> stopIds;
  private final Set<Integer> turnEnds;
  private final Choice suggested;
  private final Map<Integer, String> controls = new HashMap<>();
  private final Map<Integer, String> texts = new ConcurrentHashMap<>(); // as many as tokens
  private final int thoughts;
  private final int thoughtsEnd;
  private @Nullable Vocabulary vocabulary;
  private byte @Nullable [][] bytes;

  private final Map<String, TokenMask> masks =
      new LinkedHashMap<>(16, 0.75f, true) {
        private static final long serialVersionUID = 1L;

        @Override
        protected boolean removeEldestEntry(Map.Entry<String, TokenMask> eldest) {
          return size() > KEPT;
        }
      };

  /// @param name by which clients know it
  /// @param version of what runs it
  /// @param format null where the model has no chat template
  /// @param encoding of a plain text that is to be continued
  /// @param stopIds tokens that end a plain text
  /// @param turnEnds tokens that end an answer
  /// @param suggested how tokens are chosen where a request says nothing
  public ServedModel(
      String name,
      String version,
      Tokenizer tokenizer,
      @Nullable ChatFormat format,
      Function<String, int[]> encoding,
      Set<Integer> stopIds,
      Set<Integer> turnEnds,
      Choice suggested) {
    this.name = name;
    this.version = version;
    this.tokenizer = tokenizer;
    this.format = format;
    this.encoding = encoding;
    this.stopIds = Set.copyOf(stopIds);
    this.turnEnds = Set.copyOf(turnEnds);
    this.suggested = suggested;
    tokenizer.controlTokens().forEach((text, id) -> controls.put(id, text));
    this.thoughts = single(ChatFormat.THOUGHTS);
    this.thoughtsEnd = single(ChatFormat.THOUGHTS_END);
  }

  private int single(String text) {
    int[] ids = tokenizer.encode(text);
    return ids.length == 1 ? ids[0] : NO_TOKEN;
  }

  String name() {
    return name;
  }

  String version() {
    return version;
  }

  Tokenizer tokenizer() {
    return tokenizer;
  }

  /// @throws ApiException if the model has none
  ChatFormat format() {
    if (format == null) {
      throw ApiException.invalid(
          "messages",
          "the model has no chat template, so it cannot answer messages; ask /v1/completions");
    }
    return format;
  }

  boolean templatesMention(String text) {
    return format != null && format.templates().mention(text);
  }

  int[] encode(String text) {
    return encoding.apply(text);
  }

  Set<Integer> stopIds() {
    return stopIds;
  }

  Set<Integer> turnEnds() {
    return turnEnds;
  }

  Choice suggested() {
    return suggested;
  }

  /// What spells a control token out; null for any other token.
  @Nullable String control(int token) {
    return controls.get(token);
  }

  /// The text of a token alone, which may be a part of a character; what spells it out where it is
  /// a control token.
  String text(int token) {
    return texts.computeIfAbsent(
        token,
        _ -> {
          String control = controls.get(token);
          return control != null ? control : tokenizer.decode(new int[] {token});
        });
  }

  /// The token that begins thoughts, where it is one.
  OptionalInt thoughts() {
    return thoughts == NO_TOKEN ? OptionalInt.empty() : OptionalInt.of(thoughts);
  }

  /// The token that ends thoughts, where it is one.
  OptionalInt thoughtsEnd() {
    return thoughtsEnd == NO_TOKEN ? OptionalInt.empty() : OptionalInt.of(thoughtsEnd);
  }

  /// The bytes of each token, by id; see [Tokenizer#tokenBytes].
  synchronized byte[][] bytes() {
    if (bytes == null) {
      bytes = tokenizer.tokenBytes();
    }
    return bytes;
  }

  /// Which tokens may come in an answer that is JSON. Masks are for the engine's thread, which may
  /// use one for many texts.
  ///
  /// @param source of the schema, by which its sets of tokens are found again
  synchronized TokenMask mask(JsonNode source, JsonSchema schema) {
    if (vocabulary == null) {
      vocabulary = new Vocabulary(bytes(), turnEnds);
    }
    var whole = vocabulary;
    return masks.computeIfAbsent(source.toString(), _ -> new TokenMask(schema, whole));
  }
}
