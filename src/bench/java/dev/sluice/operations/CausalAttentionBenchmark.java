package dev.sluice.operations;

import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.FusedBenchmark;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.TrainingShape;
import java.util.List;
import org.jspecify.annotations.Nullable;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Param;

/// Causal attention of whole sequences against its definition and against libtorch's own fused
/// operation, both of which work in float32.
public class CausalAttentionBenchmark extends FusedBenchmark {
  @Param private Precision precision;

  /// None, or a gate on the output: one score per head or per element.
  @Param({"none", "headwise", "elementwise"})
  private String gate;

  private Tensor queries;
  private Tensor keys;
  private Tensor values;
  private @Nullable Tensor logits;

  @Override
  protected void prepare() {
    queries = heads(shape.heads);
    keys = heads(shape.keyValueHeads);
    values = heads(shape.keyValueHeads);
    logits =
        switch (gate) {
          case "headwise" ->
              tensors.input(precision.elementType(), shape.batch, shape.tokens, shape.heads);
          case "elementwise" -> heads(shape.heads);
          default -> null;
        };
  }

  private Tensor heads(int heads) {
    return tensors.input(
        precision.elementType(), shape.batch, shape.tokens, heads, TrainingShape.HEAD_SIZE);
  }

  @Override
  protected List<Tensor> composed() {
    var y = ComposedAttention.watched(queries, keys, values, null, 0, null, (_, _) -> {});
    var gated = logits == null ? y : SigmoidGate.apply(y, logits);
    return List.of(gated.to(precision.elementType()));
  }

  @Override
  protected List<Tensor> fused() {
    return List.of(Operations.FUSED.attention(queries, keys, values, null, logits, 0, null));
  }

  private List<Tensor> libtorch() {
    var y =
        wide(queries)
            .scaledDotProductAttention(wide(keys), wide(values), true)
            .transpose(1, 2)
            .to(precision.elementType());
    return List.of(logits == null ? y : SigmoidGate.composed(y, logits));
  }

  private static Tensor wide(Tensor heads) {
    return heads.to(ElementType.FLOAT32).transpose(1, 2);
  }

  /// In a model nothing can be set around attention's backward pass alone; here the baselines get
  /// their best.
  @Override
  protected void differentiate(Runnable engine) {
    withOneBlasThread(engine);
  }

  @Benchmark
  public void libtorchForward() {
    forward(this::libtorch);
  }

  @Benchmark
  public void libtorchForwardBackward() {
    forwardBackward(this::libtorch);
  }
}
