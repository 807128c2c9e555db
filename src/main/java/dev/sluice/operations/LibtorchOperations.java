package dev.sluice.operations;

import dev.sluice.tensor.ManyTensors;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// [Operations] of a device: the definitions, but where libtorch has one operation for all of it
/// that holds less memory or takes fewer calls. It runs on the CPU too, where tests compare it.
class LibtorchOperations extends ComposedOperations {
  @Override
  public Tensor attention(
      Tensor qBTNH,
      Tensor kBTMH,
      Tensor vBTMH,
      @Nullable Tensor sinksN,
      @Nullable Tensor gateLogits,
      int window,
      @Nullable DocumentStarts documents) {
    var yBTNH = LibtorchAttention.apply(qBTNH, kBTMH, vBTMH, sinksN, window, documents);
    return gateLogits == null ? yBTNH : sigmoidGate(yBTNH, gateLogits);
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
      rows.add(LibtorchAttention.apply(query, kSMH.get(row), vSMH.get(row), sinksN, window, null));
    }
    var yBTNH = rows.size() == 1 ? rows.getFirst() : Tensor.concatenate(rows, 0);
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
    var both = FirstTokenShare.fromLogSumExp(qBTNH, kBTMH, vBTMH, sinksN, window, documents);
    return gateLogits == null
        ? both
        : new FirstTokenShare(sigmoidGate(both.yBTNH(), gateLogits), both.shareBTN());
  }

  @Override
  public Tensor norm(List<Tensor> gradients) {
    return ManyTensors.norm(gradients);
  }

  @Override
  public void adamW(List<AdamWUpdate> updates) {
    AdamWUpdate.together(updates);
  }
}
