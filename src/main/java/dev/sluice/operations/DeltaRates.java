package dev.sluice.operations;

import dev.sluice.kernel.Threads;
import dev.sluice.tensor.Tensor;

/// How fast each value head forgets and learns at each token.
///
/// @param decaysBTN g = −e^A · ln(1 + e^(a + b)) ≤ 0, natural logarithms of what the state is
///   multiplied by
/// @param ratesBTN β, from 0 to 1
public record DeltaRates(Tensor decaysBTN, Tensor ratesBTN) {
  /// Numbers for which a thread is worth its start.
  private static final long GRAIN = 1 << 8;

  /// What they are made of.
  ///
  /// @param aBTN logits of the decay
  /// @param bBTN logits of the rate, of which β is the sigmoid
  /// @param logA `[N]`, A
  /// @param bias `[N]`, b
  public record Logits(Tensor aBTN, Tensor bBTN, Tensor logA, Tensor bias) {
    /// As libtorch's operations compute them, with gradients: these are as few numbers as there are
    /// heads. Both are float32 whatever the logits are, float64 of float64.
    public DeltaRates rates() {
      var softplus = aBTN.wide().plus(bias.wide()).softplus();
      return new DeltaRates(logA.wide().exp().times(-1).times(softplus), bBTN.wide().sigmoid());
    }

    /// The same on the CPU, float32 and without gradients, each number by [OfHeads]: libtorch
    /// computes the last ones of many numbers in another way than the first, so that a token's
    /// would depend on its company.
    DeltaRates one() {
      var heads = new OfHeads(logA, bias);
      float[] a = aBTN.floats();
      float[] b = bBTN.floats();
      int count = heads.factors.length;
      Threads.split(
          a.length,
          GRAIN,
          (from, to) -> {
            for (int i = (int) from; i < to; i++) {
              a[i] = heads.decay(i % count, a[i]);
              b[i] = OfHeads.rate(b[i]);
            }
          });
      return new DeltaRates(Tensor.of(a, aBTN.shape()), Tensor.of(b, bBTN.shape()));
    }
  }

  /// What a layer's heads have learned of their decays, in float64.
  static final class OfHeads {
    /// −e^A
    private final double[] factors;

    private final double[] bias;

    OfHeads(Tensor logA, Tensor bias) {
      this.factors = logA.doubles();
      this.bias = bias.doubles();
      for (int i = 0; i < factors.length; i++) {
        factors[i] = -StrictMath.exp(factors[i]);
      }
    }

    /// g of a head and token.
    float decay(int head, float a) {
      double x = a + bias[head];
      double softplus = Math.max(x, 0) + StrictMath.log1p(StrictMath.exp(-Math.abs(x)));
      return (float) (factors[head] * softplus);
    }

    /// β of a token.
    static float rate(float b) {
      return (float) (1 / (1 + StrictMath.exp(-b)));
    }
  }
}
