package dev.sluice.decoder;

import dev.sluice.tensor.FusedBenchmark;
import dev.sluice.tensor.Precision;
import dev.sluice.tensor.Tensor;
import java.util.List;
import org.openjdk.jmh.annotations.Param;

/// The feed-forward's activation and the product that takes it.
public class SwiGluBenchmark extends FusedBenchmark {
  @Param private Precision precision;

  private Tensor gate;
  private Tensor up;
  private Tensor weight;

  @Override
  protected void prepare() {
    gate = tensors.input(precision.elementType(), shape.batch, shape.tokens, shape.feedForward);
    up = tensors.input(precision.elementType(), gate.shape());
    weight = tensors.weight(shape.hidden, shape.feedForward);
  }

  private SwiGlu activation() {
    return new SwiGlu(gate, up);
  }

  @Override
  protected List<Tensor> composed() {
    return List.of(activation().composed().linear(weight.to(precision.elementType())));
  }

  @Override
  protected List<Tensor> fused() {
    return List.of(precision.linear(activation(), weight));
  }
}
