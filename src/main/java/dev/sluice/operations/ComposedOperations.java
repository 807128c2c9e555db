package dev.sluice.operations;

import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.RmsNorm;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// [Operations] made of libtorch's, on any device: each the definition, `composed`, of its class.
class ComposedOperations implements Operations {
  @Override
  public Tensor embedding(Weight table, Tensor idsBT) {
    return TokenEmbedding.composed(table, idsBT);
  }

  @Override
  public ResidualNorm residualNorm(
      Tensor xBTD, @Nullable Tensor yBTD, Tensor weight, RmsNorm norm, ElementType type) {
    return ResidualNorm.composed(xBTD, yBTD, weight, norm, type);
  }

  @Override
  public List<Tensor> linear(Tensor x, List<Weight> weights, ElementType type) {
    return Linear.composed(x, weights, type);
  }

  @Override
  public Tensor logits(Tensor x, Weight weight, ElementType type) {
    return Linear.composed(x, List.of(weight), type).getFirst().to(ElementType.FLOAT32);
  }

  @Override
  public NextTokenLoss nextTokenLoss(
      Tensor hidden, Weight head, Tensor targets, ElementType type, double zLoss) {
    return NextTokenLoss.composed(hidden, head, targets, type, zLoss);
  }

  @Override
  public DistilledLoss distilledLoss(
      Tensor hidden,
      Weight head,
      Tensor targets,
      DistilledLoss.Teacher teacher,
      ElementType type,
      DistilledLoss.Shares shares) {
    return DistilledLoss.composed(hidden, head, targets, teacher, type, shares);
  }

  @Override
  public Tensor sigmoidGate(Tensor yBTNH, Tensor logits) {
    return SigmoidGate.composed(yBTNH, logits);
  }

  @Override
  public Tensor rotatedHeads(
      Tensor xBTNH, @Nullable Tensor weight, RmsNorm norm, @Nullable Rotation rotation) {
    return RotatedHeads.composed(xBTNH, weight, norm, rotation);
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
    var yBTNH = ComposedAttention.apply(qBTNH, kBTMH, vBTMH, sinksN, window, documents);
    return gateLogits == null ? yBTNH : sigmoidGate(yBTNH, gateLogits);
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
    return FirstTokenShare.composed(qBTNH, kBTMH, vBTMH, sinksN, gateLogits, window, documents);
  }

  @Override
  public Tensor cachedAttention(
      Tensor qBTNH,
      List<Tensor> kSMH,
      List<Tensor> vSMH,
      @Nullable Tensor sinksN,
      @Nullable Tensor gateLogits,
      int window) {
    var rows = new ArrayList<Tensor>();
    for (int row = 0; row < kSMH.size(); row++) {
      var query = qBTNH.size(0) == 1 ? qBTNH : qBTNH.narrow(0, row, 1);
      rows.add(attention(query, kSMH.get(row), vSMH.get(row), sinksN, null, window, null));
    }
    var yBTNH = rows.size() == 1 ? rows.getFirst() : Tensor.concatenate(rows, 0);
    return gateLogits == null ? yBTNH : sigmoidGate(yBTNH, gateLogits);
  }

  @Override
  public Tensor shortConvolution(
      Tensor xBTC,
      Tensor weightCW,
      @Nullable Tensor historyBHC,
      @Nullable DocumentStarts documents) {
    return ShortConvolution.composed(xBTC, weightCW, historyBHC, documents);
  }

  @Override
  public DeltaRule.Result deltaRule(
      Tensor mixedBTC,
      Tensor decaysBTN,
      Tensor ratesBTN,
      @Nullable Tensor state,
      DeltaHeads heads) {
    return DeltaRule.composed(mixedBTC, decaysBTN, ratesBTN, state, heads);
  }

  @Override
  public Tensor deltaSteps(
      Tensor mixedBTC,
      DeltaRates.Logits logits,
      List<Tensor> states,
      @Nullable List<Tensor> beforeLast,
      DeltaHeads heads) {
    var rates = logits.rates();
    return DeltaRule.composedSteps(
        this, mixedBTC, rates.decaysBTN(), rates.ratesBTN(), states, beforeLast, heads);
  }

  @Override
  public Tensor gatedHeadNorm(Tensor xBTNV, Tensor zBTNV, Tensor weight, double epsilon) {
    return GatedHeadNorm.composed(xBTNV, zBTNV, weight, epsilon);
  }

  @Override
  public Tensor swiGlu(Tensor x, SwiGlu.Weights weights, Precision precision) {
    return SwiGlu.composed(x, weights, precision);
  }

  @Override
  public Tensor swiGlu(Tensor x, long[] starts, List<SwiGlu.Weights> weights, Precision precision) {
    return SwiGlu.composed(x, starts, weights, precision);
  }

  @Override
  public Tensor norm(List<Tensor> gradients) {
    return GradientNorm.composed(gradients);
  }

  @Override
  public void adamW(List<AdamWUpdate> updates) {
    updates.forEach(AdamWUpdate::composed);
  }

  @Override
  public void muon(List<MuonUpdate> updates) {
    updates.forEach(MuonUpdate::composed);
  }
}
