package dev.sluice.operations;

import dev.sluice.tensor.FusedBenchmark;
import dev.sluice.tensor.Tensor;
import java.util.List;
import org.openjdk.jmh.annotations.Param;

/// The convolution of queries, keys and values of a layer of Qwen3-Next.
public class ShortConvolutionBenchmark extends FusedBenchmark {
  @Param private Precision precision;

  private Tensor x;
  private Tensor weight;

  @Override
  protected void prepare() {
    long channels = 2L * shape.hidden;
    x = tensors.input(precision.elementType(), shape.batch, shape.tokens, channels);
    weight = tensors.weight(channels, 4);
  }

  @Override
  protected List<Tensor> composed() {
    return List.of(ShortConvolution.composed(x, weight, null, null));
  }

  @Override
  protected List<Tensor> fused() {
    return List.of(ShortConvolution.apply(x, weight, null, null));
  }
}
