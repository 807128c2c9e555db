package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.Experts;
import dev.sluice.decoder.Recompute;
import dev.sluice.files.WholeFile;
import dev.sluice.gate.Gate;
import dev.sluice.kernel.Threads;
import dev.sluice.operations.Precision;
import dev.sluice.optimizer.Optimizer;
import dev.sluice.provenance.RunManifest;
import dev.sluice.report.Cell;
import dev.sluice.report.Numbers;
import dev.sluice.report.Progress;
import dev.sluice.report.RemainingTime;
import dev.sluice.report.Table;
import dev.sluice.report.TextTable;
import dev.sluice.statistics.Statistics;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.Libtorch;
import dev.sluice.training.ResidentMemory;
import dev.sluice.training.RunConfig;
import dev.sluice.training.StepProfile;
import dev.sluice.training.TrainingBenchmark;
import dev.sluice.training.TrainingBenchmark.Arm;
import dev.sluice.training.TrainingBenchmark.Measured;
import dev.sluice.training.TrainingBenchmark.Shape;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;
import tools.jackson.databind.PropertyNamingStrategies;
import tools.jackson.databind.SerializationFeature;
import tools.jackson.databind.json.JsonMapper;

/// `sluice bench train`: tokens per second of a shape, and what a gate costs.
@Command(
    name = "train",
    description = {
      "Measures training steps on random tokens: tokens per second, their spread, memory, and the"
          + " share of the rate at which this machine multiplies matrices.",
      "",
      "Several gates, precisions, optimizers or counts of experts take their steps in turn; each is"
          + " compared with the first, round by round. Measure one alone for its memory: the peak"
          + " is the whole process's. A card's is each one's own: what its tensors take at most,"
          + " which is less than the card has in use."
    },
    mixinStandardHelpOptions = true,
    sortOptions = false,
    footer = {
      "",
      "Examples:",
      "  ./sluice bench train",
      "  ./sluice bench train --shape 128,4,4,2,384,256,256,16 --precision float32",
      "  ./sluice bench train --gate none,sdpa-elementwise,sdpa-headwise --match-parameters --steps"
          + " 30",
      "  ./sluice bench train --experts 8,32,128 --experts-per-token 2 --shape"
          + " 256,4,4,2,256,256,512,8",
      "  ./sluice bench train --layers-pattern gdn,gdn,gdn,attention --shape"
          + " 384,8,6,2,1024,256,2048,4",
      "  ./sluice bench train --profile --json bench.json",
      "  ./sluice bench train --device cuda --shape 768,12,12,4,2048,4096,1024,16"
    })
final class BenchTrainCommand implements Callable<Integer> {
  /// The compiler has work to do, however long the first rounds take.
  private static final int WARM_UP_ROUNDS = 3;

  private static final int PROFILED_STEPS = 3;

  private static final long MOST_TOKENS = 1 << 24;
  private static final double MOST_PARAMETERS = 1e11;

  @Option(
      names = "--shape",
      paramLabel = "SIZES",
      description =
          "D,LAYERS,HEADS,KEY_VALUE_HEADS,FFN,VOCABULARY,TOKENS,BATCH. Default: ${DEFAULT-VALUE}.")
  private String shape = "384,8,6,2,1024,256,512,16";

  @Option(
      names = "--gate",
      paramLabel = "GATES",
      description =
          "Names as in train, separated by commas; none for no gate. Default: ${DEFAULT-VALUE}.")
  private String gates = "sdpa-elementwise";

  @Option(
      names = "--precision",
      paramLabel = "P",
      description = "bfloat16, float32, or both with a comma. Default: ${DEFAULT-VALUE}.")
  private String precisions = "bfloat16";

  @Option(
      names = "--device",
      paramLabel = "DEVICE",
      description = "cpu, cuda, cuda:INDEX or auto, as in train. Default: ${DEFAULT-VALUE}.")
  private String device = "auto";

  @Option(
      names = "--optimizer",
      paramLabel = "NAMES",
      split = ",",
      description = "adamw, muon, or both with a comma. Default: ${DEFAULT-VALUE}.")
  private List<String> optimizers = List.of("adamw");

  @Option(
      names = "--experts",
      paramLabel = "COUNTS",
      split = ",",
      description = "Experts of a feed-forward layer, each of width FFN; several with commas.")
  private @Nullable List<Integer> experts;

  @Option(
      names = "--experts-per-token",
      paramLabel = "K",
      description = "How many experts a token goes through. Default: ${DEFAULT-VALUE}.")
  private int expertsPerToken = 2;

  @Option(
      names = "--layers-pattern",
      paramLabel = "WORDS",
      description =
          "What mixes tokens in each block, as in train: attention, sliding, gdn. Default:"
              + " ${DEFAULT-VALUE}.")
  private String layersPattern = "attention";

  @Option(
      names = "--sliding-window",
      paramLabel = "KEYS",
      description =
          "How many keys a query sees, as in train; 0 for all. Default: ${DEFAULT-VALUE}.")
  private int slidingWindow;

  @Option(
      names = "--recompute",
      paramLabel = "WHAT",
      description = "none, or blocks, as in train. Default: ${DEFAULT-VALUE}.")
  private String recompute = "none";

  @Option(
      names = "--match-parameters",
      description =
          "Narrow the feed-forward width, in eights, so that gated models are as large as ungated"
              + " ones.")
  private boolean matchParameters;

  @Option(
      names = "--steps",
      paramLabel = "N",
      description = "Measured steps of each, after the warm-up. Default: ${DEFAULT-VALUE}.")
  private int steps = 10;

  @Option(
      names = "--warm-up",
      paramLabel = "SECONDS",
      description =
          "Steps before the measured ones, for at least this long and three of each. Default:"
              + " ${DEFAULT-VALUE}.")
  private double warmUpSeconds = 8;

  @Option(
      names = "--turns",
      description =
          "Take a step for each line on standard input and answer with its seconds, until the input"
              + " ends: so another program's steps can be measured in turn.")
  private boolean turns;

  @Option(names = "--profile", description = "Also show where a step's time goes.")
  private boolean profile;

  @Option(
      names = "--json",
      paramLabel = "FILE",
      description = "Also write the numbers, with a manifest, to this file.")
  private @Nullable Path json;

  @Mixin private ThreadsOption threads = new ThreadsOption();

  @Spec private CommandSpec spec;

  @SuppressWarnings("NullAway.Init") // picocli sets the spec
  BenchTrainCommand() {}

  @Override
  public Integer call() throws IOException {
    if (steps < 1) {
      throw new InvalidInputException("--steps must be at least 1, not " + steps);
    }
    if (!(warmUpSeconds >= 0 && warmUpSeconds < Double.POSITIVE_INFINITY)) {
      throw new InvalidInputException("--warm-up must be 0 seconds or more, not " + warmUpSeconds);
    }
    var sizes = Shape.parse(shape);
    requireModest(sizes);
    var arms = arms(sizes);
    var again = Recompute.parse(recompute);
    if (again != Recompute.NONE && experts != null) {
      throw new InvalidInputException(
          "--recompute %s does not go with --experts; leave one of them out".formatted(recompute));
    }
    if (json != null) {
      requireWritable(json);
    }
    threads.apply();
    if (profile) {
      StepProfile.prepare();
    }
    var on = Device.parse(device);
    var startedAt = Instant.now();
    Interruption.watch();
    Map<Precision, Double> rates = new EnumMap<>(Precision.class);
    arms.forEach(
        arm ->
            rates.computeIfAbsent(
                arm.precision(), precision -> TrainingBenchmark.productRate(precision, on)));
    try (var benchmark = new TrainingBenchmark(sizes, arms, again, on)) {
      int warmUp = turns ? answer(benchmark) : run(benchmark);
      var measured = benchmark.measured(warmUp);
      if (measured.getFirst().stepSeconds().length == 0) {
        Console.note("Stopped during the warm-up; nothing was measured.");
        return 130;
      }
      long peak = ResidentMemory.peak();
      Console.print(TextTable.of(table(sizes, measured, rates, peak, on)).toString());
      Map<String, StepProfile> profiles = new LinkedHashMap<>();
      for (int i = 0; profile && i < arms.size() && !Interruption.requested(); i++) {
        int arm = i;
        var recorded = StepProfile.record(PROFILED_STEPS, () -> benchmark.step(arm));
        String name = "gate " + arms.get(i).gate() + ", " + word(arms.get(i).precision());
        profiles.put(name, recorded);
        Console.print(TextTable.of(table(name, recorded, on)).toString());
      }
      if (json != null) {
        write(json, sizes, measured, rates, peak, profiles, on, startedAt);
      }
    }
    return Interruption.requested() ? 130 : 0;
  }

  /// Refuses sizes whose products no machine holds, before they are computed.
  private void requireModest(Shape sizes) {
    if (sizes.tokensPerStep() > MOST_TOKENS) {
      throw new InvalidInputException(
          "--shape %s has %d tokens a step, more than the %d that are measured at once; make TOKENS or BATCH smaller"
              .formatted(shape, sizes.tokensPerStep(), MOST_TOKENS));
    }
    int most = experts == null ? 1 : experts.stream().mapToInt(count -> count).max().orElse(1);
    double ofLayer =
        4.0 * sizes.hiddenSize() * sizes.hiddenSize()
            + 3.0 * sizes.hiddenSize() * sizes.intermediateSize() * Math.max(1, most);
    double parameters = sizes.layers() * ofLayer + (double) sizes.vocabSize() * sizes.hiddenSize();
    if (parameters > MOST_PARAMETERS) {
      throw new InvalidInputException(
          "--shape %s makes a model of about %s parameters, more than can be trained here; make it smaller"
              .formatted(shape, Numbers.scaled(parameters)));
    }
  }

  /// Refuses a file that could not be written when the measurement is done.
  private static void requireWritable(Path file) {
    Path directory = file.toAbsolutePath().getParent();
    if (directory == null || !Files.isWritable(directory) || Files.isDirectory(file)) {
      throw new InvalidInputException(
          "--json %s cannot be written; name a file in a directory that exists and is writable"
              .formatted(file));
    }
    WholeFile.requireReplaceable(file);
  }

  private List<Arm> arms(Shape sizes) {
    var arms = new ArrayList<Arm>();
    for (String precision : precisions.split(",")) {
      for (String name : gates.split(",")) {
        if (experts == null) {
          arms.addAll(arms(name.strip(), precision, sizes, Experts.NONE));
          continue;
        }
        for (int count : experts) {
          var mixture =
              new Experts(
                  count,
                  expertsPerToken,
                  RunConfig.DEFAULTS.shape().expertBalance(),
                  RunConfig.DEFAULTS.shape().routerZ());
          arms.addAll(arms(name.strip(), precision, sizes, mixture));
        }
      }
    }
    return arms;
  }

  /// One for each optimizer.
  private List<Arm> arms(String name, String precision, Shape sizes, Experts mixture) {
    boolean gated = !name.equals("none");
    var ungated = sizes.decoder(layersPattern, slidingWindow).with(mixture);
    var config =
        gated ? ungated.with(Arrays.stream(name.split("\\+")).map(Gate::parse).toList()) : ungated;
    var matched =
        gated && matchParameters ? config.matchingParameters(ungated.parameterCount(), 8) : config;
    String gate = experts == null ? name : name + ", " + mixture.count() + " experts";
    return optimizers.stream()
        .map(word -> Optimizer.Kind.parse(word.strip()))
        .map(
            kind ->
                new Arm(
                    kind == Optimizer.Kind.ADAMW ? gate : gate + ", " + kind.word(),
                    Precision.parse(precision.strip()),
                    matched,
                    kind))
        .toList();
  }

  /// Warms up and measures; gives the rounds of the warm-up.
  private int run(TrainingBenchmark benchmark) {
    long began = System.nanoTime();
    int warmUp = 0;
    do {
      benchmark.round();
      warmUp++;
    } while (!Interruption.requested()
        && (warmUp < WARM_UP_ROUNDS || seconds(began) < warmUpSeconds));
    var remaining = new RemainingTime();
    long measuring = System.nanoTime();
    remaining.observe(0, Duration.ZERO);
    for (int round = 1; round <= steps && !Interruption.requested(); round++) {
      benchmark.round();
      var elapsed = Duration.ofNanos(System.nanoTime() - measuring);
      remaining.observe(round, elapsed);
      if (seconds(measuring) > 2) {
        Console.progress(
            new Progress(
                "round",
                round,
                steps,
                elapsed,
                remaining.remaining(steps).orElse(null),
                List.of()));
      }
    }
    return warmUp;
  }

  /// A round for each line of standard input; gives the rounds of the warm-up.
  private int answer(TrainingBenchmark benchmark) throws IOException {
    var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    while (!Interruption.requested() && lines.readLine() != null) {
      long began = System.nanoTime();
      benchmark.round();
      Console.print(Numbers.fixed(seconds(began), 6));
    }
    return WARM_UP_ROUNDS;
  }

  private static double seconds(long began) {
    return (System.nanoTime() - began) / 1e9;
  }

  private static String word(Precision precision) {
    return precision.elementType().name().toLowerCase(Locale.ROOT);
  }

  private Table table(
      Shape sizes, List<Measured> measured, Map<Precision, Double> rates, long peak, Device on) {
    boolean several = measured.size() > 1;
    var columns =
        new ArrayList<>(
            List.of(
                "gate",
                "precision",
                "parameters",
                "tokens/s",
                "step, ms",
                "fastest",
                "slowest",
                "GFLOP/s",
                "share of product rate",
                several ? "time, ratio to first" : "peak memory" + ofHost(on) + ", MB"));
    var first = measured.getFirst();
    if (first.devicePeak().isPresent()) {
      columns.add("peak memory of the card, MB");
    }
    var table =
        Table.titled(
                "Training steps of %s, %s tokens each, on %s"
                    .formatted(shape, sizes.tokensPerStep(), on))
            .columns(columns.toArray(String[]::new));
    for (var one : measured) {
      double[] ms = Arrays.stream(one.stepSeconds()).map(s -> s * 1e3).sorted().toArray();
      double flops = flops(sizes, one);
      double[] ratios = one.ratios(first);
      var cells =
          new ArrayList<>(
              List.of(
                  Cell.of(one.arm().gate()),
                  Cell.of(word(one.arm().precision())),
                  Cell.of(one.arm().config().parameterCount()),
                  Cell.of(Math.round(sizes.tokensPerStep() / one.medianSeconds())),
                  Cell.of(one.medianSeconds() * 1e3, 1),
                  Cell.of(ms[0], 1),
                  Cell.of(ms[ms.length - 1], 1),
                  Cell.of(flops / 1e9, 0),
                  Cell.percent(flops / rate(rates, one), 0),
                  !several
                      ? Cell.of(peak / 1e6, 0)
                      : ratios.length > 1
                          ? Cell.interval(Statistics.mean(ratios), Statistics.interval95(ratios))
                          : Cell.of(ratios[0], 3)));
      one.devicePeak().ifPresent(bytes -> cells.add(Cell.of(bytes / 1e6, 0)));
      table = table.row(cells);
    }
    int size = TrainingBenchmark.productSize(on);
    for (var rate : rates.entrySet()) {
      table =
          table.footnote(
              "Matrix products in %s: %s GFLOP/s%s (%d × %d × %d, median)."
                  .formatted(
                      word(rate.getKey()),
                      Numbers.fixed(rate.getValue() / 1e9, 0),
                      on.equals(Device.CPU) ? " with %d threads".formatted(Threads.count()) : "",
                      size,
                      size,
                      size));
    }
    return table.footnote(
        "%d measured steps of each; median step. First step, with a cold virtual machine: %s s.%s"
            .formatted(
                first.stepSeconds().length,
                Numbers.fixed(first.firstStepSeconds(), 1),
                several
                    ? " Ratios are means over rounds with 95 % intervals; peak memory"
                        + ofHost(on)
                        + " of all together: "
                        + Numbers.fixed(peak / 1e6, 0)
                        + " MB."
                    : ""));
  }

  /// What memory that is of the whole process, beside a device's, which is each model's.
  private static String ofHost(Device on) {
    return on.equals(Device.CPU) ? "" : " of the host";
  }

  private static double flops(Shape sizes, Measured one) {
    return one.arm().config().trainingFlopsPerToken(sizes.sequenceLength())
        * sizes.tokensPerStep()
        / one.medianSeconds();
  }

  private static double rate(Map<Precision, Double> rates, Measured one) {
    return rates.getOrDefault(one.arm().precision(), Double.NaN);
  }

  private static Table table(String name, StepProfile profile, Device on) {
    var table =
        Table.titled("Where a step's time goes: " + name)
            .columns("operation", "pass", "ms", "share");
    for (var share : profile.operations()) {
      table =
          table.row(
              Cell.of(share.operation()),
              Cell.of(share.pass()),
              Cell.of(share.seconds() * 1e3, 1),
              Cell.percent(share.seconds() / profile.stepSeconds(), 1));
    }
    double rest = profile.restSeconds();
    var traffic = profile.traffic();
    table =
        table
            .row(
                Cell.of("everything else"),
                Cell.of(""),
                Cell.of(rest * 1e3, 1),
                Cell.percent(rest / profile.stepSeconds(), 1))
            .footnote(
                ("Between Java and libtorch in a step: %s results, numbers read back %s times and"
                        + " brought %s times; the largest tensor of these has %s numbers.")
                    .formatted(
                        Numbers.fixed(traffic.results(), 0),
                        Numbers.fixed(traffic.readBacks(), 0),
                        Numbers.fixed(traffic.uploads(), 0),
                        Numbers.count(traffic.largestResult())));
    if (!on.equals(Device.CPU)) {
      return table.footnote(
          "Times are those of this thread, which a device works behind; it waits where numbers are"
              + " read back.");
    }
    return table.footnote(
        "Of the threads' time, matrix products take %s, at %s GFLOP/s of all threads together."
            .formatted(
                Numbers.percent(
                    profile.productSeconds() / (profile.stepSeconds() * Threads.count()), 0),
                Numbers.fixed(
                    2
                        * profile.productMultiplications()
                        / profile.productSeconds()
                        * Threads.count()
                        / 1e9,
                    0)));
  }

  private void write(
      Path file,
      Shape sizes,
      List<Measured> measured,
      Map<Precision, Double> rates,
      long peak,
      Map<String, StepProfile> profiles,
      Device on,
      Instant startedAt)
      throws IOException {
    var arms = new ArrayList<Map<String, Object>>();
    for (var one : measured) {
      Map<String, Object> arm = new LinkedHashMap<>();
      arm.put("gate", one.arm().gate());
      arm.put("precision", word(one.arm().precision()));
      arm.put("optimizer", one.arm().optimizer().word());
      arm.put("intermediate_size", one.arm().config().feedForward().intermediateSize());
      arm.put("parameters", one.arm().config().parameterCount());
      arm.put("tokens_per_second", sizes.tokensPerStep() / one.medianSeconds());
      arm.put("step_seconds", one.stepSeconds());
      arm.put("first_step_seconds", one.firstStepSeconds());
      arm.put("loss", one.loss());
      arm.put("flops_per_second", flops(sizes, one));
      arm.put("product_flops_per_second", rate(rates, one));
      arm.put("time_ratios_to_first", one.ratios(measured.getFirst()));
      one.devicePeak().ifPresent(bytes -> arm.put("peak_device_bytes", bytes));
      arms.add(arm);
    }
    Map<String, Object> all = new LinkedHashMap<>();
    all.put("shape", sizes);
    all.put("device", on.toString());
    all.put("arms", arms);
    all.put("peak_resident_bytes", peak);
    all.put("profiles", profiles);
    all.put("manifest", manifest(startedAt));
    var json = // not a constant: every command's start would wait for the library
        JsonMapper.builder()
            .propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE)
            .enable(SerializationFeature.INDENT_OUTPUT)
            .build();
    WholeFile.write(file, json.writeValueAsString(all) + "\n");
  }

  private RunManifest manifest(Instant startedAt) {
    Map<String, Object> config = new LinkedHashMap<>();
    config.put("shape", shape);
    config.put("gate", gates);
    config.put("precision", precisions);
    config.put("device", device);
    config.put("recompute", recompute);
    config.put("match_parameters", matchParameters);
    config.put("steps", steps);
    config.put("threads", Threads.count());
    return new RunManifest(
        Version.commit(),
        spec.commandLine().getParseResult().originalArgs(),
        config,
        Map.of(),
        "random tokens",
        Libtorch.version(),
        RunManifest.Machine.current(),
        startedAt);
  }
}
