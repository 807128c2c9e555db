package dev.sluice.training;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.Decoders;
import dev.sluice.gate.Gate;
import dev.sluice.operations.Precision;
import dev.sluice.optimizer.AdamW;
import dev.sluice.optimizer.LearningRateSchedule;
import dev.sluice.tensor.Device;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class TrainerTest {
  private static final int T = 24;

  /// Two micro-batches of 3 take the step of one batch of 6.
  @Test
  void accumulationEqualsALargerBatch() {
    long[] batch = batch(6);
    long[] first = Arrays.copyOfRange(batch, 0, 3 * (T + 1));
    long[] second = Arrays.copyOfRange(batch, 3 * (T + 1), 6 * (T + 1));
    try (var whole = decoder(Precision.FLOAT32);
        var wholeTrainer = trainer(whole, 1e-3);
        var parts = decoder(Precision.FLOAT32);
        var partsTrainer = trainer(parts, 1e-3)) {
      for (int step = 1; step <= 3; step++) {
        var a = wholeTrainer.step(step, List.of(batch), 6, T);
        var b = partsTrainer.step(step, List.of(first, second), 3, T);
        assertEquals(a.loss(), b.loss(), 1e-5 * a.loss());
        assertEquals(a.gradientNorm(), b.gradientNorm(), 1e-4 * a.gradientNorm());
      }
    }
  }

  /// Attention and Gated DeltaNet in turn, with the default heads of a small model.
  @ParameterizedTest
  @EnumSource(names = {"FLOAT32", "BFLOAT16"})
  void hybridsLearnABatchByHeart(Precision precision) {
    long[] batch = batch(4);
    var settings =
        Map.of(
            "hidden_size", "32",
            "intermediate_size", "64",
            "attention_heads", "3",
            "key_value_heads", "1",
            "head_dim", "16",
            "layers_pattern", "gdn,attention",
            "gate", "sdpa-elementwise",
            "match_parameters", "true");
    var shape = RunConfig.from(null, settings).decoder(64);
    try (var decoder = Decoder.initialize(shape, precision, Device.CPU, 5);
        var trainer = trainer(decoder, 1e-2)) {
      double first = trainer.step(1, List.of(batch), 4, T).loss();
      double last = first;
      for (int step = 2; step <= 25; step++) {
        last = trainer.step(step, List.of(batch), 4, T).loss();
      }
      assertTrue(last < 0.5 * first, precision + ": " + first + " → " + last);
    }
  }

  @ParameterizedTest
  @EnumSource(names = {"FLOAT32", "BFLOAT16"})
  void learnsABatchByHeart(Precision precision) {
    long[] batch = batch(4);
    try (var decoder = decoder(precision);
        var trainer = trainer(decoder, 1e-2)) {
      double first = trainer.step(1, List.of(batch), 4, T).loss();
      double last = first;
      for (int step = 2; step <= 25; step++) {
        last = trainer.step(step, List.of(batch), 4, T).loss();
      }
      assertTrue(last < 0.5 * first, precision + ": " + first + " → " + last);
    }
  }

  /// A step, also of several micro-batches, is computed with the weights that the step before left:
  /// a model that is made of copies of them has the same loss, bit for bit.
  @ParameterizedTest
  @EnumSource(names = {"FLOAT32", "BFLOAT16"})
  void everyStepTakesTheWeightsAsTheyAre(Precision precision) {
    try (var decoder = decoder(precision);
        var trainer = trainer(decoder, 1e-2)) {
      for (int step = 1; step <= 3; step++) {
        long[] batch = batch(3);
        double expected;
        try (var copy = decoder(precision);
            var same = trainer(copy, 0)) {
          decoder
              .parameters()
              .all()
              .forEach((name, tensor) -> copy.parameters().get(name).detach().copyFrom(tensor));
          expected = same.step(step, List.of(batch, batch), 3, T).loss();
        }
        assertEquals(expected, trainer.step(step, List.of(batch, batch), 3, T).loss());
      }
    }
  }

  @Test
  void theSameSeedTakesTheSameSteps() {
    double[] losses = new double[2];
    for (int i = 0; i < 2; i++) {
      try (var decoder = decoder(Precision.BFLOAT16);
          var trainer = trainer(decoder, 1e-2)) {
        for (int step = 1; step <= 5; step++) {
          losses[i] = trainer.step(step, List.of(batch(4)), 4, T).loss();
        }
      }
    }
    assertEquals(losses[0], losses[1]);
  }

  @Test
  void aStepThatIsNotFiniteLeavesTheWeights() {
    try (var decoder = decoder(Precision.FLOAT32);
        var trainer = trainer(decoder, 1e-2)) {
      var poisoned = decoder.parameters().get("model.norm.weight");
      var watched = decoder.parameters().get("model.layers.0.mlp.up_proj.weight");
      poisoned.detach().fill(Double.NaN);
      float[] before = watched.floats();
      assertFalse(trainer.step(1, List.of(batch(2)), 2, T).updated());
      assertArrayEquals(before, watched.floats());
    }
  }

  @Test
  void schedulesWarmUpAndDecay() {
    var cosine = new LearningRateSchedule.Cosine(10, 110, 0.1);
    assertEquals(0.1, cosine.at(0), 1e-12);
    assertEquals(1, cosine.at(9), 1e-12);
    assertEquals(1, cosine.at(10), 1e-12);
    assertEquals(0.55, cosine.at(60), 1e-12);
    assertEquals(0.1, cosine.at(110), 1e-12);
    var wsd = new LearningRateSchedule.WarmupStableDecay(10, 100, 20, 0);
    assertEquals(0.5, wsd.at(4), 1e-12);
    assertEquals(1, wsd.at(79), 1e-12);
    assertEquals(0.5, wsd.at(90), 1e-12);
    assertEquals(0, wsd.at(100), 1e-12);
  }

  private static Decoder decoder(Precision precision) {
    var tiny = Decoders.TINY;
    var config =
        DecoderConfig.uniform(
            50,
            32,
            48,
            2,
            4,
            2,
            8,
            tiny.maxPositionEmbeddings(),
            tiny.attention().positions().rotary().orElseThrow().theta(),
            tiny.attention().positions().rotary().orElseThrow().scaling(),
            tiny.norm().epsilon(),
            true,
            true,
            0.05,
            List.of(Gate.SDPA_ELEMENTWISE));
    return Decoder.initialize(config, precision, Device.CPU, 7);
  }

  private static Trainer trainer(Decoder decoder, double learningRate) {
    return new Trainer(
        decoder,
        new AdamW.Settings(0.9, 0.95, 1e-8, 0.1),
        new LearningRateSchedule.Cosine(1, 1000, 1),
        learningRate,
        1.0);
  }

  private static long[] batch(int sequences) {
    return new Random(1).longs((long) sequences * (T + 1), 0, 50).toArray();
  }
}
