package dev.sluice.training;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.gate.Gate;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class RunConfigTest {
  @TempDir private Path directory;

  @Test
  void whatIsWrittenIsReadBack() throws Exception {
    var config =
        RunConfig.from(
            null,
            Map.of(
                "gate", "sdpa-headwise+value-elementwise",
                "learning_rate", "1e-4",
                "seed", "9007199254740993",
                "sample_prompt", "say \"hi\"\n\\ é",
                "match_parameters", "true"));
    config.write(directory);
    assertEquals(config, RunConfig.from(directory.resolve(RunConfig.FILE), Map.of()));
    assertEquals(2, config.gates().size());
  }

  @Test
  void flagsWinOverTheFile() throws Exception {
    Path file = Files.writeString(directory.resolve("run.toml"), "steps = 7\nbatch_size = 3\n");
    var config = RunConfig.from(file, Map.of("steps", "9"));
    assertEquals(9, config.steps());
    assertEquals(3, config.batchSize());
    assertEquals(RunConfig.DEFAULTS.seed(), config.seed());
  }

  @Test
  void mistakesAreOneSentence() throws Exception {
    refused("stpes = 7", "unknown setting 'stpes'");
    refused("steps = \"many\"", "steps");
    refused("steps = 0", "steps cannot be 0");
    refused("steps = [", "not valid TOML");
    refused("held_out_share = 1.5", "held_out_share cannot be 1.5");
    assertTrue(
        assertThrows(InvalidInputException.class, () -> RunConfig.from(null, Map.of("steps", "x")))
            .getMessage()
            .contains("'x'"));
  }

  /// No file in UTF-8 holds half a character; every other is read back.
  @Test
  void textSettingsAreWholeCharacters() throws Exception {
    for (String setting : new String[] {"data", "text_field", "sample_prompt", "eos_token"}) {
      var e =
          assertThrows(
              InvalidInputException.class,
              () -> RunConfig.from(null, Map.of(setting, "a\uD83D b")));
      assertTrue(e.getMessage().contains("holds half a character"), e.getMessage());
      var config = RunConfig.from(null, Map.of(setting, "a\uD83D\uDE00\u0001\u007f\uffff b"));
      config.write(directory);
      assertEquals(config, RunConfig.from(directory.resolve(RunConfig.FILE), Map.of()));
    }
  }

  private void refused(String toml, String reason) throws Exception {
    Path file = Files.writeString(directory.resolve("bad.toml"), toml);
    var e = assertThrows(InvalidInputException.class, () -> RunConfig.from(file, Map.of()));
    assertTrue(e.getMessage().contains(reason), e.getMessage());
    assertTrue(e.getMessage().lines().count() == 1, e.getMessage());
  }

  @Test
  void sizesOverrideTheNamedModel() {
    var config =
        RunConfig.from(null, Map.of("hidden_size", "64", "layers", "2", "gate", "sdpa-headwise"));
    var decoder = config.decoder(300);
    assertEquals(64, decoder.hiddenSize());
    assertEquals(2, decoder.layers().size());
    assertEquals(300, decoder.vocabSize());
    assertEquals(List.of(Gate.SDPA_HEADWISE), decoder.attention().gates());
    assertThrows(
        InvalidInputException.class,
        () ->
            RunConfig.from(null, Map.of("attention_heads", "5", "key_value_heads", "2"))
                .decoder(256));
  }
}
