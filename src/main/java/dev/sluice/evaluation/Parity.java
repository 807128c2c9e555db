package dev.sluice.evaluation;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.checkpoint.SafetensorsFile;
import dev.sluice.checkpoint.SafetensorsFile.Entry;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.generation.Generator;
import dev.sluice.generation.Sampler;
import dev.sluice.operations.Precision;
import dev.sluice.optimizer.AdamW;
import dev.sluice.optimizer.Gradients;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.stream.DoubleStream;

/// Compares a checkpoint folder with what a reference implementation answers for it.
///
/// Beside `config.json` and `model.safetensors` the folder holds `golden.safetensors`: `input_ids
/// [B, T]`, `logits [B, T, V]`, `hidden.i [B, T, D]` (0 the embeddings, then each block's output,
/// the last after the final norm), `greedy [B, n]` continued from the first `prompt_tokens`
/// (metadata), and optionally `attention.i [B, N, T, T]`; and optionally `training.json`: losses
/// and gradient norms of AdamW steps on `input_ids`, and sums over each parameter afterwards.
///
/// What is missing, damaged, of another shape or not finite is refused before anything is compared,
/// and so is what nothing is compared with: a comparison passes because numbers agree.
public final class Parity {
  /// One quantity compared.
  ///
  /// @param quantity what was compared
  /// @param difference the largest difference (absolute, or relative where `quantity` says so)
  /// @param tolerance the largest difference allowed
  public record Line(String quantity, double difference, double tolerance) {
    public boolean passed() {
      return difference <= tolerance; // NaN does not pass
    }
  }

  /// The folder's lines.
  ///
  /// @param notes what has to be known of how the checkpoint was read
  public record Result(Path directory, List<Line> lines, List<String> notes) {
    public Result {
      lines = List.copyOf(lines);
      notes = List.copyOf(notes);
    }

    public boolean passed() {
      return !lines.isEmpty() && lines.stream().allMatch(Line::passed);
    }
  }

  private static final double TRAINING_TOLERANCE = 1e-4;
  private static final double PARAMETER_TOLERANCE = 1e-3;

  /// What float32 keeps of a number.
  private static final double ROUNDING = 0x1p-23;

  /// Runs from moved weights.
  private static final int MOVED_RUNS = 3;

  /// How many times as far as those runs another program may part from ours: they are moved once,
  /// where it rounds otherwise in every operation.
  private static final double AMPLIFIED = 5;

  private static final String GOLDEN = "golden.safetensors";
  private static final String TRAINING = "training.json";
  private static final String WAY_OUT = "write the reference's answers again";

  private final Path directory;
  private final double tolerance;
  private final Device device;
  private final List<Line> lines = new ArrayList<>();
  private List<String> notes = List.of();

  private Parity(Path directory, double tolerance, Device device) {
    this.directory = directory;
    this.tolerance = tolerance;
    this.device = device;
  }

  /// Compares one folder in float32.
  ///
  /// @param tolerance the largest absolute difference allowed for logits, hidden states and
  ///   attention
  public static Result check(Path directory, double tolerance, Device device) {
    requireTolerance(tolerance);
    var parity = new Parity(directory, tolerance, device);
    Path golden = directory.resolve(GOLDEN);
    if (!Files.isRegularFile(golden)) {
      throw new InvalidInputException(
          directory
              + " has no golden.safetensors to compare with; give a folder with a reference's"
              + " answers");
    }
    Path training = directory.resolve(TRAINING);
    var reference = Files.exists(training) ? ReferenceTraining.read(training) : null;
    try (var answers = SafetensorsFile.open(golden);
        var _ = Scope.open()) {
      parity.forward(answers);
      if (reference != null) {
        parity.training(reference, parity.tensor(answers, "input_ids"));
      }
    }
    return new Result(directory, parity.lines, parity.notes);
  }

  /// Refuses a tolerance with which everything, or nothing, would pass.
  public static void requireTolerance(double tolerance) {
    if (!(tolerance >= 0 && tolerance < Double.POSITIVE_INFINITY)) {
      throw new InvalidInputException(
          "the tolerance must be a number of at least 0, not %s; 2e-4 is usual for float32"
              .formatted(tolerance));
    }
  }

  // ---------------------------------------------------------------- what there is to compare

  /// Refuses answers that are not all there, not of this model's shapes, not finite, or not known:
  /// each of them is compared.
  private static void require(SafetensorsFile answers, DecoderConfig model) {
    var known = new HashSet<>(List.of("input_ids", "logits", "greedy"));
    var ids = answers.entry("input_ids");
    requireIntegers(answers, ids);
    if (ids.shape().size() != 2 || ids.shape().get(0) < 1 || ids.shape().get(1) < 2) {
      throw wrong(answers, "input_ids", "the shape " + ids.shape(), "[B, T] with T of 2 or more");
    }
    long sequences = ids.shape().get(0);
    long tokens = ids.shape().get(1);
    if (tokens > model.context()) {
      throw wrong(
          answers, "input_ids", tokens + " tokens", "at most the model's " + model.context());
    }
    requireNumbers(answers, "logits", sequences, tokens, model.vocabSize());
    for (int i = 0; i <= model.layers().size(); i++) {
      known.add("hidden." + i);
      requireNumbers(answers, "hidden." + i, sequences, tokens, model.hiddenSize());
    }
    for (int layer = 0; hasAttention(answers) && layer < model.layers().size(); layer++) {
      var attention = model.layers().get(layer).attention();
      if (attention.isPresent()) {
        known.add("attention." + layer);
        requireNumbers(
            answers,
            "attention." + layer,
            sequences,
            attention.get().attentionHeads(),
            tokens,
            tokens);
      }
    }
    var greedy = answers.entry("greedy");
    requireIntegers(answers, greedy);
    if (greedy.shape().size() != 2
        || greedy.shape().get(0) != sequences
        || greedy.shape().get(1) < 1) {
      throw wrong(
          answers,
          "greedy",
          "the shape " + greedy.shape(),
          "[%d, n] with n of 1 or more".formatted(sequences));
    }
    int prompt = promptTokens(answers);
    if (prompt < 1 || prompt > tokens || prompt + greedy.shape().get(1) > model.context()) {
      throw new InvalidInputException(
          "%s continues %d prompt_tokens by %d greedy ones, which %d input_ids and a context of %d do not allow; %s"
              .formatted(
                  answers.path(), prompt, greedy.shape().get(1), tokens, model.context(), WAY_OUT));
    }
    for (String name : answers.names()) {
      if (!known.contains(name)) {
        throw new InvalidInputException(
            "%s holds '%s', which is compared with nothing in a model of %d layers; %s"
                .formatted(answers.path(), name, model.layers().size(), WAY_OUT));
      }
    }
  }

  private static boolean hasAttention(SafetensorsFile answers) {
    return answers.names().stream().anyMatch(name -> name.startsWith("attention."));
  }

  private static void requireIntegers(SafetensorsFile answers, Entry entry) {
    if (entry.type() != ElementType.INT64 && entry.type() != ElementType.INT32) {
      throw wrong(
          answers, entry.name(), "the type " + entry.type().safetensorsName(), "I64 or I32");
    }
  }

  private static void requireNumbers(SafetensorsFile answers, String name, long... shape) {
    var entry = answers.entry(name);
    var wanted = Arrays.stream(shape).boxed().toList();
    if (!entry.type().isFloatingPoint()) {
      throw wrong(
          answers, name, "the type " + entry.type().safetensorsName(), "a floating-point type");
    }
    if (!entry.shape().equals(wanted)) {
      throw wrong(answers, name, "the shape " + entry.shape(), wanted + " as this model gives");
    }
  }

  private static InvalidInputException wrong(
      SafetensorsFile answers, String name, String found, String wanted) {
    return new InvalidInputException(
        "'%s' in %s has %s where %s is needed; %s"
            .formatted(name, answers.path(), found, wanted, WAY_OUT));
  }

  private static int promptTokens(SafetensorsFile answers) {
    String text = answers.metadata().getOrDefault("prompt_tokens", "");
    try {
      return Integer.parseInt(text);
    } catch (NumberFormatException e) {
      throw new InvalidInputException(
          "%s names no number as prompt_tokens in its metadata but '%s'; %s"
              .formatted(answers.path(), Printable.brief(text, 40), WAY_OUT),
          e);
    }
  }

  // ---------------------------------------------------------------- forward

  private void forward(SafetensorsFile answers) {
    var opened = ModelDirectory.open(directory, Precision.FLOAT32, device, false);
    notes = opened.notes();
    try (var decoder = opened.decoder();
        var _ = Scope.withoutGradient()) {
      require(answers, decoder.config());
      var idsBT = tensor(answers, "input_ids").to(ElementType.INT64);
      decoder.config().requireInVocabulary(idsBT.longs());
      decoder.config().requireInVocabulary(tensor(answers, "greedy").longs());
      int layers = decoder.config().layers().size();
      boolean attention = hasAttention(answers);
      double[] hiddenDifference = none(layers + 1);
      double[] attentionDifference = none(layers);
      for (int layer = 0; layer < layers; layer++) {
        if (decoder.config().layers().get(layer).attention().isEmpty()) {
          attentionDifference[layer] = 0; // it has none to compare
        }
      }
      List<Tensor> blocks = new ArrayList<>();
      var hidden =
          decoder.hiddenStates(
              idsBT,
              null,
              new Probe() {
                @Override
                public boolean wantsAttention(int layer) {
                  return attention;
                }

                @Override
                public void attention(int layer, int firstQuery, Tensor weights) {
                  blocks.add(weights.retain());
                  if (firstQuery + weights.size(2) == weights.size(3)) {
                    attentionDifference[layer] =
                        difference(answers, "attention." + layer, Tensor.concatenate(blocks, 2));
                    blocks.forEach(Tensor::close);
                    blocks.clear();
                  }
                }

                @Override
                public void residual(int index, Tensor xBTD) {
                  // the reference's last entry is taken after the final norm
                  if (index < layers) {
                    hiddenDifference[index] = difference(answers, "hidden." + index, xBTD);
                  } else if (index == layers + 1) {
                    hiddenDifference[layers] = difference(answers, "hidden." + layers, xBTD);
                  }
                }
              });
      if (attention) {
        // the pass above computed attention explicitly; this one takes the fused path
        hidden = decoder.hiddenStates(idsBT, null, Probe.NONE);
      }
      add("logits", difference(answers, "logits", decoder.logits(hidden)), tolerance);
      add("hidden states", largest(hiddenDifference), tolerance);
      if (attention) {
        add("attention", largest(attentionDifference), tolerance);
      }
      greedy(answers, decoder, idsBT);
    }
  }

  /// Differences that are not known yet; one that stays so does not pass.
  private static double[] none(int count) {
    double[] differences = new double[count];
    Arrays.fill(differences, Double.NaN);
    return differences;
  }

  /// NaN where any is.
  private static double largest(double[] differences) {
    return Arrays.stream(differences).max().orElse(Double.NaN);
  }

  private void greedy(SafetensorsFile answers, Decoder decoder, Tensor idsBT) {
    int tokens = Math.toIntExact(idsBT.size(1));
    long[] ids = idsBT.longs();
    long[] expected = tensor(answers, "greedy").longs();
    int count = expected.length / Math.toIntExact(idsBT.size(0));
    int prompt = promptTokens(answers);
    var generator = new Generator(decoder);
    int wrong = 0;
    int wrongWithoutCache = 0;
    for (int row = 0; row < idsBT.size(0); row++) {
      int[] start = new int[prompt];
      for (int i = 0; i < prompt; i++) {
        start[i] = Math.toIntExact(ids[row * tokens + i]);
      }
      int[] cached = generator.generate(start, Sampler.GREEDY, count, Set.of()).ids();
      int[] uncached = generator.greedyWithoutCache(start, count);
      for (int i = 0; i < count; i++) {
        wrong += cached[i] == expected[row * count + i] ? 0 : 1;
        wrongWithoutCache += uncached[i] == expected[row * count + i] ? 0 : 1;
      }
    }
    add("greedy tokens that differ, with cache", wrong, 0);
    add("greedy tokens that differ, without cache", wrongWithoutCache, 0);
  }

  // ---------------------------------------------------------------- training

  /// What training went through.
  ///
  /// @param losses of each step
  /// @param norms of each step's gradient, before clipping
  /// @param sums of every tensor afterwards, as the file has them
  private record Course(
      double[] losses, double[] norms, Map<String, ReferenceTraining.Sums> sums) {}

  /// Trains as the reference did. Two programs that sum in another order part by rounding alone,
  /// which some models amplify at every step; so training is repeated from weights that are moved
  /// by less than a rounding each. Steps up to which that changes nothing are compared strictly,
  /// later ones with what it changed.
  private void training(ReferenceTraining reference, Tensor idsBT) {
    var ours = course(reference, idsBT, 0);
    List<Course> moved = new ArrayList<>();
    for (int run = 1; run <= MOVED_RUNS; run++) {
      moved.add(course(reference, idsBT, run));
    }
    var theirs = reference.steps();
    int steps = theirs.size();
    var ofLoss = new Comparison();
    var ofNorm = new Comparison();
    for (int i = 0; i < steps; i++) {
      int step = i;
      ofLoss.add(
          relative(ours.losses[step], theirs.get(step).loss()),
          moved.stream().mapToDouble(run -> relative(run.losses[step], ours.losses[step])));
      ofNorm.add(
          relative(ours.norms[step], theirs.get(step).gradientNorm()),
          moved.stream().mapToDouble(run -> relative(run.norms[step], ours.norms[step])));
    }
    ofLoss.lines("loss of %s, relative", steps);
    ofNorm.lines("gradient norm of %s, relative", steps);
    double byRounding =
        moved.stream().mapToDouble(run -> distance(run.sums, ours.sums)).max().orElse(0);
    double sums = distance(ours.sums, reference.finalParameters());
    if (AMPLIFIED * byRounding <= PARAMETER_TOLERANCE) {
      add("final parameters' sums", sums, PARAMETER_TOLERANCE);
    } else {
      add("final parameters' sums, over what rounding makes", sums / byRounding, AMPLIFIED);
    }
  }

  /// Compares step by step.
  private final class Comparison {
    private final List<Double> strict = new ArrayList<>();
    private double byRounding;
    private double overRounding;

    /// @param difference from the reference
    /// @param moved differences of the runs from weights that were moved
    void add(double difference, DoubleStream moved) {
      byRounding = Math.max(byRounding, moved.max().orElse(0));
      if (AMPLIFIED * byRounding <= TRAINING_TOLERANCE) {
        strict.add(difference);
      } else {
        overRounding = Math.max(overRounding, difference / byRounding); // NaN where one is
      }
    }

    /// @param quantity with a place for the steps
    void lines(String quantity, int steps) {
      int first = strict.size();
      if (first > 0) {
        Parity.this.add(
            quantity.formatted(first + (first == 1 ? " step" : " steps")),
            strict.stream().reduce(0.0, Math::max),
            TRAINING_TOLERANCE);
      }
      if (first < steps) {
        Parity.this.add(
            quantity
                .formatted("steps %d–%d".formatted(first + 1, steps))
                .replace(", relative", ", over what rounding makes"),
            overRounding,
            AMPLIFIED);
      }
    }
  }

  /// The largest absolute difference of a tensor's sum, and relative difference of its sum of
  /// squares.
  private static double distance(
      Map<String, ReferenceTraining.Sums> sums, Map<String, ReferenceTraining.Sums> expected) {
    double worst = 0;
    for (var tensor : sums.entrySet()) {
      var wanted = Objects.requireNonNull(expected.get(tensor.getKey()));
      worst = Math.max(worst, Math.abs(tensor.getValue().sum() - wanted.sum())); // NaN where one is
      worst = Math.max(worst, relative(tensor.getValue().sumOfSquares(), wanted.sumOfSquares()));
    }
    return worst;
  }

  /// @param run 0 for the weights as they are, else which way they are moved
  private Course course(ReferenceTraining reference, Tensor idsBT, int run) {
    long length = idsBT.size(1) - 1;
    var ids = idsBT.to(ElementType.INT64).to(device);
    var model = ModelDirectory.open(directory, Precision.FLOAT32, device, true);
    try (var decoder = model.decoder();
        var optimizer = new AdamW(reference.settings(), decoder.parameters())) {
      reference.requireParameters(directory, model);
      if (run > 0) {
        move(decoder, run);
      }
      int steps = reference.steps().size();
      double[] losses = new double[steps];
      double[] norms = new double[steps];
      for (int step = 0; step < steps; step++) {
        try (var _ = Scope.open()) {
          var loss = decoder.loss(ids.narrow(1, 0, length), ids.narrow(1, 1, length));
          loss.backward();
          losses[step] = loss.item();
          norms[step] = Gradients.norm(decoder.parameters());
          optimizer.step(
              step + 1,
              reference.learningRate(),
              Gradients.clippingScale(norms[step], reference.clipNorm()));
          Gradients.clear(decoder.parameters());
        }
      }
      return new Course(losses, norms, sums(model, reference.finalParameters().keySet()));
    }
  }

  /// Moves every weight by a random part of the distance to its neighbour in float32.
  private static void move(Decoder decoder, int run) {
    var random = new SplittableRandom(run);
    for (var weight : decoder.parameters().weights().values()) {
      weight.write(
          memory -> {
            for (long i = 0; i < weight.spec().elements(); i++) {
              float value = memory.getAtIndex(ValueLayout.JAVA_FLOAT, i);
              memory.setAtIndex(
                  ValueLayout.JAVA_FLOAT,
                  i,
                  (float) (value * (1 + random.nextDouble(-ROUNDING, ROUNDING))));
            }
          });
    }
  }

  private static Map<String, ReferenceTraining.Sums> sums(
      ModelDirectory.Opened model, Set<String> names) {
    Map<String, ReferenceTraining.Sums> all = new HashMap<>();
    try (var _ = Scope.withoutGradient()) {
      model
          .packed(names)
          .forEach(
              (name, tensor) -> {
                double[] values = tensor.doubles();
                all.put(
                    name,
                    new ReferenceTraining.Sums(
                        Arrays.stream(values).sum(), Arrays.stream(values).map(v -> v * v).sum()));
              });
    }
    return all;
  }

  // ---------------------------------------------------------------- comparing

  private void add(String quantity, double difference, double allowed) {
    lines.add(new Line(quantity, difference, allowed));
  }

  /// Absolute where zero is expected.
  static double relative(double value, double expected) {
    double difference = Math.abs(value - expected);
    return expected == 0 ? difference : difference / Math.abs(expected);
  }

  private Tensor tensor(SafetensorsFile answers, String name) {
    var entry = answers.entry(name);
    long[] shape = entry.shape().stream().mapToLong(Long::longValue).toArray();
    return Tensor.of(entry.data(), entry.type(), shape).to(device);
  }

  private double difference(SafetensorsFile answers, String name, Tensor ours) {
    try (var _ = Scope.withoutGradient()) {
      var expected = tensor(answers, name);
      if (!Double.isFinite(expected.absolute().max().item())) {
        throw wrong(answers, name, "NaN or infinite values", "an answer");
      }
      return ours.minus(expected).absolute().max().item();
    }
  }
}
