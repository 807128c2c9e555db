package dev.sluice.sink;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.TestData;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.checkpoint.SafetensorsFile;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.TinyDecoders;
import dev.sluice.gate.Gate;
import dev.sluice.operations.Precision;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class FirstTokenAttentionTest {
  @Test
  void floorsAreThoseOfThePaperReplication() {
    assertEquals(0.2745, FirstTokenAttention.uniformFloor(11, 0), 5e-5);
    assertEquals(0.0133, FirstTokenAttention.uniformFloor(512, 0), 5e-5);
    assertEquals(0.0093, FirstTokenAttention.uniformFloor(512, 4), 5e-5);
  }

  @Test
  void decoderIsMeasuredByDefinition() {
    long[][] windows = {
      TinyDecoders.tokens(23, 1), TinyDecoders.tokens(23, 2), TinyDecoders.tokens(9, 3)
    };
    try (var decoder = TinyDecoders.random(Gate.SDPA_HEADWISE)) {
      var measured = new FirstTokenAttention(4, 0.2);
      var batches =
          List.of(
              Observed.watch(decoder, measured, windows[0], windows[1]),
              Observed.watch(decoder, measured, windows[2]));
      var result = measured.result();
      assertEquals(3, result.sequences());
      double mean = 0;
      double excluding = 0;
      int sinks = 0;
      for (int layer = 0; layer < TinyDecoders.LAYERS; layer++) {
        double layerMean = 0;
        for (int head = 0; head < TinyDecoders.HEADS; head++) {
          double headMean = 0;
          for (Observed batch : batches) {
            var weights = batch.attention.get(layer);
            for (int b = 0; b < weights.size(0); b++) {
              double share = definition(weights, b, head, 0);
              headMean += share / 3;
              excluding += definition(weights, b, head, 4) / 36;
              sinks += share > 0.2 ? 1 : 0;
            }
          }
          assertEquals(headMean, result.layers().get(layer).heads().get(head), 1e-12);
          layerMean += headMean / 4;
        }
        assertEquals(layerMean, result.layers().get(layer).mean(), 1e-12);
        mean += layerMean / 3;
      }
      assertEquals(mean, result.mean(), 1e-12);
      assertEquals(excluding, result.meanExcluding(), 1e-12);
      assertEquals(sinks / 36.0, result.sinkRate(), 1e-12);
      assertTrue(sinks > 0 && sinks < 36, "a threshold that tells nothing: " + sinks);
    }
  }

  private static double definition(Observed.Values weights, int b, int head, int excluded) {
    double sum = 0;
    for (int i = excluded; i < weights.size(2); i++) {
      sum += weights.at(b, head, i, 0);
    }
    return sum / (weights.size(2) - excluded);
  }

  @Test
  void uniformAttentionIsTheFloor() {
    try (var decoder = TinyDecoders.random()) {
      makeUniform(decoder);
      var measured = new FirstTokenAttention();
      Observed.watch(decoder, measured, TinyDecoders.tokens(100, 1));
      Observed.watch(decoder, measured, TinyDecoders.tokens(50, 1));
      var result = measured.result();
      assertEquals(result.uniformFloor(), result.mean(), 1e-6);
      assertEquals(result.uniformFloorExcluding(), result.meanExcluding(), 1e-6);
      assertEquals(
          (FirstTokenAttention.uniformFloor(100, 0) + FirstTokenAttention.uniformFloor(50, 0)) / 2,
          result.uniformFloor(),
          1e-12);
      assertEquals(0, result.sinkRate());
    }
  }

  /// Queries of zero stay zero under their norm, so every score is the same.
  static void makeUniform(Decoder decoder) {
    try (var _ = Scope.withoutGradient()) {
      for (int layer = 0; layer < TinyDecoders.LAYERS; layer++) {
        decoder.parameters().get("model.layers." + layer + ".self_attn.q_proj.weight").fill(0);
      }
    }
  }

  @Test
  void sinkIsFoundWhereItIs() {
    int tokens = 10;
    float[] weights = new float[2 * 2 * tokens * tokens];
    for (int sequence = 0; sequence < 2; sequence++) {
      for (int head = 0; head < 2; head++) {
        for (int i = 0; i < tokens; i++) {
          int row = ((sequence * 2 + head) * tokens + i) * tokens;
          // Head 1 of layer 5 looks at the first token, of the second sequence a little less.
          float first = head == 1 ? 0.9f - 0.2f * sequence : 0;
          weights[row + i] = 1 - first;
          weights[row] += i == 0 ? 0 : first;
          weights[row] = i == 0 ? 1 : weights[row];
        }
      }
    }
    var measured = new FirstTokenAttention();
    try (var _ = Scope.open()) {
      measured.attention(5, 0, Tensor.of(weights, 2, 2, tokens, tokens));
    }
    var result = measured.result();
    var layer = result.layers().getFirst();
    assertEquals(5, layer.layer());
    assertEquals(0.5, result.sinkRate());
    assertEquals(0.8, layer.headsExcluding().get(1), 1e-6);
    assertEquals(0, layer.headsExcluding().get(0), 1e-6);
    assertEquals(0.82, layer.heads().get(1), 1e-6);
    assertEquals(0.1, layer.heads().get(0), 1e-6);
    assertEquals(0.4, result.meanExcluding(), 1e-6);
  }

  /// However the queries are cut into blocks, and whole passes one after the other.
  @Test
  void blocksOfQueriesAddUp() {
    var random = new Random(1);
    float[] weights = new float[2 * 3 * 9 * 9];
    for (int i = 0; i < weights.length; i++) {
      weights[i] = random.nextFloat();
    }
    var whole = new FirstTokenAttention();
    var cut = new FirstTokenAttention();
    try (var _ = Scope.open()) {
      var all = Tensor.of(weights, 2, 3, 9, 9);
      for (int pass = 0; pass < 2; pass++) {
        whole.attention(0, 0, all);
        cut.attention(0, 0, all.narrow(2, 0, 2));
        cut.attention(0, 2, all.narrow(2, 2, 6));
        cut.attention(0, 8, all.narrow(2, 8, 1));
      }
      assertEquals(whole.result(), cut.result());
      cut.attention(0, 0, all.narrow(2, 0, 2));
      assertThrows(IllegalArgumentException.class, () -> cut.attention(0, 3, all.narrow(2, 3, 6)));
    }
  }

  @Test
  void whatSaysNothingIsRefused() {
    try (var _ = Scope.open()) {
      float[] broken = new float[36];
      broken[30] = Float.NaN;
      var refusal =
          assertThrows(
              InvalidInputException.class,
              () -> new FirstTokenAttention().attention(2, 0, Tensor.of(broken, 1, 1, 6, 6)));
      assertEquals(
          "the attention weights of layer 2 hold NaN, so the model cannot be measured; check the"
              + " checkpoint, or run it in float32",
          refusal.getMessage());
      assertThrows(
          InvalidInputException.class,
          () -> new FirstTokenAttention().attention(0, 0, Tensor.of(new float[16], 1, 1, 4, 4)));
    }
    assertThrows(InvalidInputException.class, () -> new FirstTokenAttention(-1, 0.3));
    assertThrows(InvalidInputException.class, () -> new FirstTokenAttention(4, Double.NaN));
  }

  @ParameterizedTest
  @ValueSource(strings = {"paper-baseline", "paper-headwise", "paper-elementwise"})
  void referenceAttentionIsMeasuredByDefinition(String model) {
    var path = TestData.GOLDEN.resolve(model).resolve("golden.safetensors");
    var measured = new FirstTokenAttention();
    double expected = 0;
    int layers = 0;
    try (var file = SafetensorsFile.open(path);
        var _ = Scope.withoutGradient()) {
      for (; file.names().contains("attention." + layers); layers++) {
        var entry = file.entry("attention." + layers);
        long[] shape = shape(entry);
        var tensor = tensor(entry);
        measured.attention(layers, 0, tensor);
        var weights = new Observed.Values(layers, "", shape, tensor.floats());
        double layerMean = 0;
        for (int b = 0; b < shape[0]; b++) {
          for (int head = 0; head < shape[1]; head++) {
            double row = 0;
            for (int i = 0; i < shape[2]; i++) {
              row += weights.at(b, head, i, 0);
            }
            layerMean += row / (shape[0] * shape[1] * shape[2]);
          }
        }
        assertEquals(layerMean, measured.result().layers().get(layers).mean(), 1e-9);
        expected += layerMean;
      }
    }
    assertTrue(layers > 0, "no attention in " + path);
    assertEquals(expected / layers, measured.result().mean(), 1e-9);
  }

  /// Loaded and run here, the same models attend to the first token as the reference says.
  @ParameterizedTest
  @ValueSource(strings = {"paper-baseline", "paper-headwise", "paper-elementwise"})
  void loadedModelAttendsLikeTheReference(String model) {
    var directory = TestData.GOLDEN.resolve(model);
    var reference = new FirstTokenAttention();
    var own = new FirstTokenAttention();
    try (var file = SafetensorsFile.open(directory.resolve("golden.safetensors"));
        var decoder = ModelDirectory.load(directory, Precision.FLOAT32, Device.CPU, false);
        var _ = Scope.withoutGradient()) {
      for (int layer = 0; layer < decoder.config().layers().size(); layer++) {
        reference.attention(layer, 0, tensor(file.entry("attention." + layer)));
      }
      var _ = decoder.hiddenStates(tensor(file.entry("input_ids")), null, own);
    }
    assertEquals(reference.result().mean(), own.result().mean(), 1e-6);
    assertEquals(reference.result().meanExcluding(), own.result().meanExcluding(), 1e-6);
    assertEquals(reference.result().sinkRate(), own.result().sinkRate());
    for (int layer = 0; layer < own.result().layers().size(); layer++) {
      assertArrayEquals(
          doubles(reference.result().layers().get(layer).heads()),
          doubles(own.result().layers().get(layer).heads()),
          1e-5);
    }
  }

  private static double[] doubles(List<Double> values) {
    return values.stream().mapToDouble(Double::doubleValue).toArray();
  }

  private static Tensor tensor(SafetensorsFile.Entry entry) {
    return Tensor.of(entry.data(), entry.type(), shape(entry));
  }

  private static long[] shape(SafetensorsFile.Entry entry) {
    return entry.shape().stream().mapToLong(Long::longValue).toArray();
  }
}
