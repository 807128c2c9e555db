package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import dev.sluice.corpus.Corpus;
import dev.sluice.distributed.GradientExchange;
import dev.sluice.distributed.Heartbeat;
import dev.sluice.distributed.Ranks;
import dev.sluice.distributed.Replicas;
import dev.sluice.pages.RunReport;
import dev.sluice.report.Numbers;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.ProcessGroup.Store;
import dev.sluice.tokenizer.Tokenizer;
import dev.sluice.training.RunConfig;
import dev.sluice.training.RunCorpus;
import dev.sluice.training.RunDirectory;
import dev.sluice.training.Trainable;
import dev.sluice.training.TrainingRun;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.LocalDateTime;
import java.time.ZoneId;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
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
      "       sluice train --resume RUN [--steps N]"
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
      "  ./sluice train --resume runs/NAME",
      "  ./sluice train --nproc 2 --batch-size 16 --data book.txt"
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

  @Option(
      names = "--nproc",
      paramLabel = "N",
      description =
          "Train with N processes on this machine, each on its rows of every batch. Other launchers"
              + " set the variables of torchrun or Slurm instead.")
  private int nproc = 1;

  @Option(
      names = "--rank-timeout",
      paramLabel = "SECONDS",
      description =
          "End a job of several ranks when one has shown no sign of life for so long. Default:"
              + " ${DEFAULT-VALUE}.")
  private int rankTimeout = 60;

  @Mixin private ThreadsOption threads = new ThreadsOption();

  @Spec private CommandSpec spec;

  /// The run's directory, once it is known.
  private volatile @Nullable Path directory;

  @SuppressWarnings("NullAway.Init") // picocli sets the spec
  TrainCommand() {}

  @Override
  public Integer call() throws IOException {
    if (rankTimeout < 1) {
      throw new InvalidInputException(
          "--rank-timeout must be at least 1 second, not " + rankTimeout);
    }
    var ranks = Ranks.of(System.getenv());
    if (nproc != 1 && ranks.isAlone()) {
      return LocalRanks.run(nproc, withoutNproc(commandLine()), Duration.ofSeconds(rankTimeout));
    }
    threads.apply(ranks.localWorldSize());
    var config = settings();
    return ranks.isAlone() ? train(config, Replicas.alone()) : trainAsRank(config, ranks);
  }

  private RunConfig settings() {
    Map<String, String> given = SettingFlags.given(spec.commandLine().getParseResult());
    if (resume == null) {
      if (checkpoint != null) {
        throw new InvalidInputException(
            "--checkpoint %s goes with --resume; name the run too".formatted(checkpoint));
      }
      return RunConfig.from(file, given).pinnedWithData();
    }
    if (!Files.isRegularFile(resume.resolve(RunConfig.FILE))) {
      throw new InvalidInputException(
          resume + " holds no " + RunConfig.FILE + ", so it is no run; name a run directory");
    }
    var others = new ArrayList<>(given.keySet());
    others.remove("steps");
    if (!others.isEmpty() || file != null || output != null) {
      throw new InvalidInputException(
          "--resume takes its settings from the run, but for --steps; leave out %s, or start a new run with a changed copy of %s: --config FILE"
              .formatted(
                  others.isEmpty() ? "--config and --output" : others,
                  resume.resolve(RunConfig.FILE)));
    }
    return RunConfig.from(resume.resolve(RunConfig.FILE), given);
  }

  private static List<String> withoutNproc(List<String> arguments) {
    List<String> left = new ArrayList<>();
    for (int i = 0; i < arguments.size(); i++) {
      if (arguments.get(i).equals("--nproc")) {
        i++;
      } else if (!arguments.get(i).startsWith("--nproc=")) {
        left.add(arguments.get(i));
      }
    }
    return left;
  }

  /// Meets the other ranks and trains; what ends one ends all.
  private int trainAsRank(RunConfig settings, Ranks ranks) throws IOException {
    boolean cuda = !Device.parse(settings.computing().device()).equals(Device.CPU);
    var config =
        cuda && ranks.localRank() > 0
            ? settings.with(null, Map.of("device", "cuda:" + ranks.localRank()))
            : settings;
    var timeout = Duration.ofSeconds(rankTimeout);
    String prefix = "sluice/" + ranks.attempt();
    Store store;
    Store signs;
    try {
      store =
          Store.connect(
              ranks.masterAddress(),
              ranks.masterPort(),
              ranks.serves(),
              prefix,
              Replicas.LONGEST_WAIT);
      signs = Store.connect(ranks.masterAddress(), ranks.masterPort(), false, prefix, timeout);
    } catch (RuntimeException e) {
      throw new IOException(
          "rank %d of %d cannot meet the others at %s:%d (%s); check MASTER_ADDR and MASTER_PORT and that rank 0 runs"
              .formatted(
                  ranks.rank(),
                  ranks.worldSize(),
                  ranks.masterAddress(),
                  ranks.masterPort(),
                  String.valueOf(e.getMessage()).lines().findFirst().orElse("")),
          e);
    }
    try (store;
        signs;
        var heartbeat = new Heartbeat(ranks, signs, timeout, this::endBecause)) {
      try (var replicas = Replicas.join(ranks, store, cuda)) {
        return train(config, replicas);
      } catch (IOException | RuntimeException | Error e) {
        heartbeat.fail(Main.oneSentence(e), Replicas.isLostContact(e));
        throw e;
      }
    }
  }

  /// The last line of a rank that another one's end has ended.
  private void endBecause(String cause) {
    Console.error(
        cause
            + (directory == null
                ? "."
                : "; go on with: ./sluice train --resume " + directory + " --nproc N."));
    Runtime.getRuntime().halt(Main.FAILED); // it may be waiting for a rank that is gone
  }

  private int train(RunConfig config, Replicas replicas) throws IOException {
    Path place = resume;
    if (place == null) {
      Path made = output != null ? output : freshDirectory(config);
      place = Path.of(replicas.fromFirst("output", made.toString()));
      if (replicas.isFirst()) {
        TrainingRun.requireNew(place);
      }
    }
    directory = place;
    var tokenizer = RunCorpus.tokenizer(config, place.resolve("corpus"), resume != null);
    Trainable.require(config, tokenizer, replicas.size());
    GradientExchange.requireEven(config.batch().batchSize(), replicas.size());
    var origin = new TrainingRun.Origin(Version.commit(), commandLine());
    String doing = "sluice " + String.join(" ", commandLine());
    // From before the corpus is prepared: a second process must not wait for that to be told.
    try (var _ = replicas.isFirst() ? RunDirectory.own(place, doing) : null) {
      var corpus = corpus(replicas, config, tokenizer, place.resolve("corpus"));
      Interruption.watch();
      TrainingRun.Listener listener =
          replicas.isFirst() ? new TrainingProgress(config) : new TrainingRun.Listener() {};
      var run = new TrainingRun(config, place, origin, listener, Interruption::requested, replicas);
      var outcome =
          resume != null ? run.resume(corpus, tokenizer, checkpoint) : run.start(corpus, tokenizer);
      return replicas.isFirst() ? report(config, outcome) : code(outcome);
    }
  }

  /// Rank 0 prepares it and the others open it.
  private Corpus corpus(Replicas replicas, RunConfig config, Tokenizer tokenizer, Path place) {
    if (!replicas.isFirst()) {
      replicas.barrier();
      return RunCorpus.prepare(config, tokenizer, place, true, _ -> {});
    }
    var corpus = RunCorpus.prepare(config, tokenizer, place, resume != null, Console::note);
    replicas.barrier();
    return corpus;
  }

  private static int code(TrainingRun.Outcome outcome) {
    return switch (outcome.ending()) {
      case COMPLETE -> 0;
      case STOPPED -> 130;
      case DIVERGED -> Main.FAILED;
    };
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
                .formatted(outcome.steps(), config.optimization().steps(), directory));
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
