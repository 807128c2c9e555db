package dev.sluice.decoder;

import dev.sluice.attention.AttentionConfig;
import dev.sluice.tensor.ParameterSpec;
import java.util.LinkedHashMap;
import java.util.Map;

/// The shape of a block's second sublayer: a gated linear unit between products, or a mixture of
/// experts that are each one.
///
/// @param hiddenSize D
/// @param intermediateSize the width inside, that of each expert where there are experts
/// @param glu between the products
/// @param biases whether the products have biases, those of a shared expert excepted
/// @param experts the mixture, [Experts#NONE] for a dense layer
public record FeedForwardConfig(
    int hiddenSize, int intermediateSize, Glu glu, boolean biases, Experts experts) {
  public FeedForwardConfig {
    DecoderConfig.requirePositive("intermediate_size", intermediateSize);
    AttentionConfig.requireWidth("intermediate_size " + intermediateSize, intermediateSize);
  }

  /// Of SwiGLU without biases.
  public FeedForwardConfig(int hiddenSize, int intermediateSize, Experts experts) {
    this(hiddenSize, intermediateSize, new Glu.Swish(), false, experts);
  }

  /// The same with another mixture.
  public FeedForwardConfig with(Experts changed) {
    return new FeedForwardConfig(hiddenSize, intermediateSize, glu, biases, changed);
  }

  /// The same with another width.
  public FeedForwardConfig withIntermediateSize(int changed) {
    return new FeedForwardConfig(hiddenSize, changed, glu, biases, experts);
  }

  /// How many units there are besides a shared expert.
  int parts() {
    return Math.max(1, experts.count());
  }

  /// How many of them a token goes through.
  int partsPerToken() {
    return Math.max(1, experts.perToken());
  }

  /// What is there besides the units' own, by names without prefix, in order.
  Map<String, ParameterSpec> besideParts() {
    var parameters = new LinkedHashMap<String, ParameterSpec>();
    if (experts.count() > 0) {
      parameters.put("gate.weight", ParameterSpec.drawn(experts.count(), hiddenSize));
    }
    if (experts.router().logitBias()) {
      parameters.put("gate.bias", ParameterSpec.constant(0, experts.count()));
    }
    if (experts.router().selectionBias()) {
      parameters.put(
          "gate.e_score_correction_bias", ParameterSpec.constant(0, experts.count()).untrained());
    }
    if (experts.shared().exists()) {
      unit(experts.shared().width(), false)
          .forEach((name, spec) -> parameters.put("shared_expert." + name, spec));
    }
    if (experts.shared().exists() && experts.shared().gated()) {
      parameters.put("shared_expert_gate.weight", ParameterSpec.drawn(1, hiddenSize));
    }
    return parameters;
  }

  /// One of the units, by names without prefix.
  Map<String, ParameterSpec> part() {
    return unit(intermediateSize, biases);
  }

  private Map<String, ParameterSpec> unit(int width, boolean hasBiases) {
    var parameters = new LinkedHashMap<String, ParameterSpec>();
    parameters.put("gate_proj.weight", ParameterSpec.map(width, hiddenSize));
    parameters.put("up_proj.weight", ParameterSpec.map(width, hiddenSize));
    parameters.put("down_proj.weight", ParameterSpec.map(hiddenSize, width));
    if (hasBiases) {
      parameters.put("gate_proj.bias", ParameterSpec.constant(0, width));
      parameters.put("up_proj.bias", ParameterSpec.constant(0, width));
      parameters.put("down_proj.bias", ParameterSpec.constant(0, hiddenSize));
    }
    return parameters;
  }

  /// All parameters by their names without prefix, in order.
  Map<String, ParameterSpec> parameters() {
    var parameters = new LinkedHashMap<>(besideParts());
    for (int part = 0; part < parts(); part++) {
      String prefix = experts.count() == 0 ? "" : "experts." + part + ".";
      part().forEach((name, spec) -> parameters.put(prefix + name, spec));
    }
    return parameters;
  }
}
