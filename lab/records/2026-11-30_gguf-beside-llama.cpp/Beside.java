import dev.sluice.checkpoint.Conversion;
import dev.sluice.checkpoint.GgufConversion;
import dev.sluice.checkpoint.ModelConfig;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.checkpoint.SafetensorsWriter;
import dev.sluice.decoder.Decoder;
import dev.sluice.generation.Generator;
import dev.sluice.kernel.WeightFormat;
import dev.sluice.operations.Precision;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ObjectNode;

/// Converts checkpoints to GGUF and compares what Sluice and llama.cpp compute of them. Arguments: a
/// folder with llama.cpp's programs (see README.md), one for the files, and checkpoints.
public class Beside {
  private static final int PROMPT = 24; // longer than the windows
  private static final int TOKENS = 16;
  private static final List<String> FORMATS =
      List.of("f32", "f16", "bf16", "q8_0", "q4_0", "q4_k", "q6_k");

  /// Widths with which every row is whole blocks of every format.
  private static final Map<String, Integer> WIDE =
      Map.ofEntries(
          Map.entry("hidden_size", 256),
          Map.entry("head_dim", 128),
          Map.entry("intermediate_size", 512),
          Map.entry("moe_intermediate_size", 256),
          Map.entry("shared_expert_intermediate_size", 256),
          Map.entry("share_expert_dim", 256),
          Map.entry("linear_key_head_dim", 128),
          Map.entry("linear_value_head_dim", 128),
          Map.entry("query_pre_attn_scalar", 128));

  public static void main(String[] arguments) throws Exception {
    Path programs = Path.of(arguments[0]);
    Path folder = Path.of(arguments[1]);
    System.out.println(
        "| checkpoint | format | decoded: logits | argmax | greedy | as it is: logits | argmax | greedy |");
    System.out.println("|---|---|---|---|---|---|---|---|");
    for (String checkpoint : Arrays.asList(arguments).subList(2, arguments.length)) {
      Path source = Path.of(checkpoint);
      String name = String.valueOf(source.getFileName());
      compare(programs, folder, source, name, "f32");
      Path wide = widened(source, folder.resolve(name + "-wide"));
      for (String format : FORMATS) {
        compare(programs, folder, wide, name + ", wide", format);
      }
    }
    System.exit(0);
  }

  private static void compare(
      Path programs, Path folder, Path source, String name, String word) {
    String line;
    try {
      Path gguf = folder.resolve(source.getFileName() + "-" + word + ".gguf");
      Path decoded = folder.resolve("decoded.gguf");
      Files.deleteIfExists(gguf);
      var format = WeightFormat.toMake(word);
      GgufConversion.toFile(source, gguf, format, false, Conversion.Listener.NOBODY);
      if (word.equals("f32")) { // which holds the checkpoint itself
        line = " | | | " + compared(numbers(source), programs, gguf);
      } else {
        output(
            programs.resolve("llama-quantize"),
            "--allow-requantize",
            gguf.toString(),
            decoded.toString(),
            "F32");
        var precision = format.blockLength() > 1 ? Precision.INT8 : Precision.FLOAT32;
        line =
            compared(numbers(gguf), programs, decoded)
                + " | "
                + compared(
                    ModelDirectory.openInPlace(gguf, precision).decoder(), programs, gguf);
      }
    } catch (Exception e) {
      line = e.getMessage() + " | | | | | ";
    }
    System.out.println("| %s | %s | %s |".formatted(name, word, line));
  }

  /// A model with all its weights as float32.
  private static Decoder numbers(Path model) {
    return ModelDirectory.open(model, Precision.FLOAT32, Device.CPU, false).decoder();
  }

  /// Compares one model in both programs.
  private static String compared(Decoder model, Path programs, Path gguf) throws Exception {
    try (model;
        var _ = Scope.withoutGradient()) {
      int vocabulary = model.config().vocabSize();
      int[] prompt = new Random(1).ints(PROMPT, 0, vocabulary).toArray();
      float[] logits = logits(model, prompt);
      int[] tokens = new Generator(model).greedyWithoutCache(prompt, TOKENS);
      String program = programs.resolve("llama_logits").toString();
      String ids =
          IntStream.of(prompt).mapToObj(String::valueOf).collect(Collectors.joining(","));
      double[] theirs =
          Arrays.stream(output(program, gguf.toString(), ids, "0", "all").split("\\s+"))
              .mapToDouble(Double::parseDouble)
              .toArray();
      if (theirs.length != logits.length) {
        throw new IOException(theirs.length + " logits where Sluice has " + logits.length);
      }
      String greedy =
          output(program, gguf.toString(), ids, "" + TOKENS).lines().toList().getLast();
      int[] written =
          Arrays.stream(greedy.replace("greedy", "").strip().split(" "))
              .mapToInt(Integer::parseInt)
              .toArray();
      return described(logits, theirs, vocabulary, tokens, written);
    }
  }

  private static String described(
      float[] logits, double[] theirs, int vocabulary, int[] tokens, int[] written) {
    double worst = 0;
    double squares = 0;
    int alike = 0;
    for (int at = 0; at < PROMPT; at++) {
      int our = at * vocabulary;
      int their = at * vocabulary;
      for (int i = at * vocabulary; i < (at + 1) * vocabulary; i++) {
        worst = Math.max(worst, Math.abs(logits[i] - theirs[i]));
        squares += logits[i] * logits[i];
        our = logits[i] > logits[our] ? i : our;
        their = theirs[i] > theirs[their] ? i : their;
      }
      alike += our == their ? 1 : 0;
    }
    int same = Arrays.mismatch(tokens, written);
    return "%.1e | %d | %d"
        .formatted(
            worst / Math.sqrt(squares / logits.length), alike, same < 0 ? TOKENS : same);
  }

  private static float[] logits(Decoder model, int[] prompt) {
    try (var _ = Scope.open()) {
      long[] ids = Arrays.stream(prompt).asLongStream().toArray();
      return model
          .logits(model.hiddenStates(Tensor.of(ids, 1, ids.length), null, Probe.NONE))
          .floats()
          .clone();
    }
  }

  private static String output(Object program, String... arguments) throws Exception {
    List<String> command = new ArrayList<>(List.of(program.toString()));
    command.addAll(List.of(arguments));
    Path errors = Files.createTempFile("llama", ".txt");
    var process = new ProcessBuilder(command).redirectError(errors.toFile()).start();
    String output = new String(process.getInputStream().readAllBytes());
    int status = process.waitFor();
    String said = Files.readString(errors);
    Files.delete(errors);
    if (status != 0) {
      throw new IOException("llama.cpp: " + said.lines().findFirst().orElse("status " + status));
    }
    return output;
  }

  /// A checkpoint of the same architecture with random weights.
  private static Path widened(Path source, Path target) throws IOException {
    Files.createDirectories(target);
    var mapper = JsonMapper.shared();
    var json = (ObjectNode) mapper.readTree(source.resolve(ModelConfig.FILE).toFile());
    var text = json.has("text_config") ? (ObjectNode) json.get("text_config") : json;
    WIDE.forEach((key, width) -> {
      if (text.has(key)) {
        text.put(key, width);
      }
    });
    Files.writeString(target.resolve(ModelConfig.FILE), json.toString());
    var config = ModelConfig.read(target);
    try (var _ = Scope.withoutGradient()) {
      Map<String, Tensor> random = new LinkedHashMap<>();
      try (var begun =
          Decoder.initialize(config.decoder(), Precision.FLOAT32, Device.CPU, 1)) {
        begun
            .parameters()
            .all()
            .forEach((name, tensor) -> random.put(name, randomized(name, tensor)));
      }
      try (var decoder =
          Decoder.initialize(config.decoder(), Precision.FLOAT32, Device.CPU, 1, random)) {
        Path weights = target.resolve("model.safetensors");
        Files.deleteIfExists(weights);
        var packed = new ModelDirectory.Opened(decoder, config, List.of()).packed();
        SafetensorsWriter.write(weights, Map.of(), ModelDirectory.entries("", packed));
      }
    }
    return target;
  }

  private static Tensor randomized(String name, Tensor begun) {
    long[] shape = begun.shape();
    float[] numbers = begun.floats().clone();
    var random = new Random(name.hashCode());
    boolean isMatrix = shape.length > 1;
    double size = isMatrix ? 1 / Math.sqrt(shape[shape.length - 1]) : 0.1;
    for (int i = 0; i < numbers.length; i++) {
      numbers[i] = (float) ((isMatrix ? 0 : numbers[i]) + size * random.nextGaussian());
    }
    return Tensor.of(numbers, shape);
  }
}
