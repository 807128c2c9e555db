package dev.sluice.gate;

import dev.sluice.operations.Operations;
import dev.sluice.operations.Precision;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.ParameterSpec;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;
import org.jspecify.annotations.Nullable;

/// A gate with its weights. Legend: D hidden size, M key/value heads, H head size.
///
/// @param gate the choice on each axis
/// @param weight W_g, of the shape that the gate's input asks for, see [GateInput]
/// @param down `[rank, D]`, of a low-rank gate
/// @param bias `[logits]`, of a gate that starts with one
public record GateProjection(
    Gate gate, Weight weight, @Nullable Weight down, @Nullable Tensor bias) {
  /// The gate's weights by their names within the gate.
  ///
  /// @param logits how many logits a token has
  /// @param hiddenSize D
  /// @param valueSize M · H
  /// @param headDim H
  public static Map<String, ParameterSpec> parameters(
      Gate gate, int logits, int hiddenSize, int valueSize, int headDim) {
    var parameters = new LinkedHashMap<String, ParameterSpec>();
    if (gate.input() instanceof GateInput.LowRank(int rank)) {
      parameters.put("down.weight", ParameterSpec.map(rank, hiddenSize));
    }
    long[] shape =
        switch (gate.input()) {
          case GateInput.HiddenState() -> new long[] {logits, hiddenSize};
          case GateInput.None() -> new long[] {logits};
          case GateInput.TruncatedHiddenState(int dimensions) -> new long[] {logits, dimensions};
          case GateInput.LowRank(int rank) -> new long[] {logits, rank};
          case GateInput.Value() -> new long[] {logits, valueSize};
          case GateInput.HeadOutput() -> new long[] {logits, headDim};
        };
    boolean zero =
        !(gate.init() instanceof GateInit.Normal)
            || gate.input() instanceof GateInput.None; // the paper's control starts at zero
    var weight = zero ? ParameterSpec.constant(0, shape) : ParameterSpec.drawn(shape);
    boolean mapsFeatures = gate.granularity() == Granularity.ELEMENTWISE && shape.length == 2;
    long rows = gate.input() instanceof GateInput.HeadOutput ? headDim : logits; // a head's own
    parameters.put("weight", mapsFeatures ? weight.asMapsOf(rows) : weight);
    if (gate.init() instanceof GateInit.Bias(double bias)) {
      parameters.put("bias", ParameterSpec.constant(bias, logits));
    }
    return parameters;
  }

  /// The weight that the layer's hidden state is multiplied with, along with the layer's others.
  public Optional<Weight> ofHiddenState() {
    return switch (gate.input()) {
      case GateInput.HiddenState() -> Optional.of(weight);
      case GateInput.LowRank _ -> Optional.ofNullable(down);
      case GateInput.None(),
          GateInput.TruncatedHiddenState _,
          GateInput.Value(),
          GateInput.HeadOutput() ->
          Optional.empty();
    };
  }

  /// The logits `[B, T, logits]`; where they do not depend on the token, or only on what is gated,
  /// W_g itself.
  ///
  /// @param xBTD the layer's hidden state
  /// @param vBTMH the value states
  /// @param products of [#ofHiddenState], the next of which is this gate's, if it has one
  public Tensor logits(Tensor xBTD, Tensor vBTMH, Iterator<Tensor> products, Precision precision) {
    return switch (gate.input()) {
      case GateInput.HiddenState() -> products.next();
      case GateInput.LowRank _ -> precision.linear(products.next(), weight);
      case GateInput.TruncatedHiddenState(int dimensions) ->
          precision.linear(xBTD.narrow(2, 0, dimensions), weight);
      case GateInput.Value() -> {
        var v = vBTMH.detach();
        yield precision.linear(v.reshape(v.size(0), v.size(1), v.size(2) * v.size(3)), weight);
      }
      case GateInput.None(), GateInput.HeadOutput() -> weight.leaf();
    };
  }

  /// Whether the z of y ⊙ σ(z) is the product of one weight with the hidden state and nothing else,
  /// and the gate a part of attention, see [Gate#isPartOfAttention].
  public boolean isOneProduct() {
    return gate.isPartOfAttention()
        && gate.input() instanceof GateInput.HiddenState
        && bias == null;
  }

  /// The z of y ⊙ σ(z) for attention to gate on its way, `[B, T, N, H]` or `[B, T, N]`; null where
  /// it cannot, see [Gate#isPartOfAttention], or somebody watches or forces the scores.
  ///
  /// @param logits as [#logits] gives them
  public @Nullable Tensor sigmoidLogits(Tensor logits, int heads, int layer, Probe probe) {
    if (!gate.isPartOfAttention() || isProbed(layer, probe)) {
      return null;
    }
    var z = z(logits, heads);
    tellScores(z, layer, probe);
    return z;
  }

  /// Gates `y`. The result has the element type that the logits have, or y's where they are
  /// computed from y or attention takes the result.
  ///
  /// @param yBTNH what is gated, `[B, T, heads, head size]`
  /// @param logits as [#logits] gives them
  public Tensor apply(Tensor yBTNH, Tensor logits, int layer, Probe probe) {
    boolean ofOutput = gate.input() instanceof GateInput.HeadOutput;
    var type = ofOutput || entersAttention() ? yBTNH.type() : logits.type();
    var z = z(ofOutput ? ofOutput(yBTNH, logits) : logits, yBTNH.size(2));
    if (gate.isPlainSigmoid() && !isProbed(layer, probe)) {
      tellScores(z, layer, probe);
      return Operations.of(yBTNH).sigmoidGate(yBTNH, z).to(type);
    }
    var scores = scores(z);
    var forced = probe.forcedScore(layer, gate.position().word());
    if (forced.isPresent()) {
      scores =
          Tensor.uninitialized(scores, ElementType.FLOAT32, scores.shape())
              .fill(forced.getAsDouble());
    }
    double neutral = probe.neutralShare();
    if (neutral > 0) {
      scores = scores.times(1 - neutral).plus(neutral * gate.combination().neutralScore());
    }
    if (probe.wantsGates(layer) || probe.wantsGateScores(layer)) {
      probe.gate(layer, gate.position().word(), scores);
    }
    var gated =
        switch (gate.combination()) {
          case MULTIPLICATIVE -> yBTNH.times(scores);
          case ADDITIVE -> yBTNH.plus(scores);
        };
    return gated.to(type);
  }

  /// Computes the scores for who wants them and nothing else.
  private void tellScores(Tensor z, int layer, Probe probe) {
    if (probe.wantsGateScores(layer)) {
      probe.gate(layer, gate.position().word(), scores(z));
    }
  }

  /// Whether attention takes what is gated, all of it in one element type; logits that are no
  /// product have their own.
  private boolean entersAttention() {
    return switch (gate.position()) {
      case QUERY, KEY, VALUE -> true;
      case SDPA_OUTPUT, DENSE_OUTPUT -> false;
    };
  }

  /// `[B, T, N, H]`, with sizes of 1 where scores are shared or do not depend on something.
  private Tensor scores(Tensor z) {
    var scores = gate.activation().scores(z);
    if (gate.granularity() == Granularity.HEADWISE) {
      scores = scores.reshape(z.size(0), z.size(1), z.size(2), 1);
    }
    return gate.sharing() == Sharing.HEAD_SHARED ? scores.mean(2) : scores;
  }

  /// Whether somebody watches, forces or changes the scores.
  private boolean isProbed(int layer, Probe probe) {
    return probe.wantsGates(layer)
        || probe.neutralShare() > 0
        || probe.forcedScore(layer, gate.position().word()).isPresent();
  }

  /// Each head's output times its own rows of the weight, `[B, T, logits]`.
  private static Tensor ofOutput(Tensor yBTNH, Tensor weight) {
    long heads = yBTNH.size(2);
    long headSize = yBTNH.size(3);
    var wide = yBTNH.type().bytes() < 4 ? yBTNH.to(ElementType.FLOAT32) : yBTNH;
    var weightNHL = weight.reshape(heads, weight.size(0) / heads, headSize).transpose(1, 2);
    var zBTNL = wide.transpose(1, 2).matmul(weightNHL).transpose(1, 2);
    return zBTNL.reshape(yBTNH.size(0), yBTNH.size(1), weight.size(0));
  }

  /// `[B, T, logits]` as `[B, T, N, H]`, or `[B, T, N]` for a headwise gate, with the bias.
  private Tensor z(Tensor logits, long heads) {
    var z = byHead(logits, heads);
    return bias == null ? z : z.plus(byHead(bias, heads));
  }

  /// `[B, T, logits]` by head; `[logits]` likewise with B = T = 1.
  private Tensor byHead(Tensor logits, long heads) {
    boolean perToken = logits.shape().length == 3;
    long batch = perToken ? logits.size(0) : 1;
    long tokens = perToken ? logits.size(1) : 1;
    long last = logits.size(logits.shape().length - 1);
    return switch (gate.granularity()) {
      case HEADWISE -> logits.reshape(batch, tokens, heads);
      case ELEMENTWISE -> logits.reshape(batch, tokens, heads, last / heads);
    };
  }
}
