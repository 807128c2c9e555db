package dev.sluice.serving;

import dev.sluice.attention.AttentionConfig;
import dev.sluice.attention.RopeScaling;
import dev.sluice.attention.Rotary;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.Experts;
import dev.sluice.decoder.FeedForwardConfig;
import dev.sluice.decoder.LayerConfig;
import dev.sluice.decoder.MixerConfig;
import dev.sluice.decoder.ResidualVariant;
import dev.sluice.deltanet.GatedDeltaNetConfig;
import dev.sluice.gate.Gate;
import dev.sluice.operations.DeltaHeads;
import dev.sluice.operations.Precision;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.RmsNorm;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.function.UnaryOperator;

/// A small gated hybrid with random weights, for the tokenizer of the tests, opened as servers open
/// models.
public final class TinyModel {
  /// The tokens of the tokenizer of the tests, and some for control tokens besides.
  public static final int VOCABULARY = 400;

  /// Its context.
  public static final int CONTEXT = 8192;

  private static final int HIDDEN = 64;
  private static final RmsNorm NORM = new RmsNorm(1e-6);

  private TinyModel() {}

  /// Makes it and opens it in place.
  public static Decoder open(Path directory, Precision precision) throws IOException {
    var attention = attention(c -> c.with(List.of(Gate.SDPA_ELEMENTWISE)));
    return open(directory, precision, List.of(deltaNet(), attention));
  }

  /// A layer of attention.
  public static LayerConfig attention(UnaryOperator<AttentionConfig> change) {
    return layer(
        new MixerConfig.SoftmaxAttention(
            change.apply(
                new AttentionConfig(
                    HIDDEN, 4, 2, 16, true, NORM, new Rotary(1e4, new RopeScaling.None())))));
  }

  /// A layer of Gated DeltaNet.
  public static LayerConfig deltaNet() {
    return layer(
        new MixerConfig.DeltaNet(
            new GatedDeltaNetConfig(HIDDEN, new DeltaHeads(2, 4, 16, 16), 4, 1e-6)));
  }

  private static LayerConfig layer(MixerConfig mixer) {
    return new LayerConfig(
        mixer, new FeedForwardConfig(HIDDEN, 96, Experts.NONE), ResidualVariant.PLAIN);
  }

  /// Makes one of other layers and opens it in place.
  public static Decoder open(Path directory, Precision precision, List<LayerConfig> layers)
      throws IOException {
    var config = new DecoderConfig(VOCABULARY, HIDDEN, layers, CONTEXT, NORM, false, 0.3, 1);
    try (var decoder = Decoder.initialize(config, Precision.FLOAT32, Device.CPU, 5)) {
      ModelDirectory.write(Files.createDirectories(directory), decoder);
    }
    return ModelDirectory.openInPlace(directory, precision).decoder();
  }
}
