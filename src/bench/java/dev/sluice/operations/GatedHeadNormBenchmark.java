package dev.sluice.operations;

import dev.sluice.tensor.FusedBenchmark;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.TrainingShape;
import java.util.List;
import org.openjdk.jmh.annotations.Param;

/// The gated norm of the delta rule's results.
public class GatedHeadNormBenchmark extends FusedBenchmark {
  @Param private Precision precision;

  private Tensor x;
  private Tensor logits;
  private Tensor weight;

  @Override
  protected void prepare() {
    long heads = shape.hidden / TrainingShape.HEAD_SIZE;
    x = heads(heads);
    logits = heads(heads);
    weight = tensors.weight(TrainingShape.HEAD_SIZE);
  }

  private Tensor heads(long heads) {
    return tensors.input(
        precision.elementType(), shape.batch, shape.tokens, heads, TrainingShape.HEAD_SIZE);
  }

  @Override
  protected List<Tensor> composed() {
    return List.of(GatedHeadNorm.composed(x, logits, weight, 1e-6));
  }

  @Override
  protected List<Tensor> fused() {
    return List.of(GatedHeadNorm.apply(x, logits, weight, 1e-6));
  }
}
