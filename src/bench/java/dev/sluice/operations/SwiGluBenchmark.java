package dev.sluice.operations;

import dev.sluice.tensor.FusedBenchmark;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.util.List;
import org.openjdk.jmh.annotations.Param;

/// The whole feed-forward layer.
public class SwiGluBenchmark extends FusedBenchmark {
  @Param private Precision precision;

  private Tensor x;
  private SwiGlu.Weights weights;

  @Override
  protected void prepare() {
    x = tensors.input(precision.elementType(), shape.batch, shape.tokens, shape.hidden);
    weights =
        new SwiGlu.Weights(
            new Weight("gate", tensors.weight(shape.feedForward, shape.hidden)),
            new Weight("up", tensors.weight(shape.feedForward, shape.hidden)),
            new Weight("down", tensors.weight(shape.hidden, shape.feedForward)));
  }

  @Override
  protected List<Tensor> composed() {
    return List.of(SwiGlu.composed(x, weights, precision));
  }

  @Override
  protected List<Tensor> fused() {
    return List.of(SwiGlu.apply(x, weights, precision));
  }
}
