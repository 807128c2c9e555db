package dev.sluice.retrofit;

import dev.sluice.attention.AttentionConfig;
import dev.sluice.attention.SdpaNonlinearity;
import dev.sluice.checkpoint.CheckpointDirectory;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.files.Trees;
import dev.sluice.gate.Activation;
import dev.sluice.gate.Combination;
import dev.sluice.gate.Gate;
import dev.sluice.gate.GatePosition;
import dev.sluice.operations.Precision;
import dev.sluice.provenance.RunManifest;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.Scope;
import dev.sluice.tokenizer.Tokenizer;
import dev.sluice.training.StartCheckpoint;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.function.UnaryOperator;

/// A gate f · σ on attention's output as the plain σ that other programs have: the factor goes into
/// the output projection, `(y ⊙ f σ(z)) Wᵀ = (y ⊙ σ(z)) (f W)ᵀ`. With a factor that is a power of
/// two, as that of 2σ, no number is rounded.
public final class PlainGates {
  private PlainGates() {}

  /// Writes the model of a checkpoint with plain gates where it can have them, in the first family
  /// that can say what it is, with the tokenizer beside. The directory appears whole.
  ///
  /// @param ids on which both models' logits are compared
  /// @return the largest difference of a logit
  public static double write(
      Path checkpoint, Path target, Tokenizer tokenizer, Device device, long[] ids)
      throws IOException {
    try (var plain = of(checkpoint, device)) {
      CheckpointDirectory.remove(target);
      CheckpointDirectory.removeIncomplete(target);
      CheckpointDirectory.save(
          target,
          partial -> {
            try (var _ = Scope.withoutGradient()) {
              ModelDirectory.write(
                  partial, plain.config(), ModelDirectory.packed(plain), tokenizer.endOfText());
            }
            tokenizer.write(partial);
            Path manifest = checkpoint.resolve(RunManifest.FILE_NAME);
            if (Trees.isFile(manifest)) {
              Files.copy(manifest, partial.resolve(RunManifest.FILE_NAME));
            }
          });
    }
    try (var trained = ModelDirectory.load(checkpoint, Precision.FLOAT32, device, false);
        var written = ModelDirectory.load(target, Precision.FLOAT32, device, false)) {
      return StartCheckpoint.difference(written, trained, ids);
    }
  }

  private static Decoder of(Path checkpoint, Device device) {
    try (var trained = ModelDirectory.load(checkpoint, Precision.FLOAT32, device, false);
        var _ = Scope.withoutGradient()) {
      var layers = trained.config().layers();
      for (int layer = 0; layer < layers.size(); layer++) {
        double factor = layers.get(layer).attention().map(PlainGates::factor).orElse(1.0);
        if (factor != 1) {
          trained
              .parameters()
              .get("model.layers." + layer + ".self_attn.o_proj.weight")
              .scaleInPlace(factor);
        }
      }
      return Decoder.initialize(
          plain(trained.config()), Precision.FLOAT32, device, 0, trained.parameters().all());
    }
  }

  private static DecoderConfig plain(DecoderConfig config) {
    UnaryOperator<AttentionConfig> change =
        attention ->
            factor(attention) == 1
                ? attention
                : attention.with(
                    attention.gates().stream()
                        .map(
                            gate ->
                                gate.position() == GatePosition.SDPA_OUTPUT
                                    ? gate.with(new Activation.Sigmoid())
                                    : gate)
                        .toList());
    return config.mapAttention(change);
  }

  /// That of the gate on attention's output which a projection can take up; 1 where there is none.
  private static double factor(AttentionConfig attention) {
    List<Gate> gates = attention.gates();
    for (Gate gate : gates) {
      if (gate.position() == GatePosition.SDPA_OUTPUT
          && gate.activation() instanceof Activation.ScaledSigmoid(double factor)
          && gate.combination() == Combination.MULTIPLICATIVE
          && attention.variant().nonlinearity() == SdpaNonlinearity.NONE) {
        return factor;
      }
    }
    return 1;
  }
}
