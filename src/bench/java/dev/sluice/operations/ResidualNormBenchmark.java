package dev.sluice.operations;

import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.FusedBenchmark;
import dev.sluice.tensor.RmsNorm;
import dev.sluice.tensor.Tensor;
import java.util.List;
import org.openjdk.jmh.annotations.Param;

/// The step from one sublayer to the next.
public class ResidualNormBenchmark extends FusedBenchmark {
  private static final RmsNorm NORM = new RmsNorm(1e-6);

  @Param private Precision precision;

  private Tensor x;
  private Tensor added;
  private Tensor weight;

  @Override
  protected void prepare() {
    x = tensors.input(ElementType.FLOAT32, shape.batch, shape.tokens, shape.hidden);
    added = tensors.input(precision.elementType(), x.shape());
    weight = tensors.weight(shape.hidden);
  }

  @Override
  protected List<Tensor> composed() {
    return both(ResidualNorm.composed(x, added, weight, NORM, precision.elementType()));
  }

  @Override
  protected List<Tensor> fused() {
    return both(ResidualNorm.apply(x, added, weight, NORM, precision.elementType()));
  }

  private static List<Tensor> both(ResidualNorm result) {
    return List.of(result.sumBTD(), result.normedBTD());
  }
}
