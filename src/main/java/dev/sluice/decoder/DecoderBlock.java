package dev.sluice.decoder;

import dev.sluice.attention.Attention;
import dev.sluice.attention.KeyValueCache;
import dev.sluice.attention.RotaryEmbedding.Rotation;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Precision;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import org.jspecify.annotations.Nullable;

/// x ← x + Attention(norm(x)); x ← x + FeedForward(norm(x)).
final class DecoderBlock {
  /// The residual stream between blocks: the sum of both, which the next norm takes.
  ///
  /// @param streamBTD float32
  /// @param addedBTD the last sublayer's output, null before the first
  record Residual(Tensor streamBTD, @Nullable Tensor addedBTD) {
    void keep(Scope scope) {
      scope.keep(streamBTD);
      if (addedBTD != null) {
        scope.keep(addedBTD);
      }
    }
  }

  private final int layer;
  private final double epsilon;
  private final ElementType type;
  private final Tensor attentionNorm;
  private final Attention attention;
  private final Tensor feedForwardNorm;
  private final FeedForward feedForward;

  DecoderBlock(DecoderConfig config, Precision precision, int layer, Parameters parameters) {
    String prefix = "model.layers." + layer + ".";
    this.layer = layer;
    this.epsilon = config.rmsNormEps();
    this.type = precision.elementType();
    this.attentionNorm = parameters.get(prefix + "input_layernorm.weight");
    this.attention =
        new Attention(config.attention(), precision, layer, parameters, prefix + "self_attn.");
    this.feedForwardNorm = parameters.get(prefix + "post_attention_layernorm.weight");
    this.feedForward = new FeedForward(precision, parameters, prefix + "mlp.");
  }

  Residual forward(Residual x, Rotation rotation, @Nullable KeyValueCache past, Probe probe) {
    var before = ResidualNorm.apply(x.streamBTD, x.addedBTD, attentionNorm, epsilon, type);
    probe.residual(layer, before.sumBTD());
    var attendedBTD = attention.forward(before.normedBTD(), rotation, past, probe);
    var between = ResidualNorm.apply(before.sumBTD(), attendedBTD, feedForwardNorm, epsilon, type);
    return new Residual(between.sumBTD(), feedForward.forward(between.normedBTD()));
  }
}
