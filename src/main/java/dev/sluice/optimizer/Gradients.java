package dev.sluice.optimizer;

import dev.sluice.operations.Operations;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Operation;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;

/// All gradients of a model taken together.
public final class Gradients {
  private Gradients() {}

  /// The Euclidean norm of all gradients as one vector.
  public static double norm(Parameters parameters) {
    try (var _ = Scope.open()) {
      return normOf(parameters).item();
    }
  }

  /// The same as one number on their device, which is not waited for.
  public static Tensor normOf(Parameters parameters) {
    try (var scope = Scope.withoutGradient();
        var _ = Operation.begin("gradient norm", Operation.UPDATE)) {
      var gradients = new ArrayList<Tensor>();
      for (var parameter : parameters.all().values()) {
        var gradient = parameter.gradient();
        if (gradient != null) {
          gradients.add(gradient);
        }
      }
      return scope.keep(
          gradients.isEmpty()
              ? Tensor.zeros(ElementType.FLOAT64, 1)
              : Operations.of(gradients.getFirst()).norm(gradients));
    }
  }

  /// Names of the parameters whose gradient has a number that is not finite.
  public static List<String> notFinite(Parameters parameters) {
    try (var _ = Scope.withoutGradient()) {
      var names = new ArrayList<String>();
      var largest = new ArrayList<Tensor>();
      parameters
          .all()
          .forEach(
              (name, parameter) -> {
                var gradient = parameter.gradient();
                if (gradient != null) {
                  names.add(name);
                  largest.add(gradient.absolute().max());
                }
              });
      if (names.isEmpty()) {
        return List.of();
      }
      double[] sizes = Tensor.items(largest);
      return IntStream.range(0, sizes.length)
          .filter(i -> !Double.isFinite(sizes[i]))
          .mapToObj(names::get)
          .toList();
    }
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
