package dev.sluice.training;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.sluice.TestData;
import dev.sluice.checkpoint.ModelConfig;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.checkpoint.SafetensorsFile;
import dev.sluice.distributed.GradientExchange;
import dev.sluice.files.JsonFile;
import dev.sluice.operations.Precision;
import dev.sluice.optimizer.AdamW;
import dev.sluice.optimizer.LearningRateSchedule;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import tools.jackson.databind.JsonNode;

/// Every way to change rotary frequencies against `transformers`, in both spellings of
/// `config.json`: frequencies, logits below and beyond the original length, the loss of every
/// token; and training that goes on after the change.
@Tag("shared")
class ExtendGoldenTest {
  private static final Path GOLDEN = TestData.SHARED.resolve("golden/extend");
  private static final Path BASE = TestData.SHARED.resolve("golden/qwen3");
  private static final int TOKENS = 256;
  private static final int VOCABULARY = 199;

  @TempDir Path directory;

  static List<String> cases() {
    var cases = new ArrayList<String>();
    for (JsonNode one :
        JsonFile.object(GOLDEN.resolve("extend.json"), JsonFile.LARGE, "").path("cases")) {
      cases.add(one.path("case").asString());
    }
    assertEquals(18, cases.size());
    return cases;
  }

  @ParameterizedTest
  @MethodSource("cases")
  void bothSpellings(String name) throws IOException {
    Files.copy(BASE.resolve("model.safetensors"), directory.resolve("model.safetensors"));
    JsonNode expected = Golden.named(GOLDEN.resolve("extend.json"), "cases", name);
    try (var file = SafetensorsFile.open(GOLDEN.resolve("extend.safetensors"));
        var _ = Scope.withoutGradient()) {
      long[] ids = Golden.tensor(file, "input_ids").longs();
      long[] positions = Golden.tensor(file, "positions").longs();
      float[] logits = Golden.tensor(file, name + ".logits").floats();
      for (String spelling : List.of("rope_parameters", "rope_scaling")) {
        String what = name + ", " + spelling;
        Files.writeString(
            directory.resolve("config.json"),
            Files.readString(GOLDEN.resolve(name).resolve("config.%s.json".formatted(spelling))));
        try (var model = ModelDirectory.load(directory, Precision.FLOAT32, Device.CPU, false)) {
          var attention = model.config().attention();
          var rotary = attention.positions().rotary().orElseThrow();
          assertEquals(
              expected.path("attention_scaling").asDouble(), rotary.scaling().scale(), 1e-7, what);
          assertClose(
              Golden.tensor(file, name + ".inv_freq").floats(),
              rotary.inverseFrequencies(attention.headDim(), TOKENS),
              1e-6,
              what);
          var hidden = model.hiddenStates(Tensor.of(ids, 1, TOKENS), null, Probe.NONE);
          float[] found = model.logits(hidden).floats();
          for (int i = 0; i < positions.length; i++) {
            for (int token = 0; token < VOCABULARY; token++) {
              assertEquals(
                  logits[i * VOCABULARY + token],
                  found[(int) positions[i] * VOCABULARY + token],
                  2e-4,
                  what + " at " + positions[i]);
            }
          }
          float[] losses = Golden.tensor(file, name + ".nll").floats();
          double sum = 0;
          for (int at = 0; at < TOKENS - 1; at++) {
            double loss = loss(found, at, (int) ids[at + 1]);
            assertEquals(losses[at], loss, 2e-4, what + ", loss at " + at);
            sum += loss;
          }
          assertEquals(expected.path("mean_nll").asDouble(), sum / (TOKENS - 1), 1e-5, what);
        }
      }
    }
  }

  private static double loss(float[] logits, int at, int target) {
    double largest = Double.NEGATIVE_INFINITY;
    for (int token = 0; token < VOCABULARY; token++) {
      largest = Math.max(largest, logits[at * VOCABULARY + token]);
    }
    double sum = 0;
    for (int token = 0; token < VOCABULARY; token++) {
      sum += Math.exp(logits[at * VOCABULARY + token] - largest);
    }
    return largest + Math.log(sum) - logits[at * VOCABULARY + target];
  }

  /// What settings make of the original is what the configurations say.
  @ParameterizedTest
  @CsvSource({
    "theta-1m, 1e6, model, 256",
    "theta-1m-yarn, 1e6, yarn*4, 0",
    "yarn, 0, yarn*4, 0",
    "linear, 0, linear*4, 0",
    "dynamic, 0, dynamic*4, 0"
  })
  void settings(String name, String theta, String scaling, int context) throws IOException {
    var config =
        RunConfig.from(
            null,
            Map.of(
                "start",
                base().toString(),
                "gate",
                "model",
                "rope_theta",
                theta,
                "rope_scaling",
                scaling,
                "context",
                "" + context,
                "sequence_length",
                "64"));
    Path expected = Files.createDirectory(directory.resolve("expected"));
    Files.copy(
        GOLDEN.resolve(name).resolve("config.rope_parameters.json"),
        expected.resolve("config.json"));
    assertEquals(ModelConfig.read(expected).decoder(), config.decoder(VOCABULARY));
  }

  /// The original as the reference changed it.
  private Path base() throws IOException {
    Path base = Files.createDirectory(directory.resolve("base"));
    Files.copy(BASE.resolve("model.safetensors"), base.resolve("model.safetensors"));
    Files.copy(GOLDEN.resolve("base/config.rope_scaling.json"), base.resolve("config.json"));
    return base;
  }

  /// Five steps of training with the changed frequencies, from the original's weights.
  @ParameterizedTest
  @CsvSource({"theta-1m, model", "theta-1m-yarn, yarn*4"})
  void trainingGoesOn(String name, String scaling) throws IOException {
    JsonNode expected = Golden.named(GOLDEN.resolve("continued.json"), "runs", name);
    var hyper = expected.path("hyper_parameters");
    Map<String, String> settings = new HashMap<>();
    settings.put("start", base().toString());
    settings.put("gate", "model");
    settings.put("rope_theta", "1e6");
    settings.put("rope_scaling", scaling);
    settings.put("sequence_length", "" + TOKENS);
    var config = RunConfig.from(null, settings);
    List<Long> ids = new ArrayList<>();
    for (JsonNode row : expected.path("input_ids")) {
      assertEquals(TOKENS, row.size());
      row.forEach(id -> ids.add(id.asLong()));
    }
    var optimizer =
        new AdamW.Settings(
            hyper.path("beta1").asDouble(),
            hyper.path("beta2").asDouble(),
            hyper.path("eps").asDouble(),
            hyper.path("weight_decay").asDouble());
    try (var _ = Scope.open();
        var decoder = StartCheckpoint.of(config).begin(Precision.FLOAT32, Device.CPU);
        var trainer =
            new Trainer(
                decoder,
                new AdamW(optimizer, decoder.parameters(), _ -> true),
                new LearningRateSchedule.Cosine(0, 5, 1),
                hyper.path("lr").asDouble(),
                hyper.path("clip_norm").asDouble(),
                Objective.nextTokens(0),
                GradientExchange.none(decoder.parameters()),
                OptionalInt.empty())) {
      List<long[]> batch = List.of(ids.stream().mapToLong(Long::longValue).toArray());
      int number = 0;
      for (JsonNode step : expected.path("steps")) {
        String what = name + ", step " + ++number;
        var taken = trainer.step(number, batch, expected.path("input_ids").size(), TOKENS - 1);
        assertEquals(step.path("loss").asDouble(), taken.loss(), 1e-4, what);
        assertEquals(step.path("grad_norm").asDouble(), taken.gradientNorm(), 1e-3, what);
      }
      assertEquals(5, number);
      for (var sums : expected.path("final_parameters").properties()) {
        Golden.assertSums(sums.getValue(), decoder.parameters().get(sums.getKey()), sums.getKey());
      }
    }
  }

  private static void assertClose(float[] expected, float[] found, double share, String what) {
    assertEquals(expected.length, found.length, what);
    for (int i = 0; i < expected.length; i++) {
      assertEquals(expected[i], found[i], share * Math.abs(expected[i]), what + " at " + i);
    }
  }
}
