package dev.sluice.watch;

import dev.sluice.files.WholeFile;
import dev.sluice.provenance.RunManifest;
import dev.sluice.training.RunConfig;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Instant;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/// A run's directory as a trainer leaves it, written line by line without training.
final class RunFolder {
  private final Path directory;

  private RunFolder(Path directory) {
    this.directory = directory;
  }

  /// A run of so many steps, of which none is done.
  static RunFolder begin(Path directory, int steps) throws IOException {
    var config =
        RunConfig.from(null, Map.of("steps", String.valueOf(steps), "gate", "sdpa-elementwise"));
    return begin(directory, config);
  }

  static RunFolder begin(Path directory, RunConfig config) throws IOException {
    Files.createDirectories(directory.resolve("checkpoints"));
    new RunManifest(
            "test",
            List.of("train", "--data", "<b>book</b>.txt"),
            config.settings(),
            Map.of("seed", 1L),
            "fingerprint",
            "libtorch",
            RunManifest.Machine.current(),
            Instant.EPOCH)
        .write(directory.resolve(RunManifest.FILE_NAME));
    config.write(directory);
    return new RunFolder(directory);
  }

  Path path() {
    return directory;
  }

  /// Appends steps with a falling loss, and an evaluation after each tenth.
  void steps(int first, int last) throws IOException {
    for (int step = first; step <= last; step++) {
      metrics(
          "{\"step\":%d,\"gradient_norm\":1.5,\"learning_rate\":0.001,\"loss\":%.4f}\n"
              .formatted(step, loss(step)));
      append(
          "timings.jsonl",
          "{\"step\":%d,\"resident_bytes\":1,\"seconds\":0.25,\"tokens_per_second\":4096.0}\n"
              .formatted(step));
      if (step % 10 == 0) {
        metrics(
            "{\"step\":%d,\"first_token_attention\":0.%03d,\"held_out_bits_per_byte\":%.4f,\"largest_activation\":%d.5,\"mean_gate_score\":0.25}\n"
                .formatted(step, step, loss(step) + 1, step));
      }
    }
  }

  static double loss(int step) {
    return 3 + 2.0 / step;
  }

  void metrics(String text) throws IOException {
    append("metrics.jsonl", text);
  }

  private void append(String name, String text) throws IOException {
    Files.writeString(
        directory.resolve(name),
        String.format(Locale.ROOT, "%s", text),
        StandardOpenOption.CREATE,
        StandardOpenOption.APPEND);
  }

  /// Keeps the steps up to one, as a run that is resumed does.
  void cutAfter(int step) throws IOException {
    for (String name : List.of("metrics.jsonl", "timings.jsonl")) {
      Path file = directory.resolve(name);
      var kept =
          Files.readString(file)
              .lines()
              .filter(
                  line ->
                      line.endsWith("}")
                          && Integer.parseInt(line.replaceAll("\\D*(\\d+).*", "$1")) <= step)
              .toList();
      WholeFile.write(file, String.join("\n", kept) + "\n");
    }
  }
}
