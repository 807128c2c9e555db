package dev.sluice.tensor;

import dev.sluice.operations.Precision;
import dev.sluice.tensor.MatrixProduct.Matrix;
import java.util.List;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Param;

/// The product alone, `x Wᵀ` of all tokens with the feed-forward's weight, against libtorch's
/// linear.
public class MatrixProductBenchmark extends TimedBenchmark {
  @Param private Precision precision;

  private Tensor x;
  private Tensor weight;

  @Override
  protected void prepare() {
    long rows = (long) shape.batch * shape.tokens;
    x = tensors.constant(precision.elementType(), rows, shape.hidden);
    weight = tensors.constant(precision.elementType(), shape.feedForward, shape.hidden);
    FusedBenchmark.requireSame(List.of(x.linear(weight)), List.of(multiply()));
  }

  private Tensor multiply() {
    var y = Tensor.uninitialized(x, x.type(), x.size(0), weight.size(0));
    MatrixProduct.split(Matrix.of(x), Matrix.of(weight).transposed(), Matrix.of(y), false);
    return y;
  }

  @Benchmark
  public void libtorch() {
    try (var _ = Scope.withoutGradient()) {
      var _ = x.linear(weight);
    }
  }

  @Benchmark
  public void product() {
    try (var _ = Scope.withoutGradient()) {
      var _ = multiply();
    }
  }
}
