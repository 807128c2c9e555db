package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.ActivationMemory;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.Decoders;
import dev.sluice.report.Cell;
import dev.sluice.report.Numbers;
import dev.sluice.report.Table;
import dev.sluice.report.TextTable;
import dev.sluice.study.PaperTables;
import dev.sluice.study.Variant;
import dev.sluice.training.ClusterPlan;
import dev.sluice.training.ClusterPlan.Cluster;
import dev.sluice.training.RunConfig;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/// `sluice plan`: what a model and its gates cost, counted and not measured.
@Command(
    name = "plan",
    description = {
      "Counts what a model's variants cost: parameters, floating-point operations, and the memory"
          + " that a training step keeps for its backward pass. Nothing is allocated."
    },
    mixinStandardHelpOptions = true,
    sortOptions = false,
    footer = {
      "",
      "Examples:",
      "  ./sluice plan --model paper-dense-28",
      "  ./sluice plan --model paper-moe-15b --table 1      (the paper's counts beside)",
      "  ./sluice plan --model small --gates none,sdpa-headwise --match-parameters",
      "  ./sluice plan --model paper-moe-15b --gpus 1024",
      "  ./sluice plan --model paper-dense-28 --gpus 1 --global-batch 8 --recompute blocks"
    })
final class PlanCommand implements Callable<Integer> {
  /// Settings that shape a model or say what a step holds; the others are of no matter here.
  static final Set<String> SETTINGS =
      Set.of(
          "model",
          "vocab_size",
          "hidden_size",
          "intermediate_size",
          "layers",
          "layers_pattern",
          "sliding_window",
          "attention_heads",
          "key_value_heads",
          "head_dim",
          "experts",
          "experts_per_token",
          "tie_word_embeddings",
          "softmax_sink",
          "exclusive_attention",
          "sdpa_nonlinearity",
          "switch_head",
          "sandwich_norm",
          "residual_clip",
          "gated_norm_rank",
          "match_parameters",
          "precision",
          "recompute",
          "optimizer",
          "sequence_length");

  /// What is planned where no flag says otherwise. Not a constant: reading settings takes a library
  /// that the help of other commands need not wait for.
  static RunConfig defaults() {
    return RunConfig.DEFAULTS.with(
        null,
        Map.of("model", "paper-dense-28", "precision", "bfloat16", "sequence_length", "4096"));
  }

  @Option(
      names = "--gates",
      paramLabel = "GATE",
      split = ",",
      description =
          "The variants, joined by commas, the baseline first. Default:"
              + " none,sdpa-headwise,sdpa-elementwise.")
  private @Nullable List<String> gates;

  @Option(
      names = "--table",
      paramLabel = "N",
      description = "The variants of the paper's table 1, 2, 3, 4 or 6.")
  private @Nullable Integer table;

  @Option(
      names = "--gpus",
      paramLabel = "N",
      description = "Plan data-parallel training on so many GPUs instead.")
  private @Nullable Integer gpus;

  @Option(
      names = "--global-batch",
      paramLabel = "N",
      description = "Sequences of a step on all GPUs. Default: ${DEFAULT-VALUE}.")
  private int globalBatch = 1024;

  @Option(
      names = "--gpus-per-node",
      paramLabel = "N",
      description = "GPUs with the faster links between them. Default: ${DEFAULT-VALUE}.")
  private int gpusPerNode = 8;

  @Option(
      names = "--gpu-memory",
      paramLabel = "GB",
      description = "Of one GPU. Default: ${DEFAULT-VALUE}.")
  private double gpuMemory = 80;

  @Option(
      names = "--gpu-flops",
      paramLabel = "TFLOP/S",
      description = "Dense products of one GPU at its best. Default: ${DEFAULT-VALUE}, an H100's.")
  private double gpuFlops = 989;

  @Option(
      names = "--gpu-share",
      paramLabel = "SHARE",
      description = "The share of these that training reaches. Default: ${DEFAULT-VALUE}.")
  private double gpuShare = 0.4;

  @Option(
      names = "--node-bandwidth",
      paramLabel = "GB/S",
      description = "What a GPU sends within a node. Default: ${DEFAULT-VALUE}, NVLink's.")
  private double nodeBandwidth = 450;

  @Option(
      names = "--network-bandwidth",
      paramLabel = "GB/S",
      description = "What a GPU sends to other nodes. Default: ${DEFAULT-VALUE}, 400 Gb/s.")
  private double networkBandwidth = 50;

  @Spec private CommandSpec spec;

  @SuppressWarnings("NullAway.Init") // picocli sets the spec
  PlanCommand() {}

  @Override
  public Integer call() {
    if (gates != null && table != null) {
      throw new InvalidInputException("--gates and --table each name the variants; give one");
    }
    var base = defaults().with(null, SettingFlags.given(spec.commandLine().getParseResult()));
    int vocabulary =
        base.shape().vocabSize() > 0
            ? base.shape().vocabSize()
            : Decoders.named(base.shape().model()).vocabSize();
    var variants = variants(base, vocabulary);
    base.shape().notes().forEach(Console::note);
    if (gpus != null) {
      var cluster =
          new Cluster(
              gpus,
              gpusPerNode,
              sensible("--gpu-memory", gpuMemory) * 1e9,
              sensible("--gpu-flops", gpuFlops) * 1e12,
              sensible("--gpu-share", gpuShare),
              sensible("--node-bandwidth", nodeBandwidth) * 1e9,
              sensible("--network-bandwidth", networkBandwidth) * 1e9);
      Console.print(
          new TextTable(clusterTable(base, vocabulary, variants, cluster), 116).toString());
      return 0;
    }
    boolean paper = table != null && base.shape().model().equals("paper-moe-15b");
    Console.print(new TextTable(table(base, vocabulary, variants, paper), 116).toString());
    return 0;
  }

  /// Keeps what is computed from a flag within what a table can show.
  private static double sensible(String flag, double value) {
    if (!(value >= 1e-6 && value <= 1e9)) {
      throw new InvalidInputException(
          "%s cannot be %s; use a number from 0.000001 to 1e9".formatted(flag, value));
    }
    return value;
  }

  private List<Variant> variants(RunConfig base, int vocabulary) {
    if (table != null) {
      return PaperTables.table(table, base.decoder(vocabulary));
    }
    var named = gates == null ? List.of("none", "sdpa-headwise", "sdpa-elementwise") : gates;
    return named.stream().map(Variant::ofGate).toList();
  }

  private static Table table(
      RunConfig base, int vocabulary, List<Variant> variants, boolean paper) {
    var columns =
        new ArrayList<>(
            List.of(
                "variant",
                "parameters",
                "added, M",
                "active",
                "training, MFLOP/token",
                "activations, KB/token",
                "state, MB"));
    if (paper) {
      columns.add(3, "paper, M");
    }
    var result =
        Table.titled(
                "%s, %s, sequences of %s tokens"
                    .formatted(
                        base.shape().model(),
                        base.computing().precision(),
                        Numbers.count(base.batch().sequenceLength())))
            .columns(columns.toArray(String[]::new));
    long baseline = 0;
    for (Variant variant : variants) {
      var decoder = base.with(null, variant.settings()).decoder(vocabulary);
      if (baseline == 0) {
        baseline = decoder.parameterCount();
      }
      var row = new ArrayList<>(row(base, variant, decoder, baseline));
      if (paper) {
        var added = PaperTables.addedMillions(variant.name());
        row.add(3, added.isPresent() ? printed(added.getAsDouble()) : Cell.missing());
      }
      result = result.row(row);
    }
    result =
        result.footnote(
            "Active: parameters that a token goes through. Operations: forwards and backwards."
                + " Activations: kept for the backward pass, without weights and optimizer state."
                + " State: what one such sequence takes while text is made, float32.");
    return paper
        ? result.footnote(
            "The paper prints 400 for four more experts, where its own shapes give 453. Of switched"
                + " heads it does not say which have experts; here each key/value head has as many"
                + " as the name says.")
        : result;
  }

  private Table clusterTable(
      RunConfig base, int vocabulary, List<Variant> variants, Cluster cluster) {
    var result =
        Table.titled(
                "%s on %s GPUs, %s, a step of %s sequences of %s tokens"
                    .formatted(
                        base.shape().model(),
                        Numbers.count(cluster.devices()),
                        base.computing().precision(),
                        Numbers.count(globalBatch),
                        Numbers.count(base.batch().sequenceLength())))
            .columns(
                "variant",
                "zero",
                "weights, GB",
                "gradients",
                "moments",
                "activations",
                "all of a GPU",
                "fits",
                "sent, GB",
                "computing, s",
                "waiting, s",
                "step, s");
    for (Variant variant : variants) {
      var decoder = base.with(null, variant.settings()).decoder(vocabulary);
      for (int zero = 0; zero <= 2; zero++) {
        var plan =
            ClusterPlan.of(
                decoder,
                base.computing().precisionOf().elementType(),
                base.computing().recomputeOf(),
                base.optimization().optimizerSettings().kind(),
                base.batch().sequenceLength(),
                globalBatch,
                zero,
                cluster);
        result =
            result.row(
                Cell.of(variant.name()),
                Cell.of(zero),
                Cell.of(plan.weightBytes() / 1e9, 1),
                Cell.of(plan.gradientBytes() / 1e9, 1),
                Cell.of(plan.momentBytes() / 1e9, 1),
                Cell.of(plan.activationBytes() / 1e9, 1),
                Cell.of(plan.memoryBytes() / 1e9, 1),
                Cell.of(plan.memoryBytes() <= cluster.memoryBytes() ? "yes" : "NO"),
                Cell.of(plan.sentBytes() / 1e9, 1),
                Cell.of(plan.computeSeconds(), 2),
                Cell.of(plan.waitSeconds(), 2),
                Cell.of(plan.stepSeconds(), 2));
      }
    }
    return result
        .footnote(
            "Assumed: %s GB a GPU, %s TFLOP/s of which %s are reached; %s GB/s within a node of %d, %s GB/s between nodes."
                .formatted(
                    Numbers.fixed(gpuMemory, 0),
                    Numbers.fixed(gpuFlops, 0),
                    Numbers.percent(gpuShare, 0),
                    Numbers.fixed(nodeBandwidth, 0),
                    gpusPerNode,
                    Numbers.fixed(networkBandwidth, 0)))
        .footnote(
            "Weights: float32 and, for bfloat16 products, a copy. Gradients and moments: float32,"
                + " two moments, or with optimizer muon one of what it moves; zero 1 shares the"
                + " moments by whole parameters, 2 the gradients too (of the GPU that owns most);"
                + " weights are whole on every GPU. Activations: one sequence at a time, as the"
                + " fused operations keep them; composed operations keep more.")
        .footnote(
            "Sent by a GPU in a step: gradients by a ring all-reduce, 2(n−1)/n of their bytes; with"
                + " zero 2 to their owners, (n−1)/n; with zero 1 and 2 the owners' parameters,"
                + " (n−1)/n. Rings use all adapters of a node. All of it is waited for: on a GPU"
                + " gradients leave when the backward pass is done. Latency is not counted. Experts"
                + " are data-parallel like all else. Simulated: nothing ran.");
  }

  private static List<Cell> row(
      RunConfig base, Variant variant, DecoderConfig decoder, long baseline) {
    double added = (decoder.parameterCount() - baseline) / 1e6;
    double activations =
        ActivationMemory.bytesPerToken(
            decoder, base.computing().precisionOf().elementType(), base.computing().recomputeOf());
    return List.of(
        Cell.of(variant.name()),
        Cell.of(decoder.parameterCount()),
        Cell.of(added, Math.abs(added) < 10 ? 2 : 1),
        Cell.of(decoder.activeParameterCount()),
        Cell.of(decoder.trainingFlopsPerToken(base.batch().sequenceLength()) / 1e6, 0),
        Cell.of(activations / 1024, 1),
        Cell.of(
            Float.BYTES * (double) decoder.stateElements(base.batch().sequenceLength()) / 1e6, 1));
  }

  /// A number with as many digits as the paper prints.
  private static Cell printed(double millions) {
    return Cell.of(millions, millions == Math.rint(millions) ? 0 : 1);
  }

  /// The settings that this command does not take.
  static Set<String> others() {
    return RunConfig.declared().stream()
        .map(setting -> setting.name())
        .filter(name -> !SETTINGS.contains(name))
        .collect(Collectors.toUnmodifiableSet());
  }
}
