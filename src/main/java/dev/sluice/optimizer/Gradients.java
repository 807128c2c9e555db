package dev.sluice.optimizer;

import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;

/// All gradients of a model taken together.
public final class Gradients {
  private Gradients() {}

  /// The Euclidean norm of all gradients as one vector.
  public static double norm(Parameters parameters) {
    double sumOfSquares = 0;
    try (var _ = Scope.withoutGradient()) {
      for (var parameter : parameters.all().values()) {
        var gradient = parameter.gradient();
        if (gradient != null) {
          double norm = gradient.norm().item();
          sumOfSquares += norm * norm;
        }
      }
    }
    return Math.sqrt(sumOfSquares);
  }

  /// What to multiply gradients of that norm by so that it does not exceed `limit` (as
  /// `clip_grad_norm_` of torch).
  public static double clippingScale(double norm, double limit) {
    return Math.min(1, limit / (norm + 1e-6));
  }

  /// Forgets all gradients.
  public static void clear(Parameters parameters) {
    parameters.all().values().forEach(Tensor::clearGradient);
  }
}
