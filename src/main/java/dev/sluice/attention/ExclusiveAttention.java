package dev.sluice.attention;

import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Tensor;

/// Exclusive self-attention (arXiv 2603.09078): a head's output without its part along the token's
/// own value, `y − (y · v̂) v̂` with v̂ = v / |v|. What a token would only give to itself is lost,
/// so that attending to itself is a way to attend to nothing.
final class ExclusiveAttention {
  /// Keeps a value of zero from dividing by zero.
  private static final double TINY = 1e-12;

  private ExclusiveAttention() {}

  /// @param yBTNH the heads' outputs
  /// @param vBTMH the tokens' own values, one for N / M heads
  static Tensor apply(Tensor yBTNH, Tensor vBTMH) {
    var y = yBTNH.to(ElementType.FLOAT32);
    var v = vBTMH.to(ElementType.FLOAT32).repeatInterleave(yBTNH.size(2) / vBTMH.size(2), 2);
    var along = y.times(v).mean(3).dividedBy(v.square().mean(3).plus(TINY)); // y · v / |v|²
    return y.minus(v.times(along)).to(yBTNH.type());
  }
}
