package dev.sluice.operations;

import dev.sluice.tensor.ManyTensors;
import dev.sluice.tensor.Tensor;
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
