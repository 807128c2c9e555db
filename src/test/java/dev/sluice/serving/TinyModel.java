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

/// A small gated hybrid with random weights, for the tokenizer of the tests, opened as servers open
/// models.
public final class TinyModel {
  /// The tokens of the tokenizer of the tests, and some for control tokens besides.
  public static final int VOCABULARY = 400;

  /// Its context.
  public static final int CONTEXT = 8192;

  private static final int HIDDEN = 64;

  private TinyModel() {}

  /// Makes it and opens it in place.
  public static Decoder open(Path directory, Precision precision) throws IOException {
    var norm = new RmsNorm(1e-6);
    var feedForward = new FeedForwardConfig(HIDDEN, 96, Experts.NONE);
    var attention =
        new LayerConfig(
            new AttentionConfig(
                    HIDDEN, 4, 2, 16, true, norm, new Rotary(1e4, new RopeScaling.None()))
                .with(List.of(Gate.SDPA_ELEMENTWISE)),
            feedForward,
            ResidualVariant.PLAIN);
    var deltaNet =
        new LayerConfig(
            new MixerConfig.DeltaNet(
                new GatedDeltaNetConfig(HIDDEN, new DeltaHeads(2, 4, 16, 16), 4, 1e-6)),
            feedForward,
            ResidualVariant.PLAIN);
    var config =
        new DecoderConfig(
            VOCABULARY, HIDDEN, List.of(deltaNet, attention), CONTEXT, norm, false, 0.3, 1);
    try (var decoder = Decoder.initialize(config, Precision.FLOAT32, Device.CPU, 5)) {
      ModelDirectory.write(Files.createDirectories(directory), decoder);
    }
    return ModelDirectory.openInPlace(directory, precision).decoder();
  }
}
