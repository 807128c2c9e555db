package dev.sluice.serving;

import dev.sluice.InvalidInputException;
import dev.sluice.chat.ChatFormat;
import dev.sluice.generation.Choice;
import dev.sluice.schema.JsonSchema;
import dev.sluice.schema.TokenMask;
import dev.sluice.schema.Vocabulary;
import dev.sluice.tokenizer.Tokenizer;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;

/// What whoever writes with a model knows of it beside its weights: how text becomes tokens and
/// tokens text, what ends a text, which tokens may come in JSON. Threads may share it.
public final class ServedModel {
  /// Schemas whose sets of tokens are kept, some megabytes each.
  private static final int KEPT = 8;

  /// Of a schema, in characters.
  private static final int LONGEST_SCHEMA = 100_000;

  private static final int NO_TOKEN = -1;

  private static final char REPLACEMENT = '\uFFFD';
  private static final byte[][] NO_BYTES = {};

  private final String name;
  private final String version;
  private final Tokenizer tokenizer;
  private final @Nullable ChatFormat format;
  private final Function<String, int[]> encoding;
  private final Set<Integer> stopIds;
  private final Set<Integer> turnEnds;
  private final Choice suggested;
  private final FilesInPlace files;
  private final Map<Integer, String> controls = new HashMap<>();
  private final Map<Integer, String> texts = new ConcurrentHashMap<>(); // as many as tokens
  private @Nullable Vocabulary vocabulary;
  private byte @Nullable [][] bytes;
  private boolean hasBytes = true;

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
  /// @param files that it is read from as it runs
  public ServedModel(
      String name,
      String version,
      Tokenizer tokenizer,
      @Nullable ChatFormat format,
      Function<String, int[]> encoding,
      Set<Integer> stopIds,
      Set<Integer> turnEnds,
      Choice suggested,
      FilesInPlace files) {
    this.name = name;
    this.version = version;
    this.tokenizer = tokenizer;
    this.format = format;
    this.encoding = encoding;
    this.stopIds = Set.copyOf(stopIds);
    this.turnEnds = Set.copyOf(turnEnds);
    this.suggested = suggested;
    this.files = files;
    tokenizer.controlTokens().forEach((text, id) -> controls.put(id, text));
  }

  private int single(String text) {
    int[] ids = tokenizer.encode(text);
    return ids.length == 1 ? ids[0] : NO_TOKEN;
  }

  /// By which clients know it.
  public String name() {
    return name;
  }

  /// Of what runs it.
  public String version() {
    return version;
  }

  /// The model's.
  public Tokenizer tokenizer() {
    return tokenizer;
  }

  /// How conversations become tokens.
  ///
  /// @throws InvalidInputException if the model has no chat template
  public ChatFormat format() {
    if (format == null) {
      throw new InvalidInputException(
          "the model has no chat template, so it cannot answer messages; have it continue a text");
    }
    return format;
  }

  /// Refuses to go on where the model is not the one any more that was opened.
  ///
  /// @throws RefusedException if a file of weights was written over
  public void requireUnchanged() {
    files.requireUnchanged();
  }

  /// Refuses tools that the model would not hear of.
  public void requireTools() {
    if (!templatesMention("tools")) {
      throw new InvalidInputException(
          "the model's chat template knows no tools, so it would not hear of them");
    }
  }

  /// Whether the model writes arguments of tools as text between tags, which follows no schema.
  public boolean callsHaveTags() {
    return templatesMention(ToolCallReader.FUNCTION);
  }

  /// The token that begins a call of a tool.
  ///
  /// @throws InvalidInputException if it takes several
  int callMark() {
    int mark = single(ToolCallReader.BEGIN);
    if (mark == NO_TOKEN) {
      throw new InvalidInputException(
          "JSON cannot be asked for together with tools, since %s is not one of the model's tokens; leave one of them out"
              .formatted(ToolCallReader.BEGIN));
    }
    return mark;
  }

  /// Whether some chat template names a variable, so that giving it may change something.
  public boolean templatesMention(String text) {
    return format != null && format.templates().mention(text);
  }

  /// The tokens of a plain text that is to be continued.
  public int[] encode(String text) {
    return encoding.apply(text);
  }

  /// Tokens that end a plain text.
  public Set<Integer> stopIds() {
    return stopIds;
  }

  /// Tokens that end an answer.
  public Set<Integer> turnEnds() {
    return turnEnds;
  }

  /// How tokens are chosen where nobody says.
  public Choice suggested() {
    return suggested;
  }

  /// What spells a control token out; null for any other token.
  public @Nullable String control(int token) {
    return controls.get(token);
  }

  /// The text of a token alone, which may be a part of a character; what spells it out where it is
  /// a control token.
  public String text(int token) {
    return texts.computeIfAbsent(
        token,
        _ -> {
          String control = controls.get(token);
          return control != null ? control : tokenizer.decode(new int[] {token});
        });
  }

  /// The bytes of one token; null where it is a part of a character and the tokenizer does not say
  /// which, as only byte-level ones do.
  public byte @Nullable [] bytes(int token) {
    byte[][] all = knownBytes();
    if (token < all.length && all[token].length > 0) {
      return all[token];
    }
    String text = text(token);
    return text.indexOf(REPLACEMENT) < 0 ? text.getBytes(StandardCharsets.UTF_8) : null;
  }

  private synchronized byte[][] knownBytes() {
    if (!hasBytes) {
      return NO_BYTES;
    }
    try {
      return bytes();
    } catch (InvalidInputException _) { // asked for once
      hasBytes = false;
      return NO_BYTES;
    }
  }

  /// The bytes of each token, by id; see [Tokenizer#tokenBytes].
  public synchronized byte[][] bytes() {
    if (bytes == null) {
      bytes = tokenizer.tokenBytes();
    }
    return bytes;
  }

  /// Which tokens may come in an answer that is a JSON value of a schema. Masks are for the
  /// engine's thread, which may use one for many texts.
  ///
  /// @param place of the schema, for messages
  /// @throws InvalidInputException if it cannot be followed
  public TokenMask mask(String place, JsonNode schema) {
    String source = schema.toString();
    if (source.length() > LONGEST_SCHEMA) {
      throw new InvalidInputException(
          "%s has more than %d characters".formatted(place, LONGEST_SCHEMA));
    }
    return mask(source, JsonSchema.of(place, schema));
  }

  /// Which tokens may come in an answer that is any JSON object.
  public TokenMask anyObjectMask() {
    return mask("", JsonSchema.anyObject());
  }

  /// @param source of the schema, by which its sets of tokens are found again
  private synchronized TokenMask mask(String source, JsonSchema schema) {
    if (vocabulary == null) {
      vocabulary = new Vocabulary(bytes(), turnEnds);
    }
    var whole = vocabulary;
    return masks.computeIfAbsent(source, _ -> new TokenMask(schema, whole));
  }
}
