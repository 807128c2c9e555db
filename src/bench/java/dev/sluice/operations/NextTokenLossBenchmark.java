package dev.sluice.operations;

import dev.sluice.tensor.FusedBenchmark;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.util.List;
import org.openjdk.jmh.annotations.Param;

/// Logits of all tokens and their loss.
public class NextTokenLossBenchmark extends FusedBenchmark {
  @Param private Precision precision;

  private Tensor hidden;
  private Weight head;
  private Tensor targets;

  @Override
  protected void prepare() {
    hidden = tensors.input(precision.elementType(), shape.batch, shape.tokens, shape.hidden);
    head = new Weight("head", tensors.weight(shape.vocabulary, shape.hidden));
    targets = tensors.ids(shape.vocabulary, shape.batch, shape.tokens);
  }

  @Override
  protected List<Tensor> composed() {
    return List.of(
        NextTokenLoss.composed(hidden, head, targets, precision.elementType(), 0).total());
  }

  @Override
  protected List<Tensor> fused() {
    return List.of(NextTokenLoss.apply(hidden, head, targets, precision.elementType(), 0).total());
  }
}
