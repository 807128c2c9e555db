package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import dev.sluice.report.Numbers;
import dev.sluice.tokenizer.Tokenizers;
import dev.sluice.training.RunConfig;
import dev.sluice.training.TrainingRun;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.LocalDateTime;
import java.time.ZoneId;
import java.time.format.DateTimeFormatter;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/// `sluice train`: trains one model on the user's text.
@Command(
    name = "train",
    customSynopsis = {
      "sluice train [--data FILE] [OPTIONS]",
      "       sluice train --config FILE [OPTIONS]",
      "       sluice train --resume RUN"
    },
    description = {
      "Trains a decoder, gated or not, on your text; writes a run directory and prints samples.",
      "",
      "A file given with --config holds the same settings (batch_size for --batch-size); flags win"
          + " over it. The run directory keeps all settings in config.toml, which repeats the run."
          + " Ctrl-C saves and stops."
    },
    mixinStandardHelpOptions = true,
    sortOptions = false,
    footer = {
      "",
      "Examples:",
      "  ./sluice train --data book.txt --gate sdpa-headwise --steps 500",
      "  ./sluice train --data texts/ --tokenizer tokenizer.json --model small",
      "  ./sluice train --config run.toml --seed 2",
      "  ./sluice train --resume runs/NAME"
    })
final class TrainCommand implements Callable<Integer> {
  @Option(names = "--config", paramLabel = "FILE", description = "Settings in TOML.")
  private @Nullable Path file;

  @Option(
      names = "--output",
      paramLabel = "DIR",
      description = "The run directory to make. Default: runs/DATE-TIME-GATE.")
  private @Nullable Path output;

  @Option(
      names = "--resume",
      paramLabel = "DIR",
      description = "Go on with this run from its newest complete checkpoint.")
  private @Nullable Path resume;

  @Option(
      names = "--checkpoint",
      paramLabel = "NAME",
      description =
          "With --resume: go on from this checkpoint, such as step-00000100; later ones are set"
              + " aside.")
  private @Nullable String checkpoint;

  @Mixin private ThreadsOption threads = new ThreadsOption();

  @Spec private CommandSpec spec;

  @SuppressWarnings("NullAway.Init") // picocli sets the spec
  TrainCommand() {}

  @Override
  public Integer call() throws IOException {
    threads.apply();
    Map<String, String> given = SettingFlags.given(spec.commandLine().getParseResult());
    Path directory = resume;
    RunConfig config;
    if (directory != null) {
      if (!Files.isRegularFile(directory.resolve(RunConfig.FILE))) {
        throw new InvalidInputException(
            directory + " holds no " + RunConfig.FILE + ", so it is no run; name a run directory");
      }
      if (!given.isEmpty() || file != null || output != null) {
        throw new InvalidInputException(
            "--resume takes its settings from the run; leave out "
                + (given.isEmpty() ? "--config and --output" : given.keySet()));
      }
      config = RunConfig.from(directory.resolve(RunConfig.FILE), Map.of());
    } else if (checkpoint != null) {
      throw new InvalidInputException(
          "--checkpoint %s goes with --resume; name the run too".formatted(checkpoint));
    } else {
      config = RunConfig.from(file, given);
      directory = output != null ? output : freshDirectory(config);
      TrainingRun.requireNew(directory);
    }
    var tokenizer = Tokenizers.load(config.tokenizer());
    TrainingRun.requireTrainable(config, tokenizer);
    var origin = new TrainingRun.Origin(Version.commit(), commandLine());
    var corpus =
        TrainingRun.prepareCorpus(config, tokenizer, directory.resolve("corpus"), resume != null);
    Interruption.watch();
    var run =
        new TrainingRun(
            config, directory, origin, new TrainingProgress(config), Interruption::requested);
    var outcome =
        resume != null ? run.resume(corpus, tokenizer, checkpoint) : run.start(corpus, tokenizer);
    return report(config, outcome);
  }

  private List<String> commandLine() {
    return spec.commandLine().getParseResult().originalArgs();
  }

  private static Path freshDirectory(RunConfig config) {
    String time =
        LocalDateTime.now(ZoneId.systemDefault())
            .format(DateTimeFormatter.ofPattern("yyyyMMdd-HHmmss"));
    return Path.of("runs", time + "-" + config.gateNames().replace('*', 'x'));
  }

  private static int report(RunConfig config, TrainingRun.Outcome outcome) throws IOException {
    Path directory = outcome.directory();
    switch (outcome.ending()) {
      case STOPPED -> {
        Console.note(
            "Stopped after step %d of %d; everything is saved. Go on with: ./sluice train --resume %s"
                .formatted(outcome.steps(), config.steps(), directory));
        return 130;
      }
      case DIVERGED -> {
        Console.error(
            "Training diverged at step %d and stopped (%s); its batch and statistics are in %s; try a lower --learning-rate."
                .formatted(
                    outcome.steps() + 1,
                    outcome.checkpoint() == null
                        ? "no checkpoint was saved yet"
                        : "the last good checkpoint is " + outcome.checkpoint(),
                    outcome.failure()));
        return Main.FAILED;
      }
      case COMPLETE -> {
        Path page = RunReport.write(directory, config);
        var heldOut = outcome.heldOut();
        if (heldOut != null) {
          Console.print(
              "Held-out loss: %s bits per byte (%s nats per token), %s tokens/s."
                  .formatted(
                      Numbers.fixed(heldOut.bitsPerByte(), 4),
                      Numbers.fixed(heldOut.nats(), 4),
                      Numbers.count(Math.round(outcome.tokensPerSecond()))));
        }
        Console.print("Run:        " + directory);
        Console.print("Checkpoint: " + outcome.checkpoint());
        Console.print("Report:     " + page);
      }
    }
    return 0;
  }
}
