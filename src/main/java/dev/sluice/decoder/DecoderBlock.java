package dev.sluice.decoder;

import dev.sluice.attention.Attention;
import dev.sluice.attention.KeyValueCache;
import dev.sluice.attention.RotaryEmbedding.Rotation;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Precision;
import dev.sluice.tensor.Tensor;
import org.jspecify.annotations.Nullable;

/// x ← x + Attention(norm(x)); x ← x + FeedForward(norm(x)).
final class DecoderBlock {
  private final double epsilon;
  private final Tensor attentionNorm;
  private final Attention attention;
  private final Tensor feedForwardNorm;
  private final FeedForward feedForward;

  DecoderBlock(DecoderConfig config, Precision precision, int layer, Parameters parameters) {
    String prefix = "model.layers." + layer + ".";
    this.epsilon = config.rmsNormEps();
    this.attentionNorm = parameters.get(prefix + "input_layernorm.weight");
    this.attention =
        new Attention(config.attention(), precision, layer, parameters, prefix + "self_attn.");
    this.feedForwardNorm = parameters.get(prefix + "post_attention_layernorm.weight");
    this.feedForward = new FeedForward(precision, parameters, prefix + "mlp.");
  }

  Tensor forward(Tensor xBTD, Rotation rotation, @Nullable KeyValueCache past, Probe probe) {
    var attendedBTD =
        xBTD.plus(attention.forward(xBTD.rmsNorm(attentionNorm, epsilon), rotation, past, probe));
    return attendedBTD.plus(feedForward.forward(attendedBTD.rmsNorm(feedForwardNorm, epsilon)));
  }
}
