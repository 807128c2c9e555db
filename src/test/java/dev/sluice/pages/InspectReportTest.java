package dev.sluice.pages;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.TinyDecoders;
import dev.sluice.evaluation.HeldOutLoss;
import dev.sluice.operations.Precision;
import dev.sluice.provenance.RunManifest;
import dev.sluice.report.TextTable;
import dev.sluice.sink.SinkReport;
import dev.sluice.tensor.Device;
import dev.sluice.tokenizer.Tokenizer;
import dev.sluice.tokenizer.Tokenizers;
import dev.sluice.training.RunConfig;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;

class InspectReportTest {
  /// The same number for a layer in tables, words and figures, whichever layers have attention.
  @Test
  void layersOfAHybridCountFromZeroEverywhere() {
    var report = report("attention,gdn");
    var tables = report.tables().stream().map(table -> TextTable.of(table).toString()).toList();
    assertEquals(4, tables.size(), tables::toString); // attention, activations, gates, delta
    assertEquals(List.of("0", "2"), layers(tables.getFirst()));
    assertEquals(List.of("1", "3"), layers(tables.getLast()));
    String words = String.join("\n", report.summary());
    assertTrue(words.contains("Gated DeltaNet in 2 of 4 layers"), words);
    String page = report.page("sluice inspect").html();
    for (String shown :
        List.of(
            "count from 0",
            "2 × 4 (2), 2 × 4 value heads (2 of keys) of Gated DeltaNet",
            "Decay by head",
            "State norm by head",
            "layer 0",
            "layer 3")) {
      assertTrue(page.contains(shown), shown);
    }
    assertFalse(page.contains("layer 4"), "there are four layers");
  }

  /// What stands in the first column.
  private static List<String> layers(String table) {
    return table
        .lines()
        .map(line -> line.strip().split(" ")[0])
        .filter(word -> word.matches("\\d+"))
        .toList();
  }

  @Test
  void attentionAloneHasNothingOfDeltaNet() {
    var report = report("attention");
    assertEquals(3, report.tables().size());
    assertFalse(report.page("sluice inspect").html().contains("Gated DeltaNet"));
  }

  @Test
  void tokensThatAttentionGoesToAreShown() {
    var report = report("attention", Tokenizers.load("bytes"));
    var tables = report.tables().stream().map(table -> TextTable.of(table).toString()).toList();
    String all = String.join("\n", tables);
    assertTrue(all.contains("Attention to the start token, wherever it stands"), all);
    assertTrue(all.contains("Tokens that heads prefer"), all);
    String words = String.join("\n", report.summary());
    assertTrue(words.contains("Start token, wherever it stands: "), words);
    assertTrue(words.contains("Sink tokens, first positions apart: "), words);
    String page = report.page("sluice inspect").html();
    assertTrue(page.contains("Tokens that each head prefers"));
    assertFalse(report("attention").page("sluice inspect").html().contains("Sink tokens"));
  }

  private static InspectReport report(String pattern) {
    return report(pattern, null);
  }

  /// @param tokenizer null to leave out which tokens attention goes to
  private static InspectReport report(String pattern, @Nullable Tokenizer tokenizer) {
    var config =
        RunConfig.from(
            null,
            Map.of(
                "hidden_size", "32",
                "intermediate_size", "32",
                "layers_pattern", pattern,
                "gate", "sdpa-headwise"));
    try (var decoder =
        Decoder.initialize(
            config.decoder(TinyDecoders.VOCABULARY), Precision.FLOAT32, Device.CPU, 7)) {
      return new InspectReport(
          new InspectResult(
              "a model",
              "nowhere",
              decoder.config(),
              new InspectResult.Text("a text", 1000, List.of()),
              new HeldOutLoss(100, 39, 80),
              SinkReport.measure(
                  decoder,
                  List.of(
                      tokenizer == null ? TinyDecoders.tokens(40, 1) : TinyDecoders.tokens(200, 1)),
                  tokenizer,
                  _ -> {}),
              List.of(),
              new RunManifest(
                  "commit",
                  List.of("inspect"),
                  Map.of(),
                  Map.of(),
                  "fingerprint",
                  "none",
                  RunManifest.Machine.current(),
                  Instant.EPOCH)));
    }
  }
}
