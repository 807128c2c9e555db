package dev.sluice.tensor;

import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;

/// Tensors of random numbers, the same ones in every run. They outlive scopes until [#close].
public final class RandomTensors implements AutoCloseable {
  private final SplittableRandom random = new SplittableRandom(1);
  private final List<Tensor> made = new ArrayList<>();

  /// A leaf of N(0, 1) that gradients are wanted of.
  public Tensor input(ElementType type, long... shape) {
    return constant(type, shape).requireGradient(true);
  }

  /// A float32 leaf of N(0, 0.02²) that gradients are wanted of.
  public Tensor weight(long... shape) {
    return own(normal(0.02, shape)).requireGradient(true);
  }

  /// N(0, 1), of which no gradients are wanted.
  public Tensor constant(ElementType type, long... shape) {
    try (var _ = Scope.open()) {
      return own(normal(1, shape).to(type));
    }
  }

  /// Token ids.
  public Tensor ids(int vocabulary, long... shape) {
    var ids = Tensor.zeros(ElementType.INT64, shape);
    var memory = ids.memory();
    for (long i = 0; i < ids.elements(); i++) {
      memory.setAtIndex(ValueLayout.JAVA_LONG, i, random.nextInt(vocabulary));
    }
    return own(ids);
  }

  private Tensor normal(double deviation, long... shape) {
    var numbers = Tensor.zeros(ElementType.FLOAT32, shape);
    var memory = numbers.memory();
    for (long i = 0; i < numbers.elements(); i++) {
      memory.setAtIndex(ValueLayout.JAVA_FLOAT, i, (float) (random.nextGaussian() * deviation));
    }
    return numbers;
  }

  /// Takes a tensor over.
  public Tensor own(Tensor tensor) {
    made.add(tensor.retain());
    return tensor;
  }

  /// Forgets all gradients.
  public void clearGradients() {
    made.forEach(Tensor::clearGradient);
  }

  @Override
  public void close() {
    made.forEach(Tensor::close);
    made.clear();
  }
}
