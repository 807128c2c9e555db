package dev.sluice.tensor;

import dev.sluice.kernel.AdamWStep;
import java.util.List;

/// Operations of libtorch over many tensors at once: a device is told of them in a few calls, not
/// in a few for each tensor.
public final class ManyTensors {
  private static final NamedOperation NORMS = new NamedOperation("_foreach_norm", "Scalar");
  private static final NamedOperation ADAMW = NamedOperation.of("_fused_adamw_");

  private ManyTensors() {}

  /// The Euclidean norm of all as one vector, which stays on their device.
  public static Tensor norm(List<Tensor> tensors) {
    var norms = NORMS.call(tensors, 2.0, null).stream().map(norm -> norm.reshape(1)).toList();
    return Tensor.concatenate(norms, 0).norm();
  }

  /// A step of AdamW.
  ///
  /// @param weights moved in place
  /// @param gradients scaled in place
  /// @param firstMoments moved in place
  /// @param secondMoments moved in place
  public static void adamW(
      List<Tensor> weights,
      List<Tensor> gradients,
      List<Tensor> firstMoments,
      List<Tensor> secondMoments,
      AdamWStep step) {
    var like = weights.getFirst();
    var number = Tensor.uninitialized(like, ElementType.FLOAT32, 1).fill(step.step());
    var divisor = Tensor.uninitialized(like, ElementType.FLOAT32, 1).fill(1 / step.gradientScale());
    ADAMW.call(
        weights,
        gradients,
        firstMoments,
        secondMoments,
        List.of(),
        weights.stream().map(_ -> number).toList(),
        step.learningRate(),
        step.beta1(),
        step.beta2(),
        step.weightDecay(),
        step.epsilon(),
        false,
        false,
        step.gradientScale() == 1 ? null : divisor,
        null);
    weights.forEach(Tensor::changed); // libtorch does not count what it does to lists
  }
}
