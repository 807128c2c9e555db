package dev.sluice.tensor;

/// In which precision a model's matrix products run. Everything else — norms, softmax, gates,
/// residual stream, loss, master weights, optimizer state — is float32; this is the only place that
/// decides.
public enum Precision {
  FLOAT32,
  /// Mixed precision: inputs and weights of matrix products are rounded to bfloat16, products are
  /// summed in float32.
  BFLOAT16;

  /// `x Wᵀ` for a float32 weight `[out, in]`; the result has this precision's element type.
  public Tensor linear(Tensor x, Tensor weight) {
    return switch (this) {
      case FLOAT32 -> x.linear(weight);
      case BFLOAT16 -> x.to(ElementType.BFLOAT16).linear(weight.to(ElementType.BFLOAT16));
    };
  }
}
