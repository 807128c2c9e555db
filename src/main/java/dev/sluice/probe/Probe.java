package dev.sluice.probe;

import dev.sluice.tensor.Tensor;
import java.util.OptionalDouble;
import org.jspecify.annotations.Nullable;

/// Watches a forward pass, and may force its gates or take keys from it. What is not asked for is
/// not computed; [#NONE] costs nothing.
///
/// The tensors belong to the pass and are freed after the call: take numbers out of them, or retain
/// them. Layers count from 0. Legend: B batch, T queries, R queries of a block, S keys, N query
/// heads, H head size, D hidden size, K and V the widths of a key and a value.
public interface Probe {
  Probe NONE = new Probe() {};

  /// Whether [#attention] is to be called for this layer; the layer then computes its weights
  /// explicitly, for a block of queries at a time.
  default boolean wantsAttention(int layer) {
    return false;
  }

  /// Attention weights after the softmax of the queries from `firstQuery` on, `[B, N, R, S]`. The
  /// blocks of a pass come in order; the last ends with the last query.
  default void attention(int layer, int firstQuery, Tensor weightsBNRS) {}

  /// Whether [#firstTokenShare] is to be called for this layer. After other tokens the pass has the
  /// bits that it has when nobody watches.
  default boolean wantsFirstTokenShare(int layer) {
    return false;
  }

  /// The share of its attention that each query gives to the first token of its row or document,
  /// `[B, T, N]`, float32, with gradients where they are recorded.
  default void firstTokenShare(int layer, Tensor shareBTN) {}

  /// Whether the pass is to go as if the model had no gates.
  default boolean passesOverGates() {
    return false;
  }

  /// The share f of a score that does nothing which is mixed into every score: `f · neutral + (1 −
  /// f) · score`, where neutral is 1 for a gate that multiplies and 0 for one that adds. 0 leaves
  /// scores as they are.
  default double neutralShare() {
    return 0;
  }

  /// Whether [#productInput] is to be asked; products that a layer computes in one operation are
  /// then computed one by one.
  default boolean changesProductInputs() {
    return false;
  }

  /// What a layer's matrix products take in place of their input `x`, `[…, features]`: of
  /// attention's and Gated DeltaNet's projections, of experts and of feed-forward layers. Routers
  /// and the output matrix are not asked about.
  default Tensor productInput(Tensor x) {
    return x;
  }

  /// Whether [#gate] and [#sdpaOutput] are to be called for this layer. What attention and its gate
  /// compute in one operation is then computed one by one.
  default boolean wantsGates(int layer) {
    return false;
  }

  /// Whether [#gate] is to be called for this layer beside the pass, which goes as it goes when
  /// nobody watches and has the same bits.
  default boolean wantsGateScores(int layer) {
    return false;
  }

  /// The scores of the gate at the position of that name (`sdpa`, `value`, …): `[B, T, N, H]`, or
  /// `[B, T, N, 1]` for one score per head; sizes of 1 where scores are shared.
  default void gate(int layer, String position, Tensor scores) {}

  /// A score that takes the place of all scores of the gate at the position of that name; empty to
  /// leave them.
  default OptionalDouble forcedScore(int layer, String position) {
    return OptionalDouble.empty();
  }

  /// The keys that attention is left with, in all layers; null for all. Only for whole sequences
  /// that are one document each.
  default @Nullable KeptKeys keptKeys() {
    return null;
  }

  /// The output of scaled dot-product attention before and after its gate, both `[B, T, N, H]`.
  default void sdpaOutput(int layer, Tensor beforeBTNH, Tensor afterBTNH) {}

  /// Whether [#recurrence] is to be called for this layer.
  default boolean wantsRecurrence(int layer) {
    return false;
  }

  /// How a linear attention's heads forget and learn at each token of the pass, and what they hold
  /// after the last.
  ///
  /// @param decaysBTN natural logarithms of what the state is multiplied by
  /// @param ratesBTN β, from 0 to 1
  /// @param stateBNKV keys down, values across
  default void recurrence(int layer, Tensor decaysBTN, Tensor ratesBTN, Tensor stateBNKV) {}

  /// The residual stream `[B, T, D]`: index 0 after the embedding, i after block i − 1, and last +
  /// 1 after the final norm.
  default void residual(int index, Tensor xBTD) {}
}
