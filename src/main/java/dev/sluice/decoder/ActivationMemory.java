package dev.sluice.decoder;

import dev.sluice.attention.AttentionConfig;
import dev.sluice.deltanet.GatedDeltaNetConfig;
import dev.sluice.gate.Gate;
import dev.sluice.gate.GateInput;
import dev.sluice.tensor.ElementType;

/// What a training step on the CPU keeps for its backward pass, operation by operation. Weights,
/// their gradients and optimizer state, and what an operation holds only while it runs, are not
/// counted. Attention's weights are never kept, so that a window changes nothing here; gates other
/// than the plain sigmoid, and variations besides gates, keep somewhat more.
public final class ActivationMemory {
  private ActivationMemory() {}

  /// Bytes for one token.
  ///
  /// @param type of what goes into matrix products
  /// @param recompute of blocks: what goes into each, and all of the one whose turn it is
  public static double bytesPerToken(DecoderConfig config, ElementType type, Recompute recompute) {
    double head = (4 + 2.0 * type.bytes()) * config.hiddenSize();
    var layers = config.layers();
    var ofLayers = layers.stream().mapToDouble(layer -> ofLayer(layer, type));
    double input = (4.0 + type.bytes()) * config.hiddenSize(); // the stream and what is added
    return head
        + switch (recompute) {
          case NONE -> ofLayers.sum();
          case BLOCKS -> input * layers.size() + ofLayers.max().orElse(0);
        };
  }

  private static double ofLayer(LayerConfig layer, ElementType type) {
    double e = type.bytes();
    double hidden = layer.mixer().hiddenSize();
    double norms = 2 * (4 * hidden + e * hidden); // the stream in float32, the normed input
    double mixer =
        switch (layer.mixer()) {
          case MixerConfig.SoftmaxAttention(var attention) -> ofAttention(attention, e);
          case MixerConfig.DeltaNet(var net) -> ofDeltaNet(net, e);
        };
    return norms + mixer + ofFeedForward(layer.feedForward(), e);
  }

  private static double ofFeedForward(FeedForwardConfig config, double e) {
    double hidden = config.hiddenSize();
    var experts = config.experts();
    double inner = kept(config.glu(), config.biases(), e) * config.intermediateSize();
    if (experts.count() == 0) {
      return inner;
    }
    var shared = experts.shared();
    double ofShared = kept(shared.glu(), false, e) * shared.width();
    double gatedShared = shared.gated() ? 4 * hidden : 0;
    return experts.perToken() * (inner + 2 * e * hidden)
        + 8.0 * experts.count()
        + ofShared
        + gatedShared;
  }

  /// Bytes for each number of a unit's width: the two products, what a composed unit makes of them,
  /// and its result in the type that the last product takes.
  private static double kept(Glu glu, boolean biases, double e) {
    double number = biases ? 4 : e; // biases are added in float32
    return switch (glu) {
      case Glu.Swish() -> biases ? 3 * number + e : 2 * e;
      case Glu.ClampedFactors _ -> 5 * number + e;
      case Glu.ClampedInputs _ -> 6 * number + e;
    };
  }

  private static double ofAttention(AttentionConfig attention, double e) {
    double queries = (double) attention.attentionHeads() * attention.headDim();
    double keys = (double) attention.keyValueHeads() * attention.headDim();
    boolean rotates = attention.qkNorm() || attention.positions().rotary().isPresent();
    double rotated = (rotates ? 2 : 1) * e * (queries + keys); // before and after
    double attended =
        e * (keys + queries) + 4.0 * attention.attentionHeads(); // values, result, LSE
    double gates = 0;
    for (Gate gate : attention.gates()) {
      boolean ofToken = !(gate.input() instanceof GateInput.None);
      double result = gate.isPartOfAttention() ? 0 : gated(attention, gate);
      gates += e * ((ofToken ? attention.logits(gate) : 0) + result);
    }
    return rotated + attended + gates;
  }

  /// Channels before and after the convolution; decays and rates; results, their gate's logits and
  /// what the norm gives; a state for 64 tokens.
  private static double ofDeltaNet(GatedDeltaNetConfig net, double e) {
    var heads = net.heads();
    double results = (double) heads.valueHeads() * heads.valueWidth();
    double states = 4.0 * results * heads.keyWidth() / 64;
    return 2 * e * heads.channels() + 8.0 * heads.valueHeads() + 3 * e * results + states;
  }

  /// Numbers of the gated result, which is kept beside what was gated.
  private static double gated(AttentionConfig config, Gate gate) {
    return switch (gate.position()) {
      case QUERY, SDPA_OUTPUT -> (double) config.attentionHeads() * config.headDim();
      case KEY, VALUE -> (double) config.keyValueHeads() * config.headDim();
      case DENSE_OUTPUT -> config.hiddenSize();
    };
  }
}
