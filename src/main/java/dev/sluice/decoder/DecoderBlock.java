package dev.sluice.decoder;

import dev.sluice.attention.Attention;
import dev.sluice.attention.KeyValueCache;
import dev.sluice.attention.RotaryEmbedding.Rotation;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Precision;
import dev.sluice.tensor.Tensor;
import org.jspecify.annotations.Nullable;

/// x ← x + Attention(norm(x)); x ← x + FeedForward(norm(x)).
final class DecoderBlock {
  private final double epsilon;
  private final ElementType type;
  private final Tensor attentionNorm;
  private final Attention attention;
  private final Tensor feedForwardNorm;
  private final FeedForward feedForward;

  DecoderBlock(DecoderConfig config, Precision precision, int layer, Parameters parameters) {
    String prefix = "model.layers." + layer + ".";
    this.epsilon = config.rmsNormEps();
    this.type = precision.elementType();
    this.attentionNorm = parameters.get(prefix + "input_layernorm.weight");
    this.attention =
        new Attention(config.attention(), precision, layer, parameters, prefix + "self_attn.");
    this.feedForwardNorm = parameters.get(prefix + "post_attention_layernorm.weight");
    this.feedForward = new FeedForward(precision, parameters, prefix + "mlp.");
  }

  Tensor forward(Tensor xBTD, Rotation rotation, @Nullable KeyValueCache past, Probe probe) {
    var before = ResidualNorm.apply(xBTD, null, attentionNorm, epsilon, type);
    var attendedBTD = attention.forward(before.normedBTD(), rotation, past, probe);
    var between = ResidualNorm.apply(before.sumBTD(), attendedBTD, feedForwardNorm, epsilon, type);
    return between.sumBTD().plus(feedForward.forward(between.normedBTD()));
  }
}
