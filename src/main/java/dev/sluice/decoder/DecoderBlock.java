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
  /// @param begin is to hear of each token
  /// @param added `[B, D]`, the last sublayer's output
  record Written(Begin begin, Floats added) {}

  /// Hears what a written mixer will find before its next tokens.
  @FunctionalInterface
  interface Begin {
    /// @param past whose pass of one token has begun
    /// @param rotation of the tokens' positions; null where the layer turns nothing
    /// @param like a tensor on the CPU
    void begin(Past past, @Nullable Rotation rotation, Tensor like);
  }

  /// Writes down [#forward] for one token of each of a few sequences; the stream takes up what is
  /// added to it.
  ///
  /// @param stream `[B, D]`
  /// @param added the last sublayer's output, null before the first
  /// @return null where nothing is written down that can be used
  @Nullable Written write(TokenSteps steps, Floats stream, @Nullable Floats added) {
    if (clip > 0) {
      return null;
    }
    steps.beginBlock();
    var before = attentionNorm.write(steps, stream, added);
    var mixed = before == null ? null : mixer.write(steps, before);
    var attended = mixed == null ? null : normed(steps, mixed.added, attentionOutputNorm);
    var between = attended == null ? null : feedForwardNorm.write(steps, stream, attended);
    var output = between == null ? null : feedForward.write(steps, between);
    var fed = output == null ? null : normed(steps, output, feedForwardOutputNorm);
    return mixed == null || fed == null ? null : new Written(mixed.begin, fed);
  }

  /// What a sublayer adds, as [#added] has it.
  private static @Nullable Floats normed(
      TokenSteps steps, Floats output, @Nullable GatedNorm norm) {
    return norm == null ? output : norm.write(steps, output, null);
  }

  /// A block's first sublayer.
  private interface Mixer {
    Tensor forward(
        Tensor xBTD,
        @Nullable Rotation rotation,
        @Nullable DocumentStarts documents,
        @Nullable Past past,
        Probe probe);

    /// Writes [#forward] down as [DecoderBlock#write] does.
    ///
    /// @return what it will add; null where nothing is written down that can be used
    @Nullable Written write(TokenSteps steps, Floats x);
  }

  private static Mixer mixer(
      MixerConfig config, Precision precision, int layer, Parameters parameters, String block) {
    String prefix = block + config.prefix();
    return switch (config) {
      case MixerConfig.SoftmaxAttention(var shape) ->
          new AttentionMixer(new Attention(shape, precision, layer, parameters, prefix));
      case MixerConfig.DeltaNet(var shape) ->
          new DeltaNetMixer(new GatedDeltaNet(shape, precision, layer, parameters, prefix));
    };
  }

  private record AttentionMixer(Attention attention) implements Mixer {
    @Override
    public Tensor forward(
        Tensor xBTD,
        @Nullable Rotation rotation,
        @Nullable DocumentStarts documents,
        @Nullable Past past,
        Probe probe) {
      return attention.forward(xBTD, rotation, documents, past, probe);
    }

    @Override
    public @Nullable Written write(TokenSteps steps, Floats x) {
      var written = attention.write(steps, x);
      return written == null ? null : new Written(written::begin, written.result());
    }
  }

  private record DeltaNetMixer(GatedDeltaNet net) implements Mixer {
    @Override
    public Tensor forward(
        Tensor xBTD,
        @Nullable Rotation rotation,
        @Nullable DocumentStarts documents,
        @Nullable Past past,
        Probe probe) {
      return net.forward(xBTD, documents, past, probe);
    }

    @Override
    public @Nullable Written write(TokenSteps steps, Floats x) {
      var written = net.write(steps, x);
      return written == null
          ? null
          : new Written((past, _, like) -> written.begin(past, like), written.result());
    }
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
