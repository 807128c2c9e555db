package dev.sluice.operations;

import dev.sluice.attention.RopeScaling;
import dev.sluice.attention.Rotary;
import dev.sluice.attention.RotaryEmbedding;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.FusedBenchmark;
import dev.sluice.tensor.RmsNorm;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.TrainingShape;
import java.util.List;
import org.openjdk.jmh.annotations.Param;

/// Norm and rotation of the queries.
public class RotatedHeadsBenchmark extends FusedBenchmark {
  private static final RmsNorm NORM = new RmsNorm(1e-6);

  @Param private Precision precision;

  private Tensor queries;
  private Tensor weight;
  private Rotation rotation;

  @Override
  protected void prepare() {
    queries =
        tensors.input(
            precision.elementType(),
            shape.batch,
            shape.tokens,
            shape.heads,
            TrainingShape.HEAD_SIZE);
    weight = tensors.weight(TrainingShape.HEAD_SIZE);
    rotation =
        new RotaryEmbedding(new Rotary(10_000, new RopeScaling.None()), TrainingShape.HEAD_SIZE)
            .rotation(0, shape.tokens, Device.CPU);
    tensors.own(rotation.cosines());
    tensors.own(rotation.sines());
  }

  @Override
  protected List<Tensor> composed() {
    return List.of(RotatedHeads.composed(queries, weight, NORM, rotation));
  }

  @Override
  protected List<Tensor> fused() {
    return List.of(RotatedHeads.apply(queries, weight, NORM, rotation));
  }
}
