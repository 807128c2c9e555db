package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.MultiTokenPrediction;
import dev.sluice.generation.Generator;
import dev.sluice.operations.Precision;
import dev.sluice.tensor.Device;
import dev.sluice.tokenizer.Tokenizer;
import java.nio.file.Path;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/// How a trained model is loaded, the same for every command that takes one.
final class ModelOptions {
  /// Tokens of a prompt that go through the model together: few enough that progress shows and
  /// Ctrl-C is heard.
  static final int PIECE = 512;

  /// What the option of that name says.
  static final String WEIGHTS =
      "Round matrices as they are read: q8_0, q6_k, q4_k, q4_0, bf16 or f16; those of fewer bits"
          + " stay, and so do routers, convolutions, norms and gates of one number a head. Default:"
          + " as the file has them.";

  /// What the option of that name says.
  static final String SPECULATE =
      "mtp: the model's own head for a further token (Qwen3-Next, Qwen3.5) drafts one, and the"
          + " model reads the next two at once. The text is the same; it is written faster where"
          + " enough drafts are right. Default: no drafts.";

  private static final String MTP = "mtp";

  @Option(
      names = "--tokenizer",
      paramLabel = "FILE",
      description =
          "bytes, or the path of a Hugging Face tokenizer.json. Default: the checkpoint's, or bytes"
              + " for a vocabulary of 256.")
  private @Nullable String tokenizer;

  @Option(
      names = "--eos-token",
      paramLabel = "TEXT",
      description =
          "The token that ends documents, as the vocabulary has it; generate stops at it. Default:"
              + " what the checkpoint's files say.")
  private @Nullable String eosToken;

  @Option(
      names = "--precision",
      paramLabel = "P",
      description =
          "float32, or bfloat16 (matrix products). For generate, chat, serve, evaluate and ruler"
              + " also int8: what is multiplied with weights in blocks of few bits is rounded to 8"
              + " bits in the place of 16, as llama.cpp does; prompts and many texts at once are"
              + " read up to 1.8 times as fast. Default: ${DEFAULT-VALUE}.")
  private String precision = "float32";

  @Option(
      names = "--device",
      paramLabel = "DEVICE",
      description = "cpu, cuda, cuda:INDEX or auto. Default: ${DEFAULT-VALUE}.")
  private String device = "auto";

  @Mixin private ThreadsOption threads = new ThreadsOption();

  /// A model that is ready to run; whoever loaded it closes it.
  ///
  /// @param stopIds the tokens that end a text; none where nothing says which
  /// @param head which drafts tokens, or null
  record Loaded(
      ModelSource source,
      Decoder decoder,
      Tokenizer tokenizer,
      Set<Integer> stopIds,
      @Nullable MultiTokenPrediction head)
      implements AutoCloseable {
    Generator generator() {
      return new Generator(decoder, PIECE, head);
    }

    @Override
    public void close() {
      decoder.close();
    }
  }

  /// Loads the model of a checkpoint or run directory, its weights in float32.
  Loaded load(Path named) {
    return load(named, false, Precision.parse(precision), ModelSource::open);
  }

  /// Opens the model of a checkpoint or run directory to run it: on the CPU its weights stay where
  /// the file is mapped.
  ///
  /// @param weights the format that matrices are rounded to; null leaves them
  /// @param speculate what drafts tokens; null for nothing
  Loaded loadInPlace(Path named, @Nullable String weights, @Nullable String speculate) {
    if (speculate != null && !speculate.equals(MTP)) {
      throw new InvalidInputException(
          "--speculate %s is unknown; %s is the one there is"
              .formatted(Printable.brief(speculate, 40), MTP));
    }
    return load(
        named,
        speculate != null,
        Precision.parseRunning(precision),
        (source, precisionOf, deviceOf) -> {
          if (deviceOf.kind() == Device.Kind.CPU) {
            return ModelDirectory.openInPlace(
                source.checkpoint(),
                precisionOf,
                weights,
                speculate != null,
                new ConversionProgress());
          }
          if (speculate != null) {
            throw new InvalidInputException(
                "--speculate %s is for models on the CPU, not on %s; leave it out, or add --device cpu"
                    .formatted(speculate, deviceOf));
          }
          if (weights != null) {
            throw new InvalidInputException(
                "--weights %s is for models on the CPU, not on %s; leave it out, or add --device cpu"
                    .formatted(weights, deviceOf));
          }
          if (precisionOf == Precision.INT8) {
            throw new InvalidInputException(
                "--precision int8 is for models on the CPU, not on %s; use float32 or bfloat16, or add --device cpu"
                    .formatted(deviceOf));
          }
          return source.open(precisionOf, deviceOf);
        });
  }

  private interface Opening {
    ModelDirectory.Opened open(ModelSource source, Precision precision, Device device);
  }

  /// @param drafts whether what is opened has a head that drafts
  private Loaded load(Path named, boolean drafts, Precision precisionOf, Opening opening) {
    threads.required(1);
    var source = ModelSource.at(named);
    // Beside each other, as each takes a second or two: the tokenizer, and libtorch with the model.
    var read = CompletableFuture.supplyAsync(() -> read(source), ModelOptions::start);
    threads.apply();
    var opened = opening.open(source, precisionOf, Device.parse(device));
    Read chosen;
    try {
      chosen = read.join();
    } catch (CompletionException e) {
      opened.decoder().close();
      switch (e.getCause()) {
        case RuntimeException unchecked -> throw unchecked;
        case Error error -> throw error;
        case null, default -> throw e;
      }
    }
    source.change().ifPresent(Console::note);
    opened.notes().forEach(Console::note);
    return new Loaded(
        source,
        opened.decoder(),
        chosen.tokenizer,
        chosen.stopIds,
        drafts ? new MultiTokenPrediction(opened.decoder()) : null);
  }

  private record Read(Tokenizer tokenizer, Set<Integer> stopIds) {}

  private Read read(ModelSource source) {
    var files = source.files();
    var chosen = source.tokenizer(files, tokenizer, eosToken);
    return new Read(
        chosen,
        eosToken != null && !eosToken.isEmpty()
            ? Set.of(chosen.endOfText())
            : files.stopIds(chosen));
  }

  private static void start(Runnable reading) {
    Thread.ofPlatform().name("sluice-tokenizer").daemon().start(reading);
  }

  /// What became of drafts, to be said after the speed; nothing where there are none.
  static String drafts(@Nullable String speculate, int accepted, int drafted) {
    return speculate == null ? "" : ", %d of %d drafts accepted".formatted(accepted, drafted);
  }

  String precision() {
    return precision;
  }
}
