package dev.sluice.operations;

import dev.sluice.InvalidInputException;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.util.List;
import java.util.Locale;

/// In which precision a model's matrix products run; this is the only place that decides. Norms,
/// softmax, gate scores, residual stream, logits, loss, master weights and optimizer state are
/// float32 always. What goes into a product, and what comes out of one only to go into the next
/// (queries, keys, values, attention weights, feed-forward activations), is stored in this
/// precision's element type.
public enum Precision {
  FLOAT32,
  /// Mixed precision: inputs and weights of matrix products are rounded to bfloat16, products are
  /// summed in float32.
  BFLOAT16,
  /// [#FLOAT32], but for products with weights that stay in blocks of few bits
  /// ([dev.sluice.kernel.StoredMatrix]): what they are multiplied with is rounded to whole numbers
  /// of 8 bits that share a scale by 16 or 32, as llama.cpp does, where it keeps 16 bits otherwise.
  /// For models that only run, on processors with AVX-512 and dot products of bytes.
  INT8;

  /// Reads what a model runs in: `float32`, `bfloat16` or `int8`, or their short forms.
  public static Precision parseRunning(String text) {
    try {
      return text.equalsIgnoreCase("int8") ? INT8 : parse(text);
    } catch (InvalidInputException e) {
      throw new InvalidInputException(
          "unknown precision '" + text + "'; use float32, bfloat16 or int8", e);
    }
  }

  /// Reads what a model is trained in: `float32` or `bfloat16`, or their short forms.
  public static Precision parse(String text) {
    return switch (text.toLowerCase(Locale.ROOT)) {
      case "float32", "fp32" -> FLOAT32;
      case "bfloat16", "bf16" -> BFLOAT16;
      default ->
          throw new InvalidInputException(
              text.equalsIgnoreCase("int8")
                  ? "precision int8 is for models that run where their file is, in blocks of few"
                      + " bits (generate, chat, serve, evaluate, ruler); use float32 or bfloat16"
                  : "unknown precision '" + text + "'; use float32 or bfloat16");
    };
  }

  /// The element type of what matrix products take and give.
  public ElementType elementType() {
    return switch (this) {
      case FLOAT32, INT8 -> ElementType.FLOAT32;
      case BFLOAT16 -> ElementType.BFLOAT16;
    };
  }

  /// `x Wᵀ` for a weight `[out, in]`; the result has this precision's element type.
  public Tensor linear(Tensor x, Weight weight) {
    return linear(x, List.of(weight)).getFirst();
  }

  /// `x Wᵢᵀ` for several weights of the same input, whose gradient is then computed at once: one
  /// backward pass has to go through all results that are used.
  public List<Tensor> linear(Tensor x, List<Weight> weights) {
    return Operations.of(x).linear(x, weights, elementType());
  }

  /// `x Wᵀ` with the result in float32, for what is not multiplied again. On the CPU no bit is lost
  /// on the way; elsewhere the product is rounded to this precision's element type first.
  public Tensor logits(Tensor x, Weight weight) {
    return Operations.of(x).logits(x, weight, elementType());
  }
}
