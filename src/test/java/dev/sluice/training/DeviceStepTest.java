package dev.sluice.training;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.decoder.Decoder;
import dev.sluice.distributed.GradientExchange;
import dev.sluice.operations.Operations;
import dev.sluice.operations.Precision;
import dev.sluice.optimizer.AdamW;
import dev.sluice.optimizer.LearningRateSchedule;
import dev.sluice.tensor.Device;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import java.util.Random;
import java.util.function.Supplier;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/// A training step as a device takes it, on the CPU: what passes between Java and libtorch in it,
/// and that it is the step that the CPU takes.
class DeviceStepTest {
  private static final int T = 256;
  private static final int VOCABULARY = 32;
  private static final int SEPARATOR = 3;

  /// A setting in which attention takes another way.
  private record Case(Map<String, String> settings, boolean documents, Precision precision) {
    static Case of(String settings, boolean documents, Precision precision) {
      var all =
          new HashMap<>(
              Map.of(
                  "hidden_size", "16",
                  "intermediate_size", "32",
                  "layers", "3",
                  "attention_heads", "1",
                  "key_value_heads", "1",
                  "head_dim", "16",
                  "sequence_length", "" + T,
                  "gate", "sdpa-elementwise"));
      for (String pair : settings.equals("plain") ? new String[0] : settings.split(" ")) {
        all.put(pair.split("=")[0], pair.split("=")[1]);
      }
      return new Case(all, documents, precision);
    }

    Decoder decoder() {
      var shape = RunConfig.from(null, settings).decoder(VOCABULARY);
      return Decoder.initialize(shape, precision, Device.CPU, 5);
    }

    Trainer trainer(Decoder decoder) {
      return new Trainer(
          decoder,
          new AdamW.Settings(0.9, 0.95, 1e-8, 0.1),
          new LearningRateSchedule.Cosine(0, 100, 1),
          1e-3,
          1,
          1e-4,
          GradientExchange.none(decoder.parameters()),
          documents ? OptionalInt.of(SEPARATOR) : OptionalInt.empty());
    }
  }

  private static <R> R asOnADevice(Supplier<R> work) {
    return ScopedValue.where(Operations.INSTEAD, Operations.LIBTORCH).call(work::get);
  }

  private static long[] batch(Random random) {
    return random.longs(T + 1, 0, VOCABULARY).toArray();
  }

  /// The loss, the z-loss of each micro-batch and the gradients' norm are read at once; the ids of
  /// each micro-batch go up, and the mask of its documents once for all layers. No tensor has as
  /// many elements as one head's attention weights.
  @ParameterizedTest
  @CsvSource({
    "plain,false,FLOAT32",
    "plain,false,BFLOAT16",
    "plain,true,BFLOAT16",
    "sliding_window=32 layers_pattern=sliding,false,BFLOAT16",
    "sliding_window=32 layers_pattern=sliding,true,FLOAT32",
    "softmax_sink=learned,false,BFLOAT16",
    "softmax_sink=learned,true,FLOAT32",
    "layers_pattern=gdn gate=none,true,BFLOAT16"
  })
  void oneReadBack(String settings, boolean documents, Precision precision) {
    var one = Case.of(settings, documents, precision);
    var random = new Random(1);
    try (var decoder = one.decoder();
        var trainer = one.trainer(decoder)) {
      var batches = List.of(batch(random), batch(random));
      var profile =
          asOnADevice(
              () -> {
                trainer.step(1, batches, 1, T); // what is made once
                return StepProfile.record(1, () -> trainer.step(2, batches, 1, T));
              });
      var traffic = profile.traffic();
      assertEquals(1, traffic.readBacks(), "read-backs");
      int masks = documents ? 2 : 0; // where documents begin, in both forms
      assertEquals(2 * (1 + masks), traffic.uploads(), "uploads");
      assertTrue(traffic.largestResult() < T * T, "a tensor of " + traffic.largestResult());
      assertTrue(traffic.results() > 100, "nothing was counted");
    }
  }

  /// What the next step takes goes up within a step that knows it, and the step that it was brought
  /// for brings nothing; one that gets something else does, and is the step that it is anyway.
  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void batchesAreBroughtAhead(boolean documents) {
    var one = Case.of("plain", documents, Precision.FLOAT32);
    var random = new Random(3);
    var batches = new ArrayList<List<long[]>>();
    for (int i = 0; i < 5; i++) {
      batches.add(List.of(batch(random), batch(random)));
    }
    int each = documents ? 3 : 1;
    try (var decoder = one.decoder();
        var trainer = one.trainer(decoder);
        var plainDecoder = one.decoder();
        var plain = one.trainer(plainDecoder)) {
      asOnADevice(() -> trainer.step(1, batches.get(4), 1, T)); // what is made once
      asOnADevice(() -> plain.step(1, batches.get(4), 1, T));
      var steps = new ArrayList<Trainer.Step>();
      int[] uploads = new int[3];
      int[] given = {0, 1, 3}; // after the second step another one comes than was announced
      for (int i = 0; i < given.length; i++) {
        int step = i;
        var profile =
            asOnADevice(
                () ->
                    StepProfile.record(
                        1,
                        () ->
                            steps.add(
                                trainer.step(
                                    step + 2,
                                    batches.get(given[step]),
                                    1,
                                    T,
                                    (_, _) -> true,
                                    () -> step < 2 ? batches.get(step + 1) : List.<long[]>of()))));
        uploads[i] = (int) profile.traffic().uploads();
        assertEquals(1, profile.traffic().readBacks(), "read-backs of step " + (i + 1));
      }
      assertArrayEquals(new int[] {4 * each, 2 * each, 2 * each}, uploads);
      for (int i = 0; i < given.length; i++) {
        int step = i;
        var expected =
            asOnADevice(() -> plain.step(step + 2, batches.get(given[step]), 1, T, (_, _) -> true));
        assertEquals(expected, steps.get(i));
      }
    }
  }

  @ParameterizedTest
  @CsvSource({
    "plain,false,FLOAT32,2e-5",
    "plain,true,FLOAT32,2e-5",
    "sliding_window=32 layers_pattern=sliding,true,FLOAT32,2e-5",
    "softmax_sink=learned,false,FLOAT32,2e-5",
    "plain,false,BFLOAT16,2e-2"
  })
  void theStepsOfTheCpu(String settings, boolean documents, Precision precision, double within) {
    var one = Case.of(settings, documents, precision);
    var random = new Random(2);
    try (var fused = one.decoder();
        var fusedTrainer = one.trainer(fused);
        var device = one.decoder();
        var deviceTrainer = one.trainer(device)) {
      for (int number = 1; number <= 5; number++) {
        int step = number;
        var batches = List.of(batch(random), batch(random));
        var expected = fusedTrainer.step(step, batches, 1, T);
        var actual = asOnADevice(() -> deviceTrainer.step(step, batches, 1, T));
        assertEquals(expected.loss(), actual.loss(), within, "loss of step " + step);
        assertEquals(expected.zLoss(), actual.zLoss(), within, "z-loss of step " + step);
        assertEquals(
            expected.gradientNorm(),
            actual.gradientNorm(),
            within * expected.gradientNorm() * 10,
            "norm of step " + step);
      }
    }
  }
}
