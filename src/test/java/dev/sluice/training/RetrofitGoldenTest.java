package dev.sluice.training;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.sluice.TestData;
import dev.sluice.attention.Attention;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.checkpoint.SafetensorsFile;
import dev.sluice.decoder.Decoder;
import dev.sluice.distributed.GradientExchange;
import dev.sluice.gate.GatePosition;
import dev.sluice.operations.DistilledLoss;
import dev.sluice.operations.Precision;
import dev.sluice.optimizer.LearningRateSchedule;
import dev.sluice.optimizer.OldAndNew;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.OptionalInt;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.JsonNode;

/// Five steps of a gated Qwen3 against a reference's: what is minimised part by part, gradient
/// norms, every gate and parameter, the answers. Tolerances are the reference's own: 1e-4 for
/// losses, 1e-3 for norms, 1e-3 and 1e-4 of the value for sums.
@Tag("shared")
class RetrofitGoldenTest {
  private static final Path GOLDEN = TestData.SHARED.resolve("golden");
  private static final int TOKENS = 37;

  /// A part that is only measured: it changes nothing in float32.
  private static final double MEASURED = 1e-30;

  private double gateGradientNorm;

  @ParameterizedTest
  @ValueSource(
      strings = {"headwise", "elementwise", "headwise-gates-only", "elementwise-no-pressure"})
  void everyStep(String name) {
    JsonNode expected = Golden.named(GOLDEN.resolve("retrofit/retrofit.json"), "cases", name);
    var config = config(expected);
    try (var file = SafetensorsFile.open(GOLDEN.resolve("retrofit/retrofit.safetensors"));
        var _ = Scope.open();
        var decoder = StartCheckpoint.of(config).begin(Precision.FLOAT32, Device.CPU);
        var trainer = trainer(config, decoder, file, name)) {
      long[] ids = Golden.tensor(file, name + ".input_ids").longs();
      assertStart(decoder, ids);
      List<long[]> batch = List.of(rows(ids));
      int number = 0;
      for (JsonNode step : expected.path("steps")) {
        String what = name + ", step " + ++number;
        var taken = trainer.step(number, batch, 2, TOKENS);
        assertEquals(step.path("total").asDouble(), part(taken, "objective"), 1e-4, what);
        assertEquals(step.path("cross_entropy").asDouble(), taken.loss(), 1e-4, what);
        assertEquals(step.path("kl").asDouble(), part(taken, "parent_kl"), 1e-4, what);
        assertEquals(
            step.path("first_token_attention").asDouble(),
            part(taken, "first_token_share"),
            1e-4,
            what);
        assertEquals(step.path("grad_norm").asDouble(), taken.gradientNorm(), 1e-3, what);
        assertEquals(step.path("gate_grad_norm").asDouble(), gateGradientNorm, 1e-3, what);
        for (int layer = 0; layer < 3; layer++) {
          Golden.assertSums(
              step.path("gates").path("gates." + layer),
              decoder.parameters().get(gate(layer)),
              what + ", gate " + layer);
        }
      }
      for (var sums : expected.path("final_parameters").properties()) {
        Golden.assertSums(sums.getValue(), decoder.parameters().get(sums.getKey()), sums.getKey());
      }
      assertClose(
          Golden.tensor(file, name + ".logits"), logits(decoder, ids), 2e-3, name + ", logits");
      for (int layer = 0; layer < 3; layer++) {
        assertClose(
            Golden.tensor(file, name + ".gates." + layer),
            decoder.parameters().get(gate(layer)),
            1e-3,
            name + ", gate " + layer);
      }
    }
  }

  private static RunConfig config(JsonNode expected) {
    var optimizer = expected.path("optimizer");
    double rate = optimizer.path("rate").asDouble();
    var weights = expected.path("weights");
    Map<String, String> settings = new HashMap<>();
    settings.put("start", GOLDEN.resolve("qwen3").toString());
    settings.put("gate", "sdpa-" + expected.path("granularity").asString());
    settings.put("sequence_length", "" + TOKENS);
    settings.put("learning_rate", "" + (rate == 0 ? 1e-3 : rate));
    settings.put("new_learning_rate", optimizer.path("gate_rate").asString());
    settings.put("new_weight_decay", optimizer.path("gate_weight_decay").asString());
    settings.put("frozen_steps", rate == 0 ? "-1" : "0");
    settings.put("text_share", weights.path("cross_entropy").asString());
    settings.put("parent_kl", "" + Math.max(MEASURED, weights.path("kl").asDouble()));
    settings.put(
        "first_token_penalty",
        "" + Math.max(MEASURED, weights.path("first_token_attention").asDouble()));
    return RunConfig.from(null, settings);
  }

  /// One that compares the gates' gradients of the first step.
  private Trainer trainer(RunConfig config, Decoder decoder, SafetensorsFile file, String name) {
    var start = StartCheckpoint.of(config);
    var added = start.added(decoder.config());
    var optimization = config.optimization();
    double rate = config.start().newLearningRate();
    return new Trainer(
        decoder,
        new OldAndNew(
            optimization.optimizerSettings(),
            optimization.optimizerSettings(0, rate),
            added,
            rate / optimization.learningRate(),
            config.start().frozenSteps(),
            decoder.parameters(),
            _ -> true),
        new LearningRateSchedule.Cosine(0, 5, 1),
        optimization.learningRate(),
        1,
        new WeightedObjective(
            config.start(),
            5,
            0,
            added,
            config.start().needsParent()
                ? start.parentDecoder(Precision.FLOAT32, Device.CPU)
                : null),
        GradientExchange.none(decoder.parameters()),
        OptionalInt.empty()) {
      @Override
      void differentiated(int number, Parameters parameters) {
        double squares = 0;
        for (int layer = 0; layer < 3; layer++) {
          var gradient = Objects.requireNonNull(parameters.get(gate(layer)).gradient());
          for (double value : gradient.doubles()) {
            squares += value * value;
          }
          if (number == 1) {
            String what = "%s.gates.%d.gradient".formatted(name, layer);
            assertClose(Golden.tensor(file, what), gradient, 1e-4, what);
          }
        }
        gateGradientNorm = Math.sqrt(squares);
      }
    };
  }

  private static void assertStart(Decoder decoder, long[] ids) {
    try (var parent =
        ModelDirectory.load(GOLDEN.resolve("qwen3"), Precision.FLOAT32, Device.CPU, false)) {
      assertEquals(0, StartCheckpoint.difference(decoder, parent, ids));
    }
  }

  /// The reference has no token after the last one of a row.
  private static long[] rows(long[] ids) {
    long[] rows = new long[ids.length / TOKENS * (TOKENS + 1)];
    for (int i = 0; i < rows.length; i++) {
      int at = i % (TOKENS + 1);
      rows[i] = at == TOKENS ? DistilledLoss.NO_TARGET : ids[i / (TOKENS + 1) * TOKENS + at];
    }
    return rows;
  }

  private static String gate(int layer) {
    return "model.layers.%d.self_attn.%sweight"
        .formatted(layer, Attention.gateName(GatePosition.SDPA_OUTPUT));
  }

  private static double part(Trainer.Step step, String name) {
    return Objects.requireNonNull(step.parts().get(name), name);
  }

  private static Tensor logits(Decoder decoder, long[] ids) {
    var tokens = Tensor.of(ids, ids.length / TOKENS, TOKENS);
    return decoder.logits(decoder.hiddenStates(tokens, null, Probe.NONE));
  }

  private static void assertClose(Tensor expected, Tensor actual, double tolerance, String what) {
    float[] right = expected.floats();
    float[] found = actual.floats();
    var all = new ArrayList<Double>();
    for (int i = 0; i < right.length; i++) {
      all.add((double) Math.abs(right[i] - found[i]));
    }
    assertEquals(0, all.stream().mapToDouble(each -> each).max().orElseThrow(), tolerance, what);
  }
}
