package dev.sluice.decoder;

import dev.sluice.InvalidInputException;

/// The mixture of experts that a model has in place of one feed-forward layer; each expert is as
/// wide as [FeedForwardConfig#intermediateSize] says.
///
/// @param count how many experts a layer has; 0 for a dense model
/// @param perToken how many of them a token goes through
/// @param sharedWidth the width of the expert that all tokens go through besides, 0 for none
/// @param balance weight of the load-balancing loss in training
/// @param routerZ weight of the router's z-loss in training
public record Experts(int count, int perToken, int sharedWidth, double balance, double routerZ) {
  /// A dense model.
  public static final Experts NONE = new Experts(0, 0, 0, 0, 0);

  public Experts {
    if (count < 0 || perToken < 0 || perToken > count || (count > 0 && perToken == 0)) {
      throw new InvalidInputException(
          "a token cannot go through %d of %d experts; let it go through at least one and at most all"
              .formatted(perToken, count));
    }
    requireWeight("expert_balance", balance);
    requireWeight("router_z", routerZ);
  }

  /// Without one that all tokens go through.
  public Experts(int count, int perToken, double balance, double routerZ) {
    this(count, perToken, 0, balance, routerZ);
  }

  private static void requireWeight(String name, double weight) {
    if (!(weight >= 0) || !Double.isFinite(weight)) {
      throw new InvalidInputException(name + " must be 0 or a positive number, not " + weight);
    }
  }

  /// Weights that the paper does not print; those of `transformers`' qwen3_moe and of ST-MoE (arXiv
  /// 2202.08906).
  public static Experts of(int count, int perToken) {
    return new Experts(count, perToken, 0, 1e-3, 1e-3);
  }
}
