package dev.sluice.decoder;

import dev.sluice.attention.AttentionConfig;
import dev.sluice.tensor.ParameterSpec;
import dev.sluice.tensor.RmsNorm;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;

/// The shape of a decoder's block.
///
/// @param mixer the first sublayer, which mixes tokens
/// @param feedForward the second, which takes each token by itself
/// @param residual how both stand in the residual stream
public record LayerConfig(
    MixerConfig mixer, FeedForwardConfig feedForward, ResidualVariant residual) {
  /// A block of softmax attention.
  public LayerConfig(
      AttentionConfig attention, FeedForwardConfig feedForward, ResidualVariant residual) {
    this(new MixerConfig.SoftmaxAttention(attention), feedForward, residual);
  }

  /// The softmax attention; empty where the block mixes tokens otherwise.
  public Optional<AttentionConfig> attention() {
    return mixer instanceof MixerConfig.SoftmaxAttention(var attention)
        ? Optional.of(attention)
        : Optional.empty();
  }

  /// The block's parameters by their names without prefix, in order.
  ///
  /// @param norm those of the residual stream
  Map<String, ParameterSpec> parameters(RmsNorm norm) {
    return parameters(norm, feedForward.parameters());
  }

  /// [#parameters] without those of the feed-forward layer's equal parts, of which there may be
  /// more than one wants to list.
  Map<String, ParameterSpec> parametersBesideParts(RmsNorm norm) {
    return parameters(norm, feedForward.shared());
  }

  private Map<String, ParameterSpec> parameters(
      RmsNorm norm, Map<String, ParameterSpec> ofFeedForward) {
    var parameters = new LinkedHashMap<String, ParameterSpec>();
    norm(parameters, norm, "input_layernorm.");
    mixer.parameters().forEach((name, spec) -> parameters.put(mixer.prefix() + name, spec));
    if (residual.sandwichNorm()) {
      norm(parameters, norm, "attention_output_layernorm.");
    }
    norm(parameters, norm, "post_attention_layernorm.");
    ofFeedForward.forEach((name, spec) -> parameters.put("mlp." + name, spec));
    if (residual.sandwichNorm()) {
      norm(parameters, norm, "mlp_output_layernorm.");
    }
    return parameters;
  }

  private void norm(Map<String, ParameterSpec> parameters, RmsNorm norm, String prefix) {
    GatedNorm.parameters(mixer.hiddenSize(), norm, residual)
        .forEach((name, spec) -> parameters.put(prefix + name, spec));
  }
}
