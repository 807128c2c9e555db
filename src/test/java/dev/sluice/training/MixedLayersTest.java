package dev.sluice.training;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.ExpertLoad;
import dev.sluice.decoder.Experts;
import dev.sluice.decoder.FeedForwardConfig;
import dev.sluice.decoder.Glu;
import dev.sluice.decoder.LayerConfig;
import dev.sluice.decoder.Router;
import dev.sluice.decoder.Router.Score;
import dev.sluice.decoder.Router.Weighting;
import dev.sluice.decoder.SharedExpert;
import dev.sluice.decoder.TinyDecoders;
import dev.sluice.operations.Precision;
import dev.sluice.optimizer.AdamW;
import dev.sluice.optimizer.LearningRateSchedule.Cosine;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/// A decoder whose first layer is dense and whose others are mixtures with all that one can have.
class MixedLayersTest {
  private static final String BIAS = "model.layers.%d.mlp.gate.e_score_correction_bias";

  private static DecoderConfig config() {
    var dense = TinyDecoders.config();
    var router = new Router(Score.SIGMOID, new Weighting.Shares(1e-20), 1.5, true, true, 0);
    var glu = new Glu.ClampedInputs(3, 1.702);
    var shared = new SharedExpert(5, false, new Glu.Swish());
    var experts = new Experts(6, 2, router, shared, 0.01, 0);
    var layer = dense.layers().getFirst();
    var mixture =
        new LayerConfig(
            layer.mixer(),
            new FeedForwardConfig(dense.hiddenSize(), 7, glu, true, experts),
            layer.residual());
    return dense.withLayers(List.of(layer, mixture, mixture)).withEmbeddingMultiplier(4);
  }

  private static Decoder decoder(Precision precision) {
    var decoder = Decoder.initialize(config(), precision, Device.CPU, 7);
    try (var _ = Scope.withoutGradient()) { // no token goes to the first expert of one layer
      decoder
          .parameters()
          .get(BIAS.formatted(1))
          .copyFrom(Tensor.of(new float[] {-3, 0, 0.1f, 0, 0, 0}, 6));
    }
    return decoder;
  }

  @ParameterizedTest
  @EnumSource(names = {"FLOAT32", "BFLOAT16"})
  void trainsAndLeavesTheSelectionBiasAlone(Precision precision) {
    try (var decoder = decoder(precision);
        var trainer =
            new Trainer(
                decoder, new AdamW.Settings(0.9, 0.95, 1e-8, 0.1), new Cosine(0, 30, 1), 5e-3, 1)) {
      float[] before = decoder.parameters().get(BIAS.formatted(1)).floats();
      float[] idle =
          decoder.parameters().get("model.layers.1.mlp.experts.0.gate_proj.bias").floats();
      float[] busy =
          decoder.parameters().get("model.layers.2.mlp.experts.0.gate_proj.bias").floats();
      long[] rows = TinyDecoders.tokens(2 * 17, 3);
      double first = trainer.step(1, List.of(rows), 2, 16).loss();
      double last = first;
      for (int step = 2; step <= 30; step++) {
        last = trainer.step(step, List.of(rows), 2, 16).loss();
      }
      assertTrue(last < 0.5 * first, first + " became " + last);
      assertArrayEquals(before, decoder.parameters().get(BIAS.formatted(1)).floats());
      assertArrayEquals(new float[6], decoder.parameters().get(BIAS.formatted(2)).floats());
      assertFalse(decoder.parameters().get(BIAS.formatted(2)).requiresGradient());
      assertArrayEquals(
          idle, decoder.parameters().get("model.layers.1.mlp.experts.0.gate_proj.bias").floats());
      assertFalse(
          Arrays.equals(
              busy,
              decoder.parameters().get("model.layers.2.mlp.experts.0.gate_proj.bias").floats()));
    }
  }

  /// In bfloat16 nothing but the experts holds what goes into them until the backward pass.
  @ParameterizedTest
  @EnumSource(names = {"FLOAT32", "BFLOAT16"})
  void plainMixturesTrain(Precision precision) {
    var config = TinyDecoders.config().with(Experts.of(6, 2));
    try (var decoder = Decoder.initialize(config, precision, Device.CPU, 7);
        var trainer =
            new Trainer(
                decoder, new AdamW.Settings(0.9, 0.95, 1e-8, 0.1), new Cosine(0, 9, 1), 5e-3, 1)) {
      long[] rows = TinyDecoders.tokens(2 * 17, 3);
      double first = trainer.step(1, List.of(rows), 2, 16).loss();
      double last = first;
      for (int step = 2; step <= 9; step++) {
        last = trainer.step(step, List.of(rows, rows), 2, 16).loss();
      }
      assertTrue(last < 0.8 * first, first + " became " + last);
    }
  }

  /// Layers without experts have no share in the loss that balances, which is a mean over the
  /// others.
  @ParameterizedTest
  @EnumSource(names = {"FLOAT32", "BFLOAT16"})
  void balancesAndCounts(Precision precision) {
    try (var decoder = decoder(precision);
        var _ = Scope.open()) {
      var ids = Tensor.of(TinyDecoders.tokens(18, 3), 2, 9);
      var targets = Tensor.of(TinyDecoders.tokens(18, 4), 2, 9);
      var load = new ExpertLoad();
      var loss = decoder.loss(ids, targets, null, load, 0);
      assertEquals(0, load.chosen(0).length);
      for (int layer = 1; layer < 3; layer++) {
        assertEquals(36, Arrays.stream(load.chosen(layer)).sum());
      }
      assertEquals(0, load.chosen(1)[0]);
      double added = loss.total().item() - loss.crossEntropy().item();
      assertTrue(added > 0.01 && added < 0.05, "about 0.01 times 2 of 6 experts, not " + added);
      loss.total().backward();
      var parameters = decoder.parameters();
      for (var parameter : parameters.all().entrySet()) {
        boolean bias = parameter.getKey().endsWith("e_score_correction_bias");
        var gradient = parameter.getValue().gradient();
        if (bias) {
          assertNull(gradient);
        } else {
          assertTrue(gradient != null, parameter.getKey()); // experts without tokens too
        }
      }
    }
  }
}
