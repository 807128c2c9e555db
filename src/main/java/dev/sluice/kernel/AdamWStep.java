package dev.sluice.kernel;

/// The numbers of one AdamW step that are the same for every element of a parameter.
///
/// @param learningRate η of this step
/// @param beta1 decay of the first moment
/// @param beta2 decay of the second moment
/// @param epsilon added to the root of the second moment
/// @param weightDecay λ; θ shrinks by ηλθ (decoupled, Loshchilov and Hutter 2019)
/// @param step the step's number, from 1, for the bias corrections
/// @param gradientScale the gradient is multiplied by this first (clipping)
public record AdamWStep(
    double learningRate,
    double beta1,
    double beta2,
    double epsilon,
    double weightDecay,
    int step,
    double gradientScale) {
  /// 1 − β₁ᵗ.
  public double correction1() {
    return 1 - Math.pow(beta1, step);
  }

  /// √(1 − β₂ᵗ).
  public double rootCorrection2() {
    return Math.sqrt(1 - Math.pow(beta2, step));
  }
}
