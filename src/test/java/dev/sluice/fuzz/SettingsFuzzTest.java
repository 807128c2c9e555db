package dev.sluice.fuzz;

import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.study.StudyFile;
import dev.sluice.tokenizer.Tokenizers;
import dev.sluice.training.RunConfig;
import dev.sluice.training.Trainable;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/// Settings in TOML, of a run and of a study.
class SettingsFuzzTest {
  @TempDir Path directory;

  @Test
  void settingsOfARun() throws IOException {
    RunConfig.DEFAULTS.write(directory);
    Path file = directory.resolve(RunConfig.FILE);
    byte[] good = Files.readAllBytes(file);
    var outcome =
        Fuzz.run(
            "config-toml",
            mutations -> mutations.tomlFile(good),
            input -> {
              Files.write(file, input);
              var config = RunConfig.from(file, Map.of());
              var _ = config.notes();
              if (config.text().tokenizer().equals("bytes")) {
                Trainable.require(config, Tokenizers.load("bytes"), 1);
              }
            });
    assertTrue(outcome.refused() > Fuzz.inputs() / 4 && outcome.read() > 0, outcome::toString);
  }

  @Test
  void studies() throws IOException {
    byte[] good =
        """
        steps = 400
        learning_rate = 3e-3
        data = "moby-dick"
        seeds = 5
        match = "parameters"
        [grid]
        learning_rate = [1e-3, 3e-3]
        batch_size = [4, 8]
        [[variant]]
        name = "no gate"
        gate = "none"
        [[variant]]
        name = "headwise, twice the key/value heads"
        gate = "sdpa-headwise"
        key_value_heads = 4
        published_perplexity = 5.8
        """
            .getBytes(StandardCharsets.UTF_8);
    Path file = directory.resolve("study.toml");
    var outcome =
        Fuzz.run(
            "study-toml",
            mutations -> mutations.tomlFile(good),
            input -> {
              Files.write(file, input);
              var study = StudyFile.read(file, RunConfig.DEFAULTS, Map.of());
              var _ = study.arms();
            });
    assertTrue(outcome.refused() > Fuzz.inputs() / 4 && outcome.read() > 0, outcome::toString);
  }
}
