package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.decoder.Decoder;
import dev.sluice.tensor.ElementType;
import java.util.Locale;
import picocli.CommandLine.Option;

/// In which type the keys and values of texts are kept, for commands that write texts.
final class KeyValueCacheOption {
  @Option(
      names = "--kv-cache",
      paramLabel = "TYPE",
      description =
          "In which type keys and values are kept: float32, or bfloat16, which takes half the"
              + " memory; long texts are written up to twice as fast then. Default:"
              + " ${DEFAULT-VALUE}.")
  private String type = "float32";

  ElementType type() {
    return switch (type.toLowerCase(Locale.ROOT)) {
      case "float32", "fp32" -> ElementType.FLOAT32;
      case "bfloat16", "bf16" -> ElementType.BFLOAT16;
      default ->
          throw new InvalidInputException(
              "--kv-cache '%s' is unknown; use float32 or bfloat16"
                  .formatted(Printable.brief(type, 40)));
    };
  }

  /// Lets a model keep them so.
  void apply(Decoder decoder) {
    decoder.keepKeysAndValuesIn(type());
  }
}
