package dev.sluice.decoder;

import dev.sluice.attention.AttentionConfig;
import dev.sluice.tensor.ParameterSpec;
import java.util.LinkedHashMap;
import java.util.Map;

/// The shape of a block's second sublayer: SwiGLU, or a mixture of experts that are each one.
///
/// @param hiddenSize D
/// @param intermediateSize the width inside, that of each expert where there are experts
/// @param experts the mixture, [Experts#NONE] for a dense layer
public record FeedForwardConfig(int hiddenSize, int intermediateSize, Experts experts) {
  public FeedForwardConfig {
    DecoderConfig.requirePositive("intermediate_size", intermediateSize);
    AttentionConfig.requireWidth("intermediate_size " + intermediateSize, intermediateSize);
  }

  /// How many SwiGLU layers there are.
  int parts() {
    return Math.max(1, experts.count());
  }

  /// How many of them a token goes through.
  int partsPerToken() {
    return Math.max(1, experts.perToken());
  }

  /// What is there besides the experts' own, by names without prefix, in order.
  Map<String, ParameterSpec> shared() {
    var parameters = new LinkedHashMap<String, ParameterSpec>();
    if (experts.count() > 0) {
      parameters.put("gate.weight", ParameterSpec.drawn(experts.count(), hiddenSize));
    }
    if (experts.sharedWidth() > 0) {
      swiGlu(experts.sharedWidth())
          .forEach((name, spec) -> parameters.put("shared_expert." + name, spec));
      parameters.put("shared_expert_gate.weight", ParameterSpec.drawn(1, hiddenSize));
    }
    return parameters;
  }

  /// Names without prefix of one SwiGLU.
  private Map<String, ParameterSpec> swiGlu(int width) {
    var parameters = new LinkedHashMap<String, ParameterSpec>();
    parameters.put("gate_proj.weight", ParameterSpec.drawn(width, hiddenSize));
    parameters.put("up_proj.weight", ParameterSpec.drawn(width, hiddenSize));
    parameters.put("down_proj.weight", ParameterSpec.drawn(hiddenSize, width));
    return parameters;
  }

  /// All parameters by their names without prefix, in order.
  Map<String, ParameterSpec> parameters() {
    var parameters = new LinkedHashMap<>(shared());
    for (int part = 0; part < parts(); part++) {
      String prefix = experts.count() == 0 ? "" : "experts." + part + ".";
      swiGlu(intermediateSize).forEach((name, spec) -> parameters.put(prefix + name, spec));
    }
    return parameters;
  }

  /// Elements of one SwiGLU, below 2⁵⁰.
  long elementsOfPart() {
    return 3L * hiddenSize * intermediateSize;
  }
}
