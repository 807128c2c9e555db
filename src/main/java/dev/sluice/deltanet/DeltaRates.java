package dev.sluice.deltanet;

import dev.sluice.tensor.Tensor;

/// How fast each value head forgets and learns at each token. These are as few numbers as there are
/// heads, so that libtorch's operations compute them.
///
/// @param decaysBTN g = −e^A · ln(1 + e^(a + b)) ≤ 0, natural logarithms of what the state is
///   multiplied by
/// @param ratesBTN β, from 0 to 1
public record DeltaRates(Tensor decaysBTN, Tensor ratesBTN) {
  /// Both are float32 whatever the logits are, float64 of float64.
  ///
  /// @param aBTN logits of the decay
  /// @param bBTN logits of the rate, of which β is the sigmoid
  /// @param logA `[N]`, A
  /// @param bias `[N]`, b
  public static DeltaRates of(Tensor aBTN, Tensor bBTN, Tensor logA, Tensor bias) {
    var softplus = aBTN.wide().plus(bias.wide()).softplus();
    return new DeltaRates(logA.wide().exp().times(-1).times(softplus), bBTN.wide().sigmoid());
  }
}
