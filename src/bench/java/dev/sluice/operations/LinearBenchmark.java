package dev.sluice.operations;

import dev.sluice.tensor.FusedBenchmark;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.TrainingShape;
import dev.sluice.tensor.Weight;
import java.util.List;
import org.openjdk.jmh.annotations.Param;

/// Attention's projections: queries, keys, values and the logits of an elementwise gate.
public class LinearBenchmark extends FusedBenchmark {
  @Param private Precision precision;

  private Tensor x;
  private List<Weight> weights;

  @Override
  protected void prepare() {
    long wide = (long) shape.heads * TrainingShape.HEAD_SIZE;
    long narrow = (long) shape.keyValueHeads * TrainingShape.HEAD_SIZE;
    x = tensors.input(precision.elementType(), shape.batch, shape.tokens, shape.hidden);
    weights =
        List.of(
            new Weight("q", tensors.weight(wide, shape.hidden)),
            new Weight("k", tensors.weight(narrow, shape.hidden)),
            new Weight("v", tensors.weight(narrow, shape.hidden)),
            new Weight("gate", tensors.weight(wide, shape.hidden)));
  }

  @Override
  protected List<Tensor> composed() {
    return Linear.composed(x, weights, precision.elementType());
  }

  @Override
  protected List<Tensor> fused() {
    return Linear.apply(x, weights, precision.elementType());
  }
}
