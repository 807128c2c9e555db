package dev.sluice.sink;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.TinyDecoders;
import dev.sluice.gate.Gate;
import dev.sluice.tensor.Scope;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class SinkReportTest {
  private static final List<long[]> WINDOWS =
      List.of(TinyDecoders.tokens(40, 1), TinyDecoders.tokens(11, 2));

  @TempDir Path directory;

  @Test
  void reportJoinsWhatEveryProbeSees() {
    try (var decoder = TinyDecoders.random(Gate.SDPA_HEADWISE)) {
      var first = new FirstTokenAttention();
      var massive = new MassiveActivation();
      var gates = new GateStatistics();
      var map = new AttentionMap();
      for (long[] window : WINDOWS) {
        Observed.watch(decoder, first, window);
        Observed.watch(decoder, massive, window);
        Observed.watch(decoder, gates, window);
        Observed.watch(decoder, map, window);
      }
      var report = SinkReport.measure(decoder, WINDOWS);
      assertEquals(2, report.windows());
      assertEquals(11, report.shortestWindow());
      assertEquals(40, report.longestWindow());
      assertEquals(first.result(), report.firstTokenAttention());
      assertEquals(massive.result(), report.massiveActivation());
      assertEquals(gates.result(), report.gateStatistics());
      assertEquals(map.result(), report.attentionMap());
      assertEquals(report, SinkReport.measure(decoder, WINDOWS));
    }
  }

  @Test
  void shortWindowsAreWarnedAbout() {
    try (var decoder = TinyDecoders.random()) {
      var warnings = SinkReport.measure(decoder, WINDOWS).warnings();
      assertEquals(1, warnings.size());
      assertTrue(
          warnings.getFirst().contains("11 tokens") && warnings.getFirst().contains("0.2745"),
          warnings.getFirst());
      assertEquals(
          List.of(), SinkReport.measure(decoder, List.of(TinyDecoders.tokens(512, 1))).warnings());
    }
  }

  @Test
  void fileHoldsTheWholeReport() throws IOException {
    Path file = directory.resolve("sinks.json");
    for (Gate[] gates : new Gate[][] {{}, {Gate.SDPA_ELEMENTWISE}}) {
      try (var decoder = TinyDecoders.random(gates)) {
        var report = SinkReport.measure(decoder, WINDOWS);
        report.write(file);
        assertEquals(report, SinkReport.read(file));
        assertTrue(Files.readString(file).contains("\"uniform_floor_excluding\":"));
      }
    }
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "sdpa-elementwise-shared",
        "sdpa-headwise-shared",
        "value-elementwise",
        "key-headwise",
        "dense-elementwise"
      })
  void everyGateIsReported(String gate) throws IOException {
    Path file = directory.resolve("sinks.json");
    try (var decoder = TinyDecoders.random(Gate.parse(gate))) {
      var report = SinkReport.measure(decoder, WINDOWS);
      report.write(file);
      assertEquals(report, SinkReport.read(file));
    }
  }

  /// A residual stream of zeros has the ratio 0/0.
  @Test
  void fileHoldsWhatIsNoNumber() throws IOException {
    try (var decoder = TinyDecoders.random()) {
      try (var _ = Scope.withoutGradient()) {
        decoder.parameters().get("model.embed_tokens.weight").fill(0);
      }
      var report = SinkReport.measure(decoder, WINDOWS);
      assertTrue(Double.isNaN(report.massiveActivation().residuals().getFirst().ratio()));
      Path file = directory.resolve("sinks.json");
      report.write(file);
      assertEquals(report, SinkReport.read(file));
    }
  }

  @Test
  void fileThatIsNoReportIsRefused() throws IOException {
    refuses("does not exist", () -> SinkReport.read(directory.resolve("missing.json")));
    Path file = directory.resolve("sinks.json");
    for (String text : new String[] {"", "{}", "[1]", "{\"windows\":1", "{\"windows\":\"x\"}"}) {
      Files.writeString(file, text);
      refuses("measure the model again", () -> SinkReport.read(file));
    }
  }

  @Test
  void whatCannotBeMeasuredIsRefused() {
    try (var decoder = TinyDecoders.random()) {
      refuses("no windows", () -> SinkReport.measure(decoder, List.of()));
      refuses(
          "a window of 4 tokens",
          () -> SinkReport.measure(decoder, List.of(TinyDecoders.tokens(4, 1))));
      refuses(
          "token id 19", () -> SinkReport.measure(decoder, List.of(new long[] {1, 2, 3, 4, 19})));
      try (var _ = Scope.withoutGradient()) {
        decoder.parameters().get("model.layers.2.self_attn.q_norm.weight").fill(Double.NaN);
      }
      refuses("attention weights of layer 2", () -> SinkReport.measure(decoder, WINDOWS));
    }
  }

  private static void refuses(String words, Runnable attempt) {
    var refusal = assertThrows(InvalidInputException.class, attempt::run);
    assertTrue(refusal.getMessage().contains(words), refusal.getMessage());
  }
}
