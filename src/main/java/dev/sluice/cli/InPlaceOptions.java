package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.tensor.ElementType;
import java.util.Locale;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Option;

/// What a model that only runs may round, the same for every command that runs one where its file
/// is.
final class InPlaceOptions {
  @Option(
      names = "--weights",
      paramLabel = "FORMAT",
      description =
          "Round matrices as they are read: q8_0, q6_k, q4_k, q4_0, bf16 or f16; those of fewer"
              + " bits stay, and so do routers, convolutions, norms and gates of one number a head."
              + " Default: as the file has them.")
  private @Nullable String weights;

  @Option(
      names = "--kv-cache",
      paramLabel = "TYPE",
      description =
          "In which type keys and values are kept: float32, or bfloat16, which takes half the"
              + " memory and lets long texts be written up to twice as fast. Default:"
              + " ${DEFAULT-VALUE}.")
  private String keyValueCache = "float32";

  /// The format that matrices are rounded to; null leaves them.
  @Nullable String weights() {
    return weights;
  }

  /// In which type keys and values are kept.
  ElementType keyValueType() {
    return switch (keyValueCache.toLowerCase(Locale.ROOT)) {
      case "float32", "fp32", "f32" -> ElementType.FLOAT32;
      case "bfloat16", "bf16" -> ElementType.BFLOAT16;
      default ->
          throw new InvalidInputException(
              "--kv-cache %s is unknown; use float32 or bfloat16"
                  .formatted(Printable.brief(keyValueCache, 40)));
    };
  }

  /// All that is here, for what is kept under a name that says what made it.
  String describe() {
    return weights + (keyValueType() == ElementType.FLOAT32 ? "" : " " + keyValueType());
  }
}
