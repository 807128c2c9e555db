package dev.sluice.decoder;

import dev.sluice.InvalidInputException;
import dev.sluice.attention.AttentionConfig;

/// The expert of a mixture that all tokens go through besides those that are chosen for them.
///
/// @param width inside; 0 for none
/// @param gated whether each token's result is multiplied by a sigmoid of a product with the token
/// @param glu between its products
public record SharedExpert(int width, boolean gated, Glu glu) {
  /// There is none.
  public static final SharedExpert NONE = new SharedExpert(0, false, new Glu.Swish());

  public SharedExpert {
    if (width < 0) {
      throw new InvalidInputException(
          "shared_expert_intermediate_size must be positive, or 0 for none, not " + width);
    }
    AttentionConfig.requireWidth("shared_expert_intermediate_size " + width, width);
  }

  boolean exists() {
    return width > 0;
  }
}
