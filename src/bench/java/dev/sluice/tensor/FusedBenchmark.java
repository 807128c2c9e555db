package dev.sluice.tensor;

import java.util.List;
import java.util.function.Supplier;
import org.bytedeco.pytorch.BoolOptional;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;
import org.openjdk.jmh.annotations.Benchmark;

/// A fused operation against its definition, which libtorch computes and differentiates.
///
/// `Forward` is the pass without gradients, as in evaluation; `ForwardBackward` records it and adds
/// the gradients of all inputs and weights.
public abstract class FusedBenchmark extends TimedBenchmark {
  /// ∂L/∂y of each result.
  private List<Tensor> upstreams;

  /// The definition's results.
  protected abstract List<Tensor> composed();

  /// The fused operation's results.
  protected abstract List<Tensor> fused();

  @Override
  public void setUp() {
    super.setUp();
    try (var _ = Scope.withoutGradient()) {
      upstreams =
          composed().stream()
              .map(
                  result ->
                      result.elements() == 1 // a loss
                          ? tensors.own(Tensor.of(new float[] {1}, 1))
                          : tensors.constant(result.type(), result.shape()))
              .toList();
      requireSame(composed(), fused());
    }
  }

  /// Only times of the same work can be compared.
  protected static void requireSame(List<Tensor> expected, List<Tensor> actual) {
    for (int i = 0; i < expected.size(); i++) {
      var e = expected.get(i);
      var a = actual.get(i);
      double off = e.minus(a).norm().item() / e.norm().item();
      if (e.type() != a.type() || !(off < 0.02)) { // far above bfloat16's rounding
        throw new IllegalStateException(
            "the definition gives " + e + ", the fused operation " + a + ", " + off + " off");
      }
    }
  }

  protected static void forward(Supplier<List<Tensor>> operation) {
    try (var _ = Scope.withoutGradient()) {
      var _ = operation.get();
    }
  }

  protected void forwardBackward(Supplier<List<Tensor>> operation) {
    try (var _ = Scope.open()) {
      backward(operation.get());
    }
    tensors.clearGradients();
  }

  private void backward(List<Tensor> results) {
    var raws = new TensorVector();
    var upstream = new TensorVector();
    for (int i = 0; i < results.size(); i++) {
      var result = results.get(i);
      raws.push_back(result.raw());
      upstream.push_back(upstreams.get(i).reshape(result.shape()).raw());
    }
    try {
      differentiate(
          () -> torch.backward(raws, upstream, new BoolOptional(), false, new TensorVector()));
    } finally {
      FusedOp.releaseFinished();
    }
  }

  /// Runs libtorch's engine.
  protected void differentiate(Runnable engine) {
    engine.run();
  }

  /// For what libtorch splits among its threads and multiplies matrices in each, see [BlasThreads].
  protected static void withOneBlasThread(Runnable engine) {
    var _ =
        BlasThreads.withOne(
            () -> {
              engine.run();
              return true;
            });
  }

  @Benchmark
  public void composedForward() {
    forward(this::composed);
  }

  @Benchmark
  public void fusedForward() {
    forward(this::fused);
  }

  @Benchmark
  public void composedForwardBackward() {
    forwardBackward(this::composed);
  }

  @Benchmark
  public void fusedForwardBackward() {
    forwardBackward(this::fused);
  }
}
