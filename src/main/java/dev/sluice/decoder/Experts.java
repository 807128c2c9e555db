package dev.sluice.decoder;

import dev.sluice.InvalidInputException;

/// The mixture of experts that a model has in place of one feed-forward layer; each expert is as
/// wide as [FeedForwardConfig#intermediateSize] says.
///
/// @param count how many experts a layer has; 0 for a dense layer
/// @param perToken how many of them a token goes through
/// @param router how they are chosen and weighted
/// @param shared the expert that all tokens go through besides
/// @param balance weight of the load-balancing loss in training
/// @param routerZ weight of the router's z-loss in training; 0 where scores are no softmax
public record Experts(
    int count, int perToken, Router router, SharedExpert shared, double balance, double routerZ) {
  /// A dense layer.
  public static final Experts NONE = new Experts(0, 0, 0, 0);

  public Experts {
    if (count < 0 || perToken < 0 || perToken > count || (count > 0 && perToken == 0)) {
      throw new InvalidInputException(
          "a token cannot go through %d of %d experts; let it go through at least one and at most all"
              .formatted(perToken, count));
    }
    if (count == 0 && shared.exists()) {
      throw new InvalidInputException(
          "a shared expert of width %d needs others beside it, and there are 0 experts; make the layer dense with that width"
              .formatted(shared.width()));
    }
    requireWeight("expert_balance", balance);
    requireWeight("router_z", routerZ);
    if (routerZ > 0 && router.score() == Router.Score.SIGMOID) {
      throw new InvalidInputException(
          "router_z %s asks for the z-loss, which is one of a softmax's logits, and this router's scores are sigmoids; set it to 0"
              .formatted(routerZ));
    }
  }

  /// Of a softmax router, without a shared expert.
  public Experts(int count, int perToken, double balance, double routerZ) {
    this(count, perToken, Router.SOFTMAX, SharedExpert.NONE, balance, routerZ);
  }

  private static void requireWeight(String name, double weight) {
    if (!(weight >= 0) || !Double.isFinite(weight)) {
      throw new InvalidInputException(name + " must be 0 or a positive number, not " + weight);
    }
  }

  /// Weights that the paper does not print; those of `transformers`' qwen3_moe and of ST-MoE (arXiv
  /// 2202.08906).
  public static Experts of(int count, int perToken) {
    return new Experts(count, perToken, 1e-3, 1e-3);
  }

  /// The same with another router.
  public Experts with(Router changed) {
    return new Experts(count, perToken, changed, shared, balance, routerZ);
  }

  /// The same with another shared expert.
  public Experts with(SharedExpert changed) {
    return new Experts(count, perToken, router, changed, balance, routerZ);
  }

  /// The same with other losses in training.
  public Experts withLosses(double changedBalance, double changedRouterZ) {
    return new Experts(count, perToken, router, shared, changedBalance, changedRouterZ);
  }
}
