package dev.sluice.evaluation;

import dev.sluice.InvalidInputException;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.checkpoint.SafetensorsFile;
import dev.sluice.decoder.Decoder;
import dev.sluice.generation.Generator;
import dev.sluice.generation.Sampler;
import dev.sluice.optimizer.AdamW;
import dev.sluice.optimizer.Gradients;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Precision;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/// Compares a checkpoint folder with what a reference implementation answers for it.
///
/// Beside `config.json` and `model.safetensors` the folder holds `golden.safetensors`: `input_ids
/// [B, T]`, `logits [B, T, V]`, `hidden.i [B, T, D]` (0 the embeddings, then each block's output,
/// the last after the final norm), `greedy [B, n]` continued from the first `prompt_tokens`
/// (metadata), and optionally `attention.i [B, N, T, T]`; and optionally `training.json`: losses
/// and gradient norms of AdamW steps on `input_ids`, and sums over each parameter afterwards.
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
      return lines.stream().allMatch(Line::passed);
    }
  }

  private static final double TRAINING_TOLERANCE = 1e-4;
  private static final double PARAMETER_TOLERANCE = 1e-3;

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
    var parity = new Parity(directory, tolerance, device);
    Path golden = directory.resolve("golden.safetensors");
    if (!Files.isRegularFile(golden)) {
      throw new InvalidInputException(
          directory
              + " has no golden.safetensors to compare with; give a folder with a reference's"
              + " answers");
    }
    try (var answers = SafetensorsFile.open(golden);
        var _ = Scope.open()) {
      parity.forward(answers);
      Path training = directory.resolve("training.json");
      if (Files.isRegularFile(training)) {
        parity.training(training, parity.tensor(answers, "input_ids"));
      }
    }
    return new Result(directory, parity.lines, parity.notes);
  }

  // ---------------------------------------------------------------- forward

  private void forward(SafetensorsFile answers) {
    var opened = ModelDirectory.open(directory, Precision.FLOAT32, device, false);
    notes = opened.notes();
    try (var decoder = opened.decoder();
        var _ = Scope.withoutGradient()) {
      var idsBT = tensor(answers, "input_ids").to(ElementType.INT64);
      int layers = decoder.config().layers();
      boolean attention = answers.names().contains("attention.0");
      double[] hiddenDifference = new double[layers + 1];
      double[] attentionDifference = new double[layers];
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
      add("hidden states", Arrays.stream(hiddenDifference).max().orElse(0), tolerance);
      if (attention) {
        add("attention", Arrays.stream(attentionDifference).max().orElse(0), tolerance);
      }
      greedy(answers, decoder, idsBT);
    }
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

  private int promptTokens(SafetensorsFile answers) {
    String text = answers.metadata().getOrDefault("prompt_tokens", "");
    try {
      return Integer.parseInt(text);
    } catch (NumberFormatException e) {
      throw new InvalidInputException(
          answers.path()
              + " names no number as prompt_tokens in its metadata but '"
              + text
              + "'; write it again",
          e);
    }
  }

  // ---------------------------------------------------------------- training

  private void training(Path file, Tensor idsBT) {
    JsonNode json;
    try {
      json = JsonMapper.shared().readTree(Files.readAllBytes(file));
    } catch (IOException | JacksonException e) {
      throw new InvalidInputException("cannot read " + file + "; write it again", e);
    }
    var settings = json.path("hyper_parameters");
    long length = idsBT.size(1) - 1;
    var ids = idsBT.to(ElementType.INT64).to(device);
    try (var decoder = ModelDirectory.load(directory, Precision.FLOAT32, device, true);
        var optimizer =
            new AdamW(
                new AdamW.Settings(
                    settings.path("beta1").asDouble(),
                    settings.path("beta2").asDouble(),
                    settings.path("eps").asDouble(),
                    settings.path("weight_decay").asDouble()),
                decoder.parameters())) {
      double lossDifference = 0;
      double normDifference = 0;
      int step = 0;
      for (JsonNode expected : json.path("steps")) {
        step++;
        try (var _ = Scope.open()) {
          var loss = decoder.loss(ids.narrow(1, 0, length), ids.narrow(1, 1, length));
          loss.backward();
          double norm = Gradients.norm(decoder.parameters());
          lossDifference =
              Math.max(lossDifference, relative(loss.item(), expected.path("loss").asDouble()));
          normDifference =
              Math.max(normDifference, relative(norm, expected.path("grad_norm").asDouble()));
          optimizer.step(
              step,
              settings.path("lr").asDouble(),
              Gradients.clippingScale(norm, settings.path("clip_norm").asDouble()));
          Gradients.clear(decoder.parameters());
        }
      }
      add("loss of " + step + " steps, relative", lossDifference, TRAINING_TOLERANCE);
      add("gradient norm, relative", normDifference, TRAINING_TOLERANCE);
      add(
          "final parameters' sums",
          sums(decoder, json.path("final_parameters")),
          PARAMETER_TOLERANCE);
    }
  }

  /// The largest absolute difference of a parameter's sum, and relative difference of its sum of
  /// squares.
  private double sums(Decoder decoder, JsonNode expected) {
    double worst = 0;
    try (var _ = Scope.withoutGradient()) {
      var packed = ModelDirectory.packed(decoder);
      for (var parameter : expected.properties()) {
        var tensor = packed.get(parameter.getKey());
        if (tensor == null) {
          throw new InvalidInputException(
              "training.json in "
                  + directory
                  + " names the unknown parameter "
                  + parameter.getKey()
                  + "; write it again");
        }
        double[] values = tensor.doubles();
        double sum = Arrays.stream(values).sum();
        double squares = Arrays.stream(values).map(v -> v * v).sum();
        var sums = parameter.getValue();
        worst = Math.max(worst, Math.abs(sum - sums.path("sum").asDouble()));
        worst = Math.max(worst, relative(squares, sums.path("sum_of_squares").asDouble()));
      }
    }
    return worst;
  }

  // ---------------------------------------------------------------- comparing

  private void add(String quantity, double difference, double allowed) {
    lines.add(new Line(quantity, difference, allowed));
  }

  private static double relative(double value, double expected) {
    return Math.abs(value - expected) / Math.abs(expected);
  }

  private Tensor tensor(SafetensorsFile answers, String name) {
    var entry = answers.entry(name);
    long[] shape = entry.shape().stream().mapToLong(Long::longValue).toArray();
    return Tensor.of(entry.data(), entry.type(), shape).to(device);
  }

  private double difference(SafetensorsFile answers, String name, Tensor ours) {
    try (var _ = Scope.withoutGradient()) {
      var expected = tensor(answers, name);
      if (!Arrays.equals(expected.shape(), ours.shape())) {
        throw new InvalidInputException(
            "'"
                + name
                + "' in "
                + answers.path()
                + " has the shape "
                + Arrays.toString(expected.shape())
                + " where this model gives "
                + Arrays.toString(ours.shape())
                + "; compare with the answers for this model");
      }
      return ours.minus(expected).absolute().max().item();
    }
  }
}
