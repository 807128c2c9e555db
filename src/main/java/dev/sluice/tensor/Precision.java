package dev.sluice.tensor;

import dev.sluice.InvalidInputException;
import java.util.Locale;

/// In which precision a model's matrix products run; this is the only place that decides. Norms,
/// softmax, gate scores, residual stream, loss, master weights and optimizer state are float32
/// always; what goes from one product straight into the next (the gated attention output, SwiGLU's
/// inner values) has this precision's element type.
public enum Precision {
  FLOAT32,
  /// Mixed precision: inputs and weights of matrix products are rounded to bfloat16, products are
  /// summed in float32.
  BFLOAT16;

  /// Reads `float32` or `bfloat16`, or their short forms.
  public static Precision parse(String text) {
    return switch (text.toLowerCase(Locale.ROOT)) {
      case "float32", "fp32" -> FLOAT32;
      case "bfloat16", "bf16" -> BFLOAT16;
      default ->
          throw new InvalidInputException(
              "unknown precision '" + text + "'; use float32 or bfloat16");
    };
  }

  /// `x Wᵀ` for a float32 weight `[out, in]`; the result has this precision's element type.
  public Tensor linear(Tensor x, Tensor weight) {
    return switch (this) {
      case FLOAT32 -> x.linear(weight);
      case BFLOAT16 -> x.to(ElementType.BFLOAT16).linear(weight.to(ElementType.BFLOAT16));
    };
  }
}
