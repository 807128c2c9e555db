package dev.sluice.gate;

import dev.sluice.probe.Probe;
import dev.sluice.tensor.Tensor;

/// A gate with its weights.
///
/// @param gate the choice on each axis
/// @param weight W_g, `[logits, D]`, or `[logits]` for an input-independent gate
public record GateProjection(Gate gate, Tensor weight) {

  /// Whether the logits are the weight's product with the layer's hidden state.
  public boolean projectsHiddenState() {
    return gate.input() instanceof GateInput.HiddenState;
  }

  /// Gates `y`.
  ///
  /// @param yBTNH what is gated, `[B, T, heads, head size]`
  /// @param projected `x Wᵀ`, `[B, T, logits]`; the weight itself where the gate has no input
  public Tensor apply(Tensor yBTNH, Tensor projected, int layer, Probe probe) {
    var logits = logits(yBTNH, projected);
    boolean watched = probe.wantsGates(layer);
    if (isPlainSigmoid() && !watched) {
      return SigmoidGate.apply(yBTNH, logits);
    }
    var scores = gate.activation().scores(logits);
    if (gate.granularity() == Granularity.HEADWISE) {
      scores = scores.reshape(logits.size(0), logits.size(1), logits.size(2), 1);
    }
    if (gate.sharing() == Sharing.HEAD_SHARED) {
      scores = scores.mean(2);
    }
    if (watched) {
      probe.gate(layer, gate.position().word(), scores);
    }
    var gated =
        switch (gate.combination()) {
          case MULTIPLICATIVE -> yBTNH.times(scores);
          case ADDITIVE -> yBTNH.plus(scores);
        };
    return gated.to(logits.type());
  }

  private boolean isPlainSigmoid() {
    return gate.activation() instanceof Activation.Sigmoid
        && gate.combination() == Combination.MULTIPLICATIVE
        && gate.sharing() == Sharing.HEAD_SPECIFIC
        && projectsHiddenState();
  }

  /// `[B, T, N, H]`, or `[B, T, N]` for a headwise gate; B = T = 1 when the gate is
  /// input-independent.
  private Tensor logits(Tensor yBTNH, Tensor projected) {
    long heads = yBTNH.size(2);
    long headSize = yBTNH.size(3);
    long batch = projectsHiddenState() ? projected.size(0) : 1;
    long tokens = projectsHiddenState() ? projected.size(1) : 1;
    return switch (gate.granularity()) {
      case HEADWISE -> projected.reshape(batch, tokens, heads);
      case ELEMENTWISE -> projected.reshape(batch, tokens, heads, headSize);
    };
  }
}
