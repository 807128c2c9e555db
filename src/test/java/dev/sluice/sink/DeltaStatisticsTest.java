package dev.sluice.sink;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.TinyDecoders;
import dev.sluice.operations.Precision;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import dev.sluice.training.RunConfig;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class DeltaStatisticsTest {
  @TempDir Path directory;

  /// Two tokens, two heads; states of 2 × 1.
  @Test
  void meansAreOfTokensAndStatesOfHeads() {
    var statistics = new DeltaStatistics();
    try (var _ = Scope.open()) {
      float half = (float) Math.log(0.5);
      statistics.recurrence(
          3,
          Tensor.of(new float[] {0, half, half, half}, 1, 2, 2),
          Tensor.of(new float[] {0.25f, 1, 0.75f, 0}, 1, 2, 2),
          Tensor.of(new float[] {3, -4, 0, 2}, 1, 2, 2, 1));
    }
    var layer = statistics.result().layers().getFirst();
    assertEquals(3, layer.layer());
    assertEquals(0.75, layer.heads().get(0).decay(), 1e-7);
    assertEquals(0.5, layer.heads().get(1).decay(), 1e-7);
    assertEquals(0.5, layer.heads().get(0).rate());
    assertEquals(5, layer.heads().get(0).stateNorm());
    assertEquals(2, layer.heads().get(1).stateNorm());
    try (var _ = Scope.open()) {
      var one = Tensor.of(new float[] {0, 0}, 1, 1, 2);
      var broken = Tensor.of(new float[] {0, Float.NaN}, 1, 2, 1, 1);
      var e =
          assertThrows(
              InvalidInputException.class, () -> statistics.recurrence(3, one, one, broken));
      assertTrue(e.getMessage().contains("states of layer 3"), e::getMessage);
    }
  }

  /// A hybrid has sinks where it has attention and rates where it has not, in one report.
  @Test
  void aHybridIsMeasuredWhole() throws Exception {
    try (var decoder = hybrid("gdn,attention,gdn")) {
      var report = SinkReport.measure(decoder, List.of(TinyDecoders.tokens(40, 1)));
      assertEquals(4, report.layers());
      assertEquals(
          List.of(1), report.firstTokenAttention().layers().stream().map(l -> l.layer()).toList());
      assertEquals(List.of(0, 2, 3), report.deltaLayers().stream().map(l -> l.layer()).toList());
      for (var layer : report.deltaLayers()) {
        assertEquals(4, layer.heads().size());
        for (var head : layer.heads()) {
          assertTrue(head.decay() > 0 && head.decay() < 1, head::toString);
          assertTrue(head.rate() > 0 && head.rate() < 1, head::toString);
          assertTrue(head.stateNorm() > 0, head::toString);
        }
      }
      Path file = directory.resolve("sinks.json");
      report.write(file);
      assertEquals(report, SinkReport.read(file));
      String moved =
          Files.readString(file).replaceFirst("(\"delta_statistics\".*\"layer\":)0", "$11");
      Files.writeString(file, moved);
      var e = assertThrows(InvalidInputException.class, () -> SinkReport.read(file));
      assertTrue(e.getMessage().contains("none of Gated DeltaNet"), e::getMessage);
    }
    try (var linear = hybrid("gdn")) {
      var e =
          assertThrows(
              InvalidInputException.class,
              () -> SinkReport.measure(linear, List.of(TinyDecoders.tokens(40, 1))));
      assertTrue(e.getMessage().contains("no sinks"), e::getMessage);
    }
  }

  @Test
  void attentionAloneLeavesTheReportAsItWas() throws Exception {
    try (var decoder = TinyDecoders.random()) {
      var report = SinkReport.measure(decoder, List.of(TinyDecoders.tokens(40, 1)));
      Path file = directory.resolve("plain.json");
      report.write(file);
      assertTrue(!Files.readString(file).contains("delta_statistics"));
      assertEquals(report, SinkReport.read(file));
    }
  }

  private static Decoder hybrid(String pattern) {
    var config =
        RunConfig.from(
            null,
            Map.of("hidden_size", "32", "intermediate_size", "32", "layers_pattern", pattern));
    return Decoder.initialize(
        config.decoder(TinyDecoders.VOCABULARY), Precision.FLOAT32, Device.CPU, 7);
  }
}
