package dev.sluice.operations;

import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.RmsNorm;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// [Operations] over our own kernels, on the CPU: each the `apply` of its class.
final class FusedOperations implements Operations {
  @Override
  public Tensor embedding(Weight table, Tensor idsBT) {
    return TokenEmbedding.apply(table, idsBT);
  }

  @Override
  public ResidualNorm residualNorm(
      Tensor xBTD, @Nullable Tensor yBTD, Tensor weight, RmsNorm norm, ElementType type) {
    return ResidualNorm.apply(xBTD, yBTD, weight, norm, type);
  }

  @Override
  public List<Tensor> linear(Tensor x, List<Weight> weights, ElementType type) {
    return weights.stream().allMatch(FusedOperations::isOurs)
        ? Linear.apply(x, weights, type)
        : Linear.composed(x, weights, type);
  }

  @Override
  public Tensor logits(Tensor x, Weight weight, ElementType type) {
    return isOurs(weight)
        ? Linear.apply(x, List.of(weight), type, ElementType.FLOAT32).getFirst()
        : COMPOSED.logits(x, weight, type);
  }

  private static boolean isOurs(Weight weight) {
    return weight.isStored() || weight.takesGradient();
  }

  @Override
  public NextTokenLoss nextTokenLoss(
      Tensor hidden, Weight head, Tensor targets, ElementType type, double zLoss) {
    return NextTokenLoss.apply(hidden, head, targets, type, zLoss);
  }

  @Override
  public DistilledLoss distilledLoss(
      Tensor hidden,
      Weight head,
      Tensor targets,
      DistilledLoss.Teacher teacher,
      ElementType type,
      DistilledLoss.Shares shares) {
    return DistilledLoss.apply(hidden, head, targets, teacher, type, shares);
  }

  @Override
  public Tensor sigmoidGate(Tensor yBTNH, Tensor logits) {
    return SigmoidGate.apply(yBTNH, logits);
  }

  @Override
  public Tensor rotatedHeads(
      Tensor xBTNH, @Nullable Tensor weight, RmsNorm norm, @Nullable Rotation rotation) {
    return RotatedHeads.apply(xBTNH, weight, norm, rotation);
  }

  @Override
  public Tensor attention(
      Tensor qBTNH,
      Tensor kBTMH,
      Tensor vBTMH,
      @Nullable Tensor sinksN,
      @Nullable Tensor gateLogits,
      int window,
      @Nullable DocumentStarts documents) {
    return CausalAttention.apply(qBTNH, kBTMH, vBTMH, sinksN, gateLogits, window, documents);
  }

  @Override
  public FirstTokenShare attentionWithFirstToken(
      Tensor qBTNH,
      Tensor kBTMH,
      Tensor vBTMH,
      @Nullable Tensor sinksN,
      @Nullable Tensor gateLogits,
      int window,
      @Nullable DocumentStarts documents) {
    return FirstTokenShare.apply(qBTNH, kBTMH, vBTMH, sinksN, gateLogits, window, documents);
  }

  @Override
  public Tensor cachedAttention(
      Tensor qBTNH,
      List<Tensor> kSMH,
      List<Tensor> vSMH,
      @Nullable Tensor sinksN,
      @Nullable Tensor gateLogits,
      int window) {
    return CausalAttention.applyCached(qBTNH, kSMH, vSMH, sinksN, gateLogits, window);
  }

  @Override
  public Tensor shortConvolution(
      Tensor xBTC,
      Tensor weightCW,
      @Nullable Tensor historyBHC,
      @Nullable DocumentStarts documents) {
    return ShortConvolution.apply(xBTC, weightCW, historyBHC, documents);
  }

  @Override
  public DeltaRule.Result deltaRule(
      Tensor mixedBTC,
      Tensor decaysBTN,
      Tensor ratesBTN,
      @Nullable Tensor state,
      DeltaHeads heads) {
    return DeltaRule.apply(mixedBTC, decaysBTN, ratesBTN, state, heads);
  }

  @Override
  public Tensor deltaSteps(
      Tensor mixedBTC,
      DeltaRates.Logits logits,
      List<Tensor> states,
      @Nullable List<Tensor> beforeLast,
      DeltaHeads heads) {
    var rates = logits.one();
    return DeltaRule.steps(
        mixedBTC, rates.decaysBTN(), rates.ratesBTN(), states, beforeLast, heads);
  }

  @Override
  public Tensor gatedHeadNorm(Tensor xBTNV, Tensor zBTNV, Tensor weight, double epsilon) {
    return GatedHeadNorm.apply(xBTNV, zBTNV, weight, epsilon);
  }

  @Override
  public Tensor swiGlu(Tensor x, SwiGlu.Weights weights, Precision precision) {
    return SwiGlu.apply(x, weights, precision);
  }

  @Override
  public Tensor swiGlu(Tensor x, long[] starts, List<SwiGlu.Weights> weights, Precision precision) {
    return SwiGlu.apply(x, starts, weights, precision);
  }

  @Override
  public double norm(List<Tensor> gradients) {
    return GradientNorm.apply(gradients);
  }

  @Override
  public void adamW(List<AdamWUpdate> updates) {
    AdamWUpdate.apply(updates);
  }

  @Override
  public void muon(List<MuonUpdate> updates) {
    MuonUpdate.apply(updates);
  }
}
