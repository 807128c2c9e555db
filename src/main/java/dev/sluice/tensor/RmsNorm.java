package dev.sluice.tensor;

/// RMSNorm: `y = x · (mean(x²) + ε)^(−1/2) · f`, with a factor f for each element.
///
/// @param epsilon ε
/// @param centred whether a weight w stands for the factor 1 + w, as in Qwen3-Next, so that weight
///   decay draws factors to one; else for itself
public record RmsNorm(double epsilon, boolean centred) {
  /// Weights are the factors.
  public RmsNorm(double epsilon) {
    this(epsilon, false);
  }

  /// A weight of so many elements, whose factors begin at one.
  public ParameterSpec weight(long width) {
    return ParameterSpec.constant(centred ? 0 : 1, width);
  }

  /// The factors that a weight stands for; the weight itself where it is them.
  public Tensor factors(Tensor weight) {
    return centred ? weight.plus(1) : weight;
  }
}
