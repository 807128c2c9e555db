import dev.sluice.corpus.HeldOutReader;
import dev.sluice.retrofit.Measured;
import dev.sluice.retrofit.Rounding;
import dev.sluice.sink.SinkReport;
import dev.sluice.training.RunConfig;
import dev.sluice.training.RunCorpus;
import dev.sluice.training.StartCheckpoint;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Map;
import java.util.OptionalInt;
import java.util.stream.Collectors;

/// What `sluice retrofit` says of a model, for the model of every trial of a study that begins with a checkpoint, and first for
/// that checkpoint: a line of JSON each. ENDING names the trials,
/// such as seed1.
///
/// OMP_WAIT_POLICY=passive java --add-modules=jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
///   -cp "target/classes:$(cat target/class-path)" Moved.java STUDY [ENDING] > moved.jsonl
void main(String[] args) throws IOException {
  Path study = Path.of(args[0]);
  Path[] trials;
  try (var files = Files.list(study.resolve("trials"))) {
    trials = files.filter(file -> args.length < 2 || file.toString().endsWith(args[1])).sorted().toArray(Path[]::new);
  }
  var config = RunConfig.from(trials[0].resolve("config.toml"), Map.of());
  var tokenizer = RunCorpus.tokenizer(config, study.resolve("corpus"), true);
  var corpus = RunCorpus.prepare(config, tokenizer, study.resolve("corpus"), true, _ -> {});
  int length = config.batch().sequenceLength();
  var rule = config.batch().windowRule();
  var sample =
      new HeldOutReader(corpus.heldOut(), length, tokenizer, rule).sample(config.evaluation().heldOutWindows());
  var sinks = SinkReport.windows(corpus.heldOut(), length, tokenizer, rule, 8 * length);
  var text = new Measured.Text(sample.windows(), sample.bytes(), sinks, OptionalInt.empty());
  Path parent = Path.of(config.start().start());
  line("before", parent, null, text, config);
  for (Path trial : trials) {
    line(trial.getFileName().toString(), trial.resolve("checkpoints/step-%08d".formatted(config.optimization().steps())), parent, text, config);
  }
}

void line(String name, Path checkpoint, Path parent, Measured.Text text, RunConfig config) {
  var model =
      Measured.of(
          name, checkpoint, parent, text, config.computing().precisionOf(), config.computing().deviceOf(), _ -> {});
  IO.println(
      "{\"model\": \"%s\", \"loss\": %.6f, \"parent_kl\": %s, %s}"
          .formatted(
              name,
              model.loss().nats(),
              model.parentKl() == null ? "null" : "%.6f".formatted(model.parentKl()),
              Arrays.stream(Rounding.values())
                  .map(each -> "\"%s\": %.6f".formatted(each.name().toLowerCase(java.util.Locale.ROOT), model.damage(each)))
                  .collect(Collectors.joining(", "))));
}
