package dev.sluice.optimizer;

import dev.sluice.kernel.Kernels;
import dev.sluice.kernel.Threads;
import dev.sluice.tensor.Operation;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;

/// All gradients of a model taken together.
public final class Gradients {
  /// Bytes that are summed at a time.
  private static final long BLOCK = 1 << 18;

  private Gradients() {}

  /// The Euclidean norm of all gradients as one vector; on the CPU in one pass, whose sums have an
  /// order that the number of threads does not change.
  public static double norm(Parameters parameters) {
    try (var _ = Scope.withoutGradient();
        var _ = Operation.begin("gradient norm", Operation.UPDATE)) {
      var blocks = new ArrayList<MemorySegment>();
      double sum = 0;
      for (var parameter : parameters.all().values()) {
        var gradient = parameter.gradient();
        if (gradient == null) {
          continue;
        }
        if (!gradient.isOnCpu()) {
          double norm = gradient.norm().item();
          sum += norm * norm;
          continue;
        }
        var memory = gradient.contiguous().memory();
        for (long at = 0; at < memory.byteSize(); at += BLOCK) {
          blocks.add(memory.asSlice(at, Math.min(BLOCK, memory.byteSize() - at)));
        }
      }
      double[] sums = new double[blocks.size()];
      Threads.split(
          sums.length,
          1,
          (from, to) -> {
            for (int i = (int) from; i < to; i++) {
              var block = blocks.get(i);
              sums[i] = Kernels.FASTEST.squareSum(block, 0, block.byteSize() / Float.BYTES);
            }
          });
      for (double part : sums) {
        sum += part;
      }
      return Math.sqrt(sum);
    }
  }

  /// Names of the parameters whose gradient has a number that is not finite.
  public static List<String> notFinite(Parameters parameters) {
    try (var _ = Scope.withoutGradient()) {
      var names = new ArrayList<String>();
      parameters
          .all()
          .forEach(
              (name, parameter) -> {
                var gradient = parameter.gradient();
                if (gradient != null && !Double.isFinite(gradient.absolute().max().item())) {
                  names.add(name);
                }
              });
      return List.copyOf(names);
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
