package dev.sluice.operations;

import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.FusedBenchmark;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.List;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Param;

/// The gated delta rule in chunks against its definition token by token, and one token of it, for
/// the heads of a layer of Qwen3-Next of that hidden size. The definition takes seconds.
public class DeltaRuleBenchmark extends FusedBenchmark {
  @Param private Precision precision;

  @Param({"64", "128"})
  private int headSize;

  private DeltaHeads heads;
  private Tensor mixed;
  private Tensor decays;
  private Tensor rates;
  private Tensor token;
  private Tensor tokenDecays;
  private Tensor tokenRates;
  private Tensor state;

  @Override
  protected void prepare() {
    int keyHeads = Math.max(1, shape.hidden / 2 / headSize);
    heads = new DeltaHeads(keyHeads, 2 * keyHeads, headSize, headSize);
    mixed = tensors.input(precision.elementType(), shape.batch, shape.tokens, heads.channels());
    decays = rate(-1, shape.tokens);
    rates = rate(1, shape.tokens);
    token = tensors.constant(precision.elementType(), shape.batch, 1, heads.channels());
    tokenDecays = tensors.own(decays.detach().narrow(1, 0, 1).contiguous());
    tokenRates = tensors.own(rates.detach().narrow(1, 0, 1).contiguous());
    state =
        tensors.constant(ElementType.FLOAT32, shape.batch, heads.valueHeads(), headSize, headSize);
  }

  /// σ of normally distributed numbers, times a factor.
  private Tensor rate(double factor, long tokens) {
    var numbers = tensors.constant(ElementType.FLOAT32, shape.batch, tokens, heads.valueHeads());
    return tensors.own(numbers.sigmoid().times(factor)).requireGradient(true);
  }

  @Override
  protected List<Tensor> composed() {
    return results(DeltaRule.composed(mixed, decays, rates, null, heads));
  }

  @Override
  protected List<Tensor> fused() {
    return results(DeltaRule.apply(mixed, decays, rates, null, heads));
  }

  private static List<Tensor> results(DeltaRule.Result result) {
    return List.of(result.yBTNV(), result.state());
  }

  @Benchmark
  public void step() {
    try (var _ = Scope.withoutGradient()) {
      var _ = DeltaRule.steps(token, tokenDecays, tokenRates, state, null, heads);
    }
  }
}
