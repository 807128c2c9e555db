package dev.sluice.training;

import dev.sluice.checkpoint.CheckpointDirectory;
import dev.sluice.corpus.Corpus;
import dev.sluice.decoder.Decoder;
import dev.sluice.distributed.GradientExchange;
import dev.sluice.distributed.Replicas;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Tensor;
import dev.sluice.tokenizer.Tokenizer;
import dev.sluice.tokenizer.Tokenizers;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.TreeMap;
import java.util.function.BooleanSupplier;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/// Small runs on the bundled book, for tests that break them.
final class Runs {
  /// What is done to a step once its gradients are there.
  interface Fault {
    Fault NONE = (_, loss, _) -> loss;

    /// @param loss one
    /// @return what the run sees the loss multiplied by
    double differentiated(int step, double loss, Parameters parameters);

    /// @return what the backward pass begins at
    default Tensor differentiable(int step, Tensor total) {
      return total;
    }
  }

  private Runs() {}

  /// A run of a few thousand parameters, and the settings in pairs.
  static RunConfig config(Object... more) {
    Map<String, String> settings = new HashMap<>();
    Object[] base = {
      "layers", 2, "hidden_size", 32, "intermediate_size", 64, "attention_heads", 2,
      "key_value_heads", 1, "head_dim", 16, "sequence_length", 32, "batch_size", 2,
      "device", "cpu", "held_out_windows", 2, "evaluate_every", 3, "save_every", 1,
      "keep_checkpoints", 1000, "steps", 8, "warmup_steps", 2, "sample_tokens", 3,
      "sample_every", 2, "gate", "sdpa-elementwise"
    };
    for (Object[] pairs : List.of(base, more)) {
      for (int i = 0; i < pairs.length; i += 2) {
        settings.put(String.valueOf(pairs[i]), String.valueOf(pairs[i + 1]));
      }
    }
    return RunConfig.from(null, settings);
  }

  static Corpus corpus(Path directory) {
    return RunCorpus.prepare(config(), Tokenizers.load("bytes"), directory, false, _ -> {});
  }

  /// Short documents of random letters, of which most windows hold several.
  static Corpus documents(Path directory) throws IOException {
    var random = new SplittableRandom(3);
    var lines = new StringBuilder();
    for (int i = 0; i < 300; i++) {
      int length = random.nextInt(1, 40);
      String text =
          random
              .ints(length, 'a', 'g')
              .mapToObj(letter -> String.valueOf((char) letter))
              .collect(Collectors.joining());
      lines.append("{\"text\": \"").append(text).append("\"}\n");
    }
    Path file = Files.writeString(directory.resolve("documents.jsonl"), lines);
    return RunCorpus.prepare(
        config("data", file),
        Tokenizers.load("bytes"),
        directory.resolve("corpus"),
        false,
        _ -> {});
  }

  /// What a listener heard.
  static final class Heard implements TrainingRun.Listener {
    final List<String> samples = new ArrayList<>();
    final List<Integer> steps = new ArrayList<>();
    final List<String> guarded = new ArrayList<>();
    final List<String> notSaved = new ArrayList<>();
    final List<String> changed = new ArrayList<>();
    final List<String> noted = new ArrayList<>();

    @Override
    public void stepped(Trainer.Step step, double tokensPerSecond) {
      steps.add(step.number());
    }

    @Override
    public void sampled(int step, String text) {
      samples.add(step + ": " + text);
    }

    @Override
    public void notSaved(int step, IOException why) {
      notSaved.add(step + ": " + why.getMessage());
    }

    @Override
    public void guarded(int step, String what) {
      guarded.add(step + ": " + what);
    }

    @Override
    public void noted(String what) {
      noted.add(what);
    }

    @Override
    public void changed(String setting, String before, String now) {
      changed.add(setting + " " + before + " " + now);
    }
  }

  /// A run whose steps a fault is injected into.
  static TrainingRun run(
      RunConfig config,
      Path directory,
      Fault fault,
      TrainingRun.Listener listener,
      BooleanSupplier stop) {
    return run(config, directory, fault, listener, stop, Replicas.alone());
  }

  static TrainingRun run(
      RunConfig config,
      Path directory,
      Fault fault,
      TrainingRun.Listener listener,
      BooleanSupplier stop,
      Replicas replicas) {
    return new TrainingRun(
        config,
        directory,
        new TrainingRun.Origin("test", List.of("train")),
        listener,
        stop,
        replicas) {
      @Override
      Trainer trainer(Decoder decoder, Tokenizer tokenizer) {
        return new Trainer(
            decoder,
            config.optimization().optimizerSettings(),
            config.optimization().scheduleOf(),
            config.optimization().learningRate(),
            config.optimization().clipNorm(),
            config.optimization().zLoss(),
            new GradientExchange(replicas, decoder.parameters(), config.batch().zero()),
            config.batch().separator(tokenizer)) {
          @Override
          Tensor differentiable(int number, Tensor total, double weight) {
            return fault.differentiable(number, super.differentiable(number, total, weight));
          }

          private double factor = 1;

          @Override
          void differentiated(int number, Parameters parameters) {
            factor = fault.differentiated(number, 1, parameters);
          }

          @Override
          double observed(int number, double loss) {
            return loss * factor;
          }
        };
      }
    };
  }

  /// What must be equal of two runs that took the same steps: the last checkpoint, but for the
  /// manifest's time, and the metrics.
  static Map<String, String> result(Path run) throws IOException {
    Map<String, String> result = new TreeMap<>();
    Path last = CheckpointDirectory.latest(run.resolve("checkpoints")).orElseThrow();
    result.put("name", last.getFileName().toString());
    for (String name :
        List.of("model.safetensors", "optimizer.safetensors", "state.json", "config.json")) {
      result.put(name, latin(last.resolve(name)));
    }
    result.put("metrics", latin(run.resolve("metrics.jsonl")));
    return result;
  }

  private static String latin(Path file) throws IOException {
    return Files.readString(file, StandardCharsets.ISO_8859_1);
  }

  /// Copies a run as it was after its checkpoint of `step`; 0 for before the first.
  static Path after(Path run, int step, Path to) throws IOException {
    try (Stream<Path> files = Files.walk(run)) {
      for (Path file : files.toList()) {
        Path relative = run.relativize(file);
        boolean later = false;
        for (Path part : relative) {
          var number = CheckpointDirectory.step(part);
          later |= number.isPresent() && number.getAsLong() > step;
        }
        if (!later) {
          Files.copy(file, to.resolve(relative));
        }
      }
    }
    return to;
  }

  static List<String> checkpoints(Path run) throws IOException {
    try (Stream<Path> children = Files.list(run.resolve("checkpoints"))) {
      return children.map(child -> child.getFileName().toString()).sorted().toList();
    }
  }

  /// The values of a metric by step.
  static Map<Integer, Double> curve(Path run, String name) {
    var curve = RunMetrics.read(run).curve(name);
    Map<Integer, Double> values = new LinkedHashMap<>();
    for (int i = 0; i < curve.steps().length; i++) {
      values.put((int) curve.steps()[i], curve.values()[i]);
    }
    return values;
  }
}
