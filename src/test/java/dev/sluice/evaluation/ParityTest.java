package dev.sluice.evaluation;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.TestData;
import dev.sluice.checkpoint.SafetensorsFile;
import dev.sluice.checkpoint.SafetensorsFile.Entry;
import dev.sluice.checkpoint.SafetensorsWriter;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.ElementType;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/// Sluice equals the reference implementations on their own checkpoints.
class ParityTest {

  @ParameterizedTest
  @ValueSource(
      strings = {
        "paper-baseline",
        "paper-headwise",
        "paper-elementwise",
        "qwen3",
        "qwen3-yarn",
        "qwen3-next",
        "qwen3.5",
        "qwen3.5-moe",
        "qwen3.5-sees",
        "afmoe",
        "gpt-oss",
        "laguna",
        "laguna-element",
        "step3.7"
      })
  void equalsTheReference(String name) {
    var result = Parity.check(TestData.GOLDEN.resolve(name), 2e-4, Device.CPU);
    assertTrue(result.passed(), result.lines()::toString);
  }

  /// What people bring: `transformers`' answers for configurations that leave keys out or
  /// contradict themselves, wrapped names, fused experts, tied models with heads of their own.
  @ParameterizedTest
  @MethodSource
  void equalsTransformers(Path checkpoint) {
    var result = Parity.check(checkpoint, 2e-5, Device.CPU);
    assertTrue(result.passed(), result.lines()::toString);
  }

  static List<Path> equalsTransformers() throws IOException {
    try (var folders = Files.list(Path.of("src/test/resources/checkpoints"))) {
      return folders.sorted().toList();
    }
  }

  @Test
  void whatHasToBeKnownIsTold() {
    var result =
        Parity.check(
            Path.of("src/test/resources/checkpoints/tied-but-different"), 2e-5, Device.CPU);
    assertEquals(1, result.notes().size());
    assertTrue(result.notes().getFirst().contains("tie_word_embeddings is true, but"));
  }

  /// The reference loads what Sluice saves: its answers for a checkpoint that Sluice trained and
  /// saved.
  @Test
  void theReferenceLoadsWhatSluiceSaves() {
    var result = Parity.check(TestData.GOLDEN.resolve("saved-by-sluice"), 2e-5, Device.CPU);
    assertTrue(result.passed(), result.lines()::toString);
  }

  @Test
  void aWrongAnswerIsFound(@TempDir Path copy) throws Exception {
    Path original = TestData.GOLDEN.resolve("saved-by-sluice");
    for (String file : new String[] {"config.json", "model.safetensors", "golden.safetensors"}) {
      Files.copy(original.resolve(file), copy.resolve(file));
    }
    String config = Files.readString(copy.resolve("config.json"));
    Files.writeString(
        copy.resolve("config.json"),
        config.replace("\"rope_theta\" : 10000.0", "\"rope_theta\" : 9000.0"));
    assertFalse(Parity.check(copy, 2e-5, Device.CPU).passed());
  }

  // ---------------------------------------------------------------- answers that are none

  private static final Path SAVED = Path.of("src/test/resources/golden/saved-by-sluice");

  @TempDir private Path directory;
  private int copies;

  private Path copy() throws IOException {
    Path copy = Files.createDirectory(directory.resolve("copy-" + copies++));
    for (String file :
        new String[] {"config.json", "model.safetensors", "golden.safetensors", "training.json"}) {
      Files.copy(SAVED.resolve(file), copy.resolve(file));
    }
    return copy;
  }

  private static void assertRefused(Path folder, String... words) {
    var e =
        assertThrows(
            InvalidInputException.class,
            () -> Parity.check(folder, 2e-5, Device.CPU),
            folder::toString);
    for (String word : words) {
      assertTrue(e.getMessage().contains(word), e.getMessage());
    }
    assertFalse(e.getMessage().contains("Exception"), e.getMessage());
  }

  /// Values of a tensor in a file.
  private static Entry entry(String name, ElementType type, List<Long> shape, double... values) {
    var bytes = ByteBuffer.allocate(values.length * type.bytes()).order(ByteOrder.LITTLE_ENDIAN);
    for (double value : values) {
      switch (type) {
        case INT64 -> bytes.putLong((long) value);
        case INT32 -> bytes.putInt((int) value);
        case FLOAT32 -> bytes.putFloat((float) value);
        case FLOAT64 -> bytes.putDouble(value);
        default -> bytes.put((byte) value);
      }
    }
    return new Entry(name, type, shape, MemorySegment.ofArray(bytes.array()));
  }

  private static double[] constant(int count, double value) {
    double[] values = new double[count];
    Arrays.fill(values, value);
    return values;
  }

  /// Golden answers with some tensors in place of those of their names, or without them.
  private Path golden(Map<String, String> metadata, List<String> without, Entry... changed)
      throws IOException {
    Path folder = copy();
    Files.delete(folder.resolve("golden.safetensors"));
    Files.delete(folder.resolve("training.json"));
    try (var file = SafetensorsFile.open(SAVED.resolve("golden.safetensors"))) {
      Map<String, Entry> entries = new LinkedHashMap<>();
      file.entries().forEach(entry -> entries.put(entry.name(), entry));
      entries.keySet().removeAll(without);
      for (Entry entry : changed) {
        entries.put(entry.name(), entry);
      }
      SafetensorsWriter.write(
          folder.resolve("golden.safetensors"), metadata, List.copyOf(entries.values()));
    }
    return folder;
  }

  private void refuses(String word, Entry... changed) throws IOException {
    assertRefused(golden(Map.of("prompt_tokens", "16"), List.of(), changed), word);
  }

  @Test
  void promptsThatCannotBe() throws IOException {
    for (String prompt :
        new String[] {"-3", "0", "49", "99", "2147483647", "2147483648", "1.5", "", "x\u001b["}) {
      assertRefused(golden(Map.of("prompt_tokens", prompt), List.of()), "prompt_tokens");
    }
    assertRefused(golden(Map.of(), List.of()), "names no number as prompt_tokens");
    assertTrue(
        Parity.check(golden(Map.of("prompt_tokens", "16"), List.of()), 2e-5, Device.CPU).passed());
  }

  @Test
  void idsThatCannotBe() throws IOException {
    for (double id : new double[] {-1, 256, 1L << 40}) {
      double[] ids = constant(96, 7);
      ids[95] = id;
      refuses("vocabulary", entry("input_ids", ElementType.INT64, List.of(2L, 48L), ids));
      double[] greedy = constant(24, 7);
      greedy[0] = id;
      refuses("vocabulary", entry("greedy", ElementType.INT64, List.of(2L, 12L), greedy));
    }
    refuses("type F32", entry("input_ids", ElementType.FLOAT32, List.of(2L, 48L), constant(96, 7)));
    refuses("type BOOL", entry("greedy", ElementType.BOOL, List.of(2L, 12L), constant(24, 1)));
    refuses("[B, T]", entry("input_ids", ElementType.INT64, List.of(96L), constant(96, 7)));
    refuses("[B, T]", entry("input_ids", ElementType.INT64, List.of(96L, 1L), constant(96, 7)));
    refuses("[B, T]", entry("input_ids", ElementType.INT64, List.of(0L, 48L)));
    refuses("[B, T]", entry("input_ids", ElementType.INT64, List.of(), 7));
    refuses("'greedy'", entry("greedy", ElementType.INT64, List.of(2L, 0L)));
    refuses("'greedy'", entry("greedy", ElementType.INT64, List.of(24L), constant(24, 7)));
    refuses("'greedy'", entry("greedy", ElementType.INT64, List.of(3L, 8L), constant(24, 7)));
  }

  @Test
  void answersThatAreNone() throws IOException {
    for (String name : new String[] {"input_ids", "logits", "greedy", "hidden.0", "hidden.2"}) {
      assertRefused(
          golden(Map.of("prompt_tokens", "16"), List.of(name)), "no tensor '" + name + "'");
    }
    int logits = 2 * 48 * 256;
    double[] values = constant(logits, 0.5);
    for (double value : new double[] {Double.NaN, Double.POSITIVE_INFINITY}) {
      values[logits - 1] = value;
      refuses(
          "NaN or infinite", entry("logits", ElementType.FLOAT32, List.of(2L, 48L, 256L), values));
    }
    refuses(
        "type I32",
        entry("logits", ElementType.INT32, List.of(2L, 48L, 256L), constant(logits, 1)));
    refuses(
        "shape", entry("logits", ElementType.FLOAT32, List.of(2L, 256L, 48L), constant(logits, 1)));
    refuses(
        "shape", entry("logits", ElementType.FLOAT32, List.of((long) logits), constant(logits, 1)));
    refuses("shape", entry("logits", ElementType.FLOAT32, List.of(2L, 48L, 0L)));
    refuses(
        "shape",
        entry("hidden.1", ElementType.FLOAT32, List.of(2L, 48L, 47L), constant(2 * 48 * 47, 1)));
    refuses(
        "'hidden.3', which",
        entry("hidden.3", ElementType.FLOAT32, List.of(2L, 48L, 48L), constant(2 * 48 * 48, 1)));
    refuses("'logitz', which", entry("logitz", ElementType.FLOAT32, List.of(1L), 1));
    var attention = constant(2 * 6 * 48 * 48, 1 / 48.0);
    var shape = List.of(2L, 6L, 48L, 48L);
    refuses("'attention.0'", entry("attention.1", ElementType.FLOAT32, shape, attention));
    refuses("'attention.1'", entry("attention.0", ElementType.FLOAT32, shape, attention));
    refuses(
        "shape",
        entry("attention.0", ElementType.FLOAT32, shape, attention),
        entry("attention.1", ElementType.FLOAT32, List.of(2L, 6L, 48L, 1L), constant(576, 1)));
    var wrong =
        Parity.check(
            golden(
                Map.of("prompt_tokens", "16"),
                List.of(),
                entry("attention.0", ElementType.FLOAT32, shape, attention),
                entry("attention.1", ElementType.FLOAT32, shape, attention)),
            2e-5,
            Device.CPU);
    assertFalse(wrong.passed());
    assertTrue(
        wrong.lines().stream()
            .anyMatch(line -> line.quantity().equals("attention") && !line.passed()));
  }

  @Test
  void trainingThatIsNone() throws IOException {
    String whole = Files.readString(SAVED.resolve("training.json"));
    for (String text : new String[] {"", "{}", "[]", "null", "{\"steps\": []}", "[".repeat(5000)}) {
      Path folder = copy();
      Files.writeString(folder.resolve("training.json"), text);
      assertRefused(folder, "training.json");
    }
    String[][] changes = {
      {"\"lr\"", "\"learning_rate\""},
      {"\"beta1\": 0.9", "\"beta1\": 1"},
      {"\"beta2\": 0.95", "\"beta2\": -0.1"},
      {"\"eps\": 1e-08", "\"eps\": 0"},
      {"\"eps\": 1e-08", "\"eps\": \"1e-8\""},
      {"\"weight_decay\": 0.1", "\"weight_decay\": 1e999"},
      {"\"weight_decay\": 0.1,", ""},
      {"\"clip_norm\": 1.0", "\"clip_norm\": null"},
      {"\"clip_norm\": 1.0", "\"clip_norm\": 1.0, \"momentum\": 0.9"},
      {"\"optimizer\": \"AdamW\"", "\"optimizer\": \"SGD\""},
      {"\"steps\": 10", "\"steps\": 11"},
      {"\"steps\": [", "\"steps\": [3,"},
      {"\"steps\": [", "\"steps\": {}, \"others\": ["},
      {"\"grad_norm\"", "\"gradient_norm\""},
      {"\"loss\": ", "\"loss\": true, \"x\": "},
      {"\"final_parameters\": {", "\"final_parameters\": {}, \"others\": {"},
      {"\"model.norm.weight\"", "\"model.norm.bias\""},
      {"\"sum\": ", "\"sum\": \"1\", \"x\": "},
      {"\"sum_of_squares\"", "\"squares\""}
    };
    for (String[] change : changes) {
      assertTrue(whole.contains(change[0]), change[0]);
      Path folder = copy();
      Files.writeString(folder.resolve("training.json"), whole.replace(change[0], change[1]));
      assertRefused(folder, "training.json");
    }
    Path without = copy();
    var nothing =
        whole.substring(0, whole.indexOf("\"final_parameters\"")) + "\"final_parameters\": {}}";
    Files.writeString(without.resolve("training.json"), nothing);
    assertRefused(without, "names no sums of");
  }

  @Test
  void tolerancesThatAreNone() {
    for (double tolerance :
        new double[] {Double.NaN, Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY, -1e-9}) {
      var e =
          assertThrows(
              InvalidInputException.class, () -> Parity.check(SAVED, tolerance, Device.CPU));
      assertTrue(e.getMessage().contains("tolerance"), e.getMessage());
    }
  }

  @Test
  void differences() {
    assertEquals(0.5, Parity.relative(3, 2));
    assertEquals(0, Parity.relative(0, 0));
    assertEquals(1e-9, Parity.relative(1e-9, 0));
    assertFalse(new Parity.Line("a", Parity.relative(Double.NaN, 1), 1).passed());
    assertFalse(new Parity.Line("a", Math.max(0, Double.NaN), 1).passed());
    assertFalse(new Parity.Result(SAVED, List.of(), List.of()).passed(), "nothing was compared");
  }
}
