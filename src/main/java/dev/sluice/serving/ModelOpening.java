package dev.sluice.serving;

import dev.sluice.InvalidInputException;
import dev.sluice.checkpoint.Conversion;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.decoder.Decoder;
import dev.sluice.generation.Generator;
import dev.sluice.operations.Precision;
import dev.sluice.provenance.RunManifest;
import dev.sluice.tensor.ElementType;
import java.nio.file.Path;
import java.util.ArrayList;
import org.jspecify.annotations.Nullable;

/// How a [TextModel] is opened; what is not said stays as usual.
public final class ModelOpening {
  /// Of the machine's memory, for the texts that are written and for what was read each.
  private static final int SHARE = 4;

  /// Tokens of prompts that are read before those who write get their next token.
  private static final int PIECE = 256;

  private static final long SEED = 1;

  private final Path checkpoint;
  private Precision precision = Precision.FLOAT32;
  private @Nullable String weights;
  private ElementType keyValueType = ElementType.FLOAT32;
  private @Nullable String tokenizer;
  private @Nullable Path template;
  private @Nullable Integer context;
  private int slots = 8;
  private int waiting = 64;
  private int usualTokens = 2048;
  private long textBytes = RunManifest.Machine.current().memoryBytes() / SHARE;
  private long cacheBytes = textBytes;

  ModelOpening(Path checkpoint) {
    this.checkpoint = checkpoint;
  }

  /// Of matrix products; usually float32.
  public ModelOpening precision(Precision other) {
    precision = other;
    return this;
  }

  /// Rounds matrices as they are read, to `q8_0`, `q6_k`, `q4_k`, `q4_0`, `bf16` or `f16`; usually
  /// they stay as the file has them.
  public ModelOpening weights(String format) {
    weights = format;
    return this;
  }

  /// In which type keys and values are kept, float32 or bfloat16; usually float32.
  public ModelOpening keysAndValues(ElementType type) {
    keyValueType = type;
    return this;
  }

  /// The path of a `tokenizer.json`, or `bytes`, in the place of the model's own.
  public ModelOpening tokenizer(String given) {
    tokenizer = given;
    return this;
  }

  /// A file in the place of the model's own chat templates.
  public ModelOpening chatTemplate(Path file) {
    template = file;
    return this;
  }

  /// The most tokens of a text with its prompt; usually the model's context.
  public ModelOpening context(int tokens) {
    context = tokens;
    return this;
  }

  /// The most texts that are written at a time, and the most requests that wait for that; usually 8
  /// and 64.
  public ModelOpening slots(int texts, int requests) {
    slots = texts;
    waiting = requests;
    return this;
  }

  /// The most tokens of a text where nobody says; usually 2048.
  public ModelOpening usualTokens(int tokens) {
    usualTokens = tokens;
    return this;
  }

  /// The most memory for what the model keeps of the texts that are written, and for what was read
  /// of prompts, so that others that begin alike are not read again; usually a quarter of the
  /// machine's each.
  ///
  /// @param cache 0 keeps nothing
  public ModelOpening memory(long texts, long cache) {
    textBytes = texts;
    cacheBytes = cache;
    return this;
  }

  /// Opens the model, and starts what writes with it.
  ///
  /// @throws InvalidInputException if it cannot be opened so, with the reason
  public TextModel open() {
    if (cacheBytes < 0 || usualTokens < 1) {
      throw new InvalidInputException(
          "the cache must have at least 0 bytes and a text 1 token, not %d and %d"
              .formatted(cacheBytes, usualTokens));
    }
    var notes = new ArrayList<String>();
    var files = ModelFiles.at(checkpoint, notes::add);
    var own = files.tokenizer(tokenizer, null);
    var stopIds = files.stopIds(own);
    var templates = files.chatTemplates(template);
    var suggested =
        templates == null ? SuggestedSampling.GREEDY : SuggestedSampling.ofChat(files.checkpoint());
    notes.addAll(suggested.notes());
    var known =
        files.served(
            files.name(),
            "sluice",
            own,
            templates,
            files.windowRule(),
            stopIds,
            suggested.choice(SEED));
    if (stopIds.isEmpty()) {
      notes.add("No file says which token ends a text, so only a number of tokens does.");
    }
    var opened =
        ModelDirectory.openInPlace(
            files.checkpoint(), precision, weights, false, Conversion.Listener.NOBODY);
    var decoder = opened.decoder();
    try {
      notes.addAll(opened.notes());
      decoder.keepKeysAndValuesIn(keyValueType);
      return new TextModel(decoder, known, limits(decoder), cacheBytes, usualTokens, notes);
    } catch (RuntimeException | Error e) {
      decoder.close();
      throw e;
    }
  }

  private EngineLimits limits(Decoder decoder) {
    int most = new Generator(decoder).room(0);
    if (context != null && (context < 2 || context > most)) {
      throw new InvalidInputException(
          "the context must be from 2 to the model's %d, not %d".formatted(most, context));
    }
    return new EngineLimits(slots, context != null ? context : most, textBytes, waiting, PIECE);
  }
}
