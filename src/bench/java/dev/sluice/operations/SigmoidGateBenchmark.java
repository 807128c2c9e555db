package dev.sluice.operations;

import dev.sluice.gate.Granularity;
import dev.sluice.tensor.FusedBenchmark;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.TrainingShape;
import java.util.List;
import org.openjdk.jmh.annotations.Param;

/// The gate on attention's output.
public class SigmoidGateBenchmark extends FusedBenchmark {
  @Param private Precision precision;

  @Param private Granularity granularity;

  private Tensor y;
  private Tensor logits;

  @Override
  protected void prepare() {
    var type = precision.elementType();
    y = tensors.input(type, shape.batch, shape.tokens, shape.heads, TrainingShape.HEAD_SIZE);
    logits =
        switch (granularity) {
          case HEADWISE -> tensors.input(type, shape.batch, shape.tokens, shape.heads);
          case ELEMENTWISE -> tensors.input(type, y.shape());
        };
  }

  @Override
  protected List<Tensor> composed() {
    return List.of(SigmoidGate.composed(y, logits));
  }

  @Override
  protected List<Tensor> fused() {
    return List.of(SigmoidGate.apply(y, logits));
  }
}
