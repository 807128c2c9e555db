package dev.sluice.decoder;

import dev.sluice.InvalidInputException;
import dev.sluice.attention.AttentionConfig;

/// What the way of the residual stream through a block may have besides pre-norm.
///
/// @param sandwichNorm whether a sublayer's output passes an RMSNorm of its own before it is added
///   (paper section 3.3)
/// @param residualClip what a sublayer adds is clipped to ± this; 0 for no clipping (paper appendix
///   A.6)
/// @param gatedNormRank every RMSNorm's result is multiplied by `2σ(silu(y W_downᵀ) W_upᵀ)` of this
///   rank; 0 for plain norms (arXiv 2601.22966)
public record ResidualVariant(boolean sandwichNorm, double residualClip, int gatedNormRank) {
  public static final ResidualVariant PLAIN = new ResidualVariant(false, 0, 0);

  public ResidualVariant {
    if (!(residualClip >= 0) || !Float.isFinite((float) residualClip)) {
      throw new InvalidInputException(
          "residual_clip must be a positive number that float32 has, or 0 for none, not "
              + residualClip);
    }
    if (gatedNormRank < 0) {
      throw new InvalidInputException(
          "gated_norm_rank must be positive, or 0 for none, not " + gatedNormRank);
    }
    AttentionConfig.requireWidth("gated_norm_rank " + gatedNormRank, gatedNormRank);
  }
}
