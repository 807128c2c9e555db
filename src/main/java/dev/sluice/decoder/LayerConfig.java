package dev.sluice.decoder;

import dev.sluice.attention.Attention;
import dev.sluice.attention.AttentionConfig;
import dev.sluice.tensor.ParameterSpec;
import java.util.LinkedHashMap;
import java.util.Map;

/// The shape of a decoder's block.
///
/// @param attention the first sublayer, which mixes tokens
/// @param feedForward the second, which takes each token by itself
/// @param residual how both stand in the residual stream
public record LayerConfig(
    AttentionConfig attention, FeedForwardConfig feedForward, ResidualVariant residual) {
  /// The block's parameters by their names without prefix, in order.
  Map<String, ParameterSpec> parameters() {
    return parameters(feedForward.parameters());
  }

  /// [#parameters] without those of the feed-forward layer's equal parts, of which there may be
  /// more than one wants to list.
  Map<String, ParameterSpec> parametersBesideParts() {
    return parameters(feedForward.shared());
  }

  private Map<String, ParameterSpec> parameters(Map<String, ParameterSpec> ofFeedForward) {
    var parameters = new LinkedHashMap<String, ParameterSpec>();
    norm(parameters, "input_layernorm.");
    Attention.parameters(attention)
        .forEach((name, spec) -> parameters.put("self_attn." + name, spec));
    if (residual.sandwichNorm()) {
      norm(parameters, "attention_output_layernorm.");
    }
    norm(parameters, "post_attention_layernorm.");
    ofFeedForward.forEach((name, spec) -> parameters.put("mlp." + name, spec));
    if (residual.sandwichNorm()) {
      norm(parameters, "mlp_output_layernorm.");
    }
    return parameters;
  }

  private void norm(Map<String, ParameterSpec> parameters, String prefix) {
    GatedNorm.parameters(attention.hiddenSize(), residual)
        .forEach((name, spec) -> parameters.put(prefix + name, spec));
  }
}
