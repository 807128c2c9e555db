package dev.sluice.gate;

import dev.sluice.InvalidInputException;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Tensor;

/// The function from a gate's logit to its score.
public sealed interface Activation {
  /// σ(z) ∈ (0, 1), the paper's default.
  record Sigmoid() implements Activation {}

  /// factor · σ(z): 2σ starts at one for z = 0, σ/p is the factor 1/p (arXiv 2306.12929).
  record ScaledSigmoid(double factor) implements Activation {
    public ScaledSigmoid {
      if (!Float.isFinite((float) factor) || (float) factor == 0) {
        throw new InvalidInputException(
            "a sigmoid's factor must be a number other than zero that float32 has, not " + factor);
      }
    }
  }

  /// ½ + ½σ(z) ∈ (½, 1), the paper's deliberately non-sparse gate.
  record NonSparseSigmoid() implements Activation {}

  /// z · σ(z).
  record Silu() implements Activation {}

  /// ln(1 + eᶻ).
  record Softplus() implements Activation {}

  /// z itself.
  record Identity() implements Activation {}

  /// clip(0.1 z + 0.5, 0, 1) (arXiv 2602.23057).
  record LinearClip() implements Activation {}

  /// The scores of `logits`, element by element, in float32 where the logits have fewer bits.
  default Tensor scores(Tensor logits) {
    var z = logits.type().bytes() < 4 ? logits.to(ElementType.FLOAT32) : logits;
    return switch (this) {
      case Sigmoid() -> z.sigmoid();
      case ScaledSigmoid(double factor) -> z.sigmoid().times(factor);
      case NonSparseSigmoid() -> z.sigmoid().times(0.5).plus(0.5);
      case Silu() -> z.silu();
      case Softplus() -> z.softplus();
      case Identity() -> z;
      case LinearClip() -> z.times(0.1).plus(0.5).clamp(0, 1);
    };
  }

  /// The word for this activation in a gate's name.
  default String word() {
    return switch (this) {
      case Sigmoid() -> "sigmoid";
      case ScaledSigmoid(double factor) -> "sigmoid*" + factor;
      case NonSparseSigmoid() -> "ns-sigmoid";
      case Silu() -> "silu";
      case Softplus() -> "softplus";
      case Identity() -> "identity";
      case LinearClip() -> "linear-clip";
    };
  }
}
