package dev.sluice.decoder;

import dev.sluice.attention.Attention;
import dev.sluice.deltanet.GatedDeltaNet;
import dev.sluice.kernel.Floats;
import dev.sluice.operations.DocumentStarts;
import dev.sluice.operations.Precision;
import dev.sluice.operations.Rotation;
import dev.sluice.operations.TokenSteps;
import dev.sluice.probe.Probe;
import dev.sluice.state.Past;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.RmsNorm;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;

/// x ← x + Mixer(norm(x)); x ← x + FeedForward(norm(x)); what is added is normed or clipped first
/// where the model says so.
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
  private final double clip;
  private final GatedNorm attentionNorm;
  private final Mixer mixer;
  private final @Nullable GatedNorm attentionOutputNorm;
  private final GatedNorm feedForwardNorm;
  private final FeedForward feedForward;
  private final @Nullable GatedNorm feedForwardOutputNorm;

  /// @param norm those of the residual stream
  DecoderBlock(
      LayerConfig config, RmsNorm norm, Precision precision, int layer, Parameters parameters) {
    String prefix = "model.layers." + layer + ".";
    boolean sandwich = config.residual().sandwichNorm();
    Function<String, GatedNorm> named =
        name -> new GatedNorm(norm, precision, parameters, prefix + name);
    this.layer = layer;
    this.clip = config.residual().residualClip();
    this.attentionNorm = named.apply("input_layernorm.");
    this.mixer = mixer(config.mixer(), precision, layer, parameters, prefix);
    this.attentionOutputNorm = sandwich ? named.apply("attention_output_layernorm.") : null;
    this.feedForwardNorm = named.apply("post_attention_layernorm.");
    this.feedForward =
        feedForward(config.feedForward(), precision, layer, parameters, prefix + "mlp.");
    this.feedForwardOutputNorm = sandwich ? named.apply("mlp_output_layernorm.") : null;
  }

  Residual forward(
      Residual x,
      @Nullable Rotation rotation,
      @Nullable DocumentStarts documents,
      @Nullable Past past,
      Probe probe,
      @Nullable ExpertLoad load) {
    var before = attentionNorm.apply(x.streamBTD, x.addedBTD);
    probe.residual(layer, before.sumBTD());
    var attendedBTD = mixer.forward(before.normedBTD(), rotation, documents, past, probe);
    var between = feedForwardNorm.apply(before.sumBTD(), added(attendedBTD, attentionOutputNorm));
    var fedBTD = feedForward.forward(between.normedBTD(), load, probe);
    return new Residual(between.sumBTD(), added(fedBTD, feedForwardOutputNorm));
  }

  /// A block that was written down.
  ///
  /// @param attention is to hear of each token
  /// @param added `[B, D]`, the last sublayer's output
  record Written(Attention.Written attention, Floats added) {}

  /// Writes down [#forward] for one token of each of a few sequences; the stream takes up what is
  /// added to it.
  ///
  /// @param stream `[B, D]`
  /// @param added the last sublayer's output, null before the first
  /// @return null where nothing is written down that can be used
  @Nullable Written write(TokenSteps steps, Floats stream, @Nullable Floats added) {
    if (attentionOutputNorm != null || feedForwardOutputNorm != null || clip > 0) {
      return null;
    }
    steps.beginBlock();
    var before = attentionNorm.write(steps, stream, added);
    var attended = before == null ? null : mixer.write(steps, before);
    var between = attended == null ? null : feedForwardNorm.write(steps, stream, attended.result());
    var fed = between == null ? null : feedForward.write(steps, between);
    return attended == null || fed == null ? null : new Written(attended, fed);
  }

  /// A block's first sublayer.
  private interface Mixer {
    Attention.@Nullable Written write(TokenSteps steps, Floats x);

    Tensor forward(
        Tensor xBTD,
        @Nullable Rotation rotation,
        @Nullable DocumentStarts documents,
        @Nullable Past past,
        Probe probe);
  }

  private static Mixer mixer(
      MixerConfig config, Precision precision, int layer, Parameters parameters, String block) {
    String prefix = block + config.prefix();
    return switch (config) {
      case MixerConfig.SoftmaxAttention(var shape) -> {
        var attention = new Attention(shape, precision, layer, parameters, prefix);
        yield new Mixer() {
          @Override
          public Attention.@Nullable Written write(TokenSteps steps, Floats x) {
            return attention.write(steps, x);
          }

          @Override
          public Tensor forward(
              Tensor xBTD,
              @Nullable Rotation rotation,
              @Nullable DocumentStarts documents,
              @Nullable Past past,
              Probe probe) {
            return attention.forward(xBTD, rotation, documents, past, probe);
          }
        };
      }
      case MixerConfig.DeltaNet(var shape) -> {
        var net = new GatedDeltaNet(shape, precision, layer, parameters, prefix);
        yield new Mixer() {
          @Override
          public Attention.@Nullable Written write(TokenSteps steps, Floats x) {
            return null;
          }

          @Override
          public Tensor forward(
              Tensor xBTD,
              @Nullable Rotation rotation,
              @Nullable DocumentStarts documents,
              @Nullable Past past,
              Probe probe) {
            return net.forward(xBTD, documents, past, probe);
          }
        };
      }
    };
  }

  private static FeedForward feedForward(
      FeedForwardConfig config,
      Precision precision,
      int layer,
      Parameters parameters,
      String prefix) {
    return config.experts().count() > 0
        ? new MixtureOfExperts(config, precision, layer, parameters, prefix)
        : new DenseFeedForward(config, precision, parameters, prefix);
  }

  /// What a sublayer adds to the residual stream.
  private Tensor added(Tensor outputBTD, @Nullable GatedNorm norm) {
    var added =
        norm == null ? outputBTD : norm.apply(outputBTD.to(ElementType.FLOAT32), null).normedBTD();
    return clip > 0 ? added.clamp(-clip, clip) : added;
  }
}
