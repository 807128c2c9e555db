package dev.sluice.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeFalse;

import dev.sluice.tensor.Device;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Map;
import java.util.regex.Pattern;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/// Input at fault: exit code 2, one sentence that says what and what to do, and nothing is lost.
class BadInputTest {
  private static final Path TOKENIZER =
      Path.of("src/test/resources/dev/sluice/tokenizer/tokenizer.json");

  @TempDir static Path directory;
  static Path data;
  static Path run;
  static Path checkpoint;
  static Map<String, String> before;
  static int copies;

  @BeforeAll
  static void train() throws IOException {
    data = Cli.text(directory.resolve("log.txt"));
    run = directory.resolve("run");
    Cli.run(Cli.tiny(data, run, "--gate", "sdpa-headwise")).succeeded();
    checkpoint = run.resolve("checkpoints").resolve("step-00000004");
    before = Cli.contents(run);
  }

  @AfterAll
  static void nothingIsLost() throws IOException {
    assertEquals(before, Cli.contents(run));
  }

  // ---------------------------------------------------------------- weights

  /// The checkpoint as it would come from elsewhere.
  private static Path foreign() throws IOException {
    return Cli.copy(
        checkpoint,
        directory.resolve("foreign-" + copies++),
        "SHA256SUMS",
        "optimizer.safetensors");
  }

  private static String refusal(Path model) {
    String inspected = Cli.run("inspect", model, "--data", data, "--tokens", 64).refusal();
    assertEquals(inspected, Cli.run("generate", model, "--prompt", "Line").refusal());
    return inspected;
  }

  private static String refusalOf(byte[] weights) throws IOException {
    Path model = foreign();
    Files.write(model.resolve("model.safetensors"), weights);
    return refusal(model);
  }

  private static byte[] weights() throws IOException {
    return Files.readAllBytes(checkpoint.resolve("model.safetensors"));
  }

  private static byte[] safetensors(String header, int dataBytes) {
    byte[] json = header.getBytes(StandardCharsets.UTF_8);
    return ByteBuffer.allocate(8 + json.length + dataBytes)
        .order(ByteOrder.LITTLE_ENDIAN)
        .putLong(json.length)
        .put(json)
        .array();
  }

  @Test
  void truncatedWeights() throws IOException {
    byte[] weights = weights();
    assertContains(refusalOf(Arrays.copyOf(weights, weights.length - 10)), "truncated");
    assertContains(refusalOf(Arrays.copyOf(weights, 100)), "truncated");
    assertContains(refusalOf(new byte[0]), "truncated");
  }

  @Test
  void oversizedHeader() throws IOException {
    byte[] weights = weights();
    ByteBuffer.wrap(weights).order(ByteOrder.LITTLE_ENDIAN).putLong(0, 1L << 40);
    assertContains(refusalOf(weights), "not a safetensors file");
  }

  @Test
  void overlappingTensors() throws IOException {
    assertContains(
        refusalOf(
            safetensors(
                """
                {"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},\
                "b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}\
                """,
                12)),
        "b");
  }

  @Test
  void wrongElementType() throws IOException {
    byte[] weights = weights();
    int at = new String(weights, StandardCharsets.ISO_8859_1).indexOf("\"F32\"") + 1;
    weights[at] = 'I';
    assertContains(refusalOf(weights), "I32");
    weights[at] = 'Q';
    assertContains(refusalOf(weights), "Q32");
  }

  @Test
  void notANumberInWeights() throws IOException {
    byte[] weights = weights();
    var bytes = ByteBuffer.wrap(weights).order(ByteOrder.LITTLE_ENDIAN);
    bytes.putFloat(Math.toIntExact(8 + bytes.getLong(0)), Float.NaN);
    assertContains(refusalOf(weights), "NaN");
  }

  @Test
  void configThatDisagreesWithWeights() throws IOException {
    Path model = foreign();
    replace(model.resolve("config.json"), "\"hidden_size\" : 32", "\"hidden_size\" : 48");
    String sentence = refusal(model);
    assertContains(sentence, "[256, 32]");
    assertContains(sentence, "[256, 48]");
  }

  @Test
  void unknownArchitecture() throws IOException {
    Path model = foreign();
    replace(
        model.resolve("config.json"), "\"model_type\" : \"qwen3\"", "\"model_type\" : \"llama\"");
    assertContains(refusal(model), "unknown architecture 'llama'");
  }

  @Test
  void brokenConfig() throws IOException {
    Path model = foreign();
    replace(model.resolve("config.json"), "{", "[");
    assertContains(refusal(model), "JSON");
    Files.writeString(model.resolve("config.json"), "");
    refusal(model);
  }

  @Test
  void missingFiles() throws IOException {
    assertContains(refusal(directory.resolve("nowhere")), "does not exist");
    assertContains(refusal(data), "not a directory");
    assertContains(refusal(Files.createDirectory(directory.resolve("empty"))), "config.json");
    Path model = foreign();
    Files.delete(model.resolve("model.safetensors"));
    assertContains(refusal(model), "model.safetensors");
    Path unfinished = Files.createDirectory(directory.resolve("unfinished"));
    Files.copy(run.resolve("config.toml"), unfinished.resolve("config.toml"));
    assertContains(refusal(unfinished), "no complete checkpoint");
  }

  /// A variable of a shell that has no value is no present directory.
  @Test
  void namesOfNothing() throws IOException {
    for (String name : new String[] {"", " "}) {
      assertContains(Cli.run("generate", name, "--prompt", "x").refusal(), "names no file");
      assertContains(trainRefusal("--output", name), "names no file");
    }
    Path nowhere =
        Files.createSymbolicLink(directory.resolve("dangling"), directory.resolve("gone"));
    assertContains(
        Cli.run(Cli.tiny(data, nowhere)).refusal(), "dangling is a link that leads nowhere");
    assertFalse(Files.exists(directory.resolve("gone")));
  }

  /// An end of text that is not read would let a text run on.
  @Test
  void endsOfTextThatAreNone() throws IOException {
    for (String wrong : new String[] {"\"</s>\"", "1.5", "[0, null]", "true", "{\"a\": 1}"}) {
      Path model = foreign();
      Files.writeString(
          model.resolve("generation_config.json"), "{\"eos_token_id\": " + wrong + "}");
      assertContains(
          Cli.run("generate", model, "--prompt", "x").refusal(),
          "eos_token_id must be a token's number or a list of them");
    }
    Path model = foreign();
    Files.writeString(model.resolve("generation_config.json"), "{\"eos_token_id\": [-1, 4000]}");
    var answer = Cli.run("generate", model, "--prompt", "x", "--max-tokens", 2).succeeded();
    assertContains(answer.err(), "eos_token_id -1 is outside the model's vocabulary of 256");
    assertContains(answer.err(), "eos_token_id 4000 is outside");
    Files.writeString(
        model.resolve("generation_config.json"), "{\"eos_token_id\": 1, \"eos_token_id\": 2}");
    assertContains(Cli.run("generate", model, "--prompt", "x").refusal(), "given twice");
  }

  // ---------------------------------------------------------------- text and tokenizers

  private static String trainRefusal(Object... more) {
    return Cli.run(Cli.tiny(data, directory.resolve("never"), more)).refusal();
  }

  @Test
  void unusableText() throws IOException {
    Path empty = Files.createFile(directory.resolve("empty.txt"));
    assertContains(trainRefusal("--data", empty), "has no text");
    assertContains(Cli.run("inspect", run, "--data", empty).refusal(), "has no text");
    Path binary = Files.write(directory.resolve("binary.txt"), new byte[5000]);
    assertContains(trainRefusal("--data", binary), "not text");
    Path small = Files.writeString(directory.resolve("small.txt"), "Too little.");
    assertContains(trainRefusal("--data", small), "tokens");
    assertContains(Cli.run("inspect", run, "--data", small).refusal(), "fewer than two windows");
    assertContains(trainRefusal("--data", directory.resolve("none.txt")), "does not exist");
    assertContains(Cli.run("inspect", run, "--data", "none.txt").refusal(), "does not exist");
  }

  @Test
  void tokenizerThatExceedsTheVocabulary() throws IOException {
    assertContains(
        Cli.run("generate", run, "--prompt", "x", "--tokenizer", TOKENIZER).refusal(), "256");
    assertContains(Cli.run("inspect", run, "--tokenizer", TOKENIZER).refusal(), "256");
    assertContains(trainRefusal("--tokenizer", TOKENIZER, "--vocab-size", 256), "vocab_size");
    Path broken = Files.writeString(directory.resolve("tokenizer.json"), "{\"model\":");
    assertContains(trainRefusal("--tokenizer", broken), "not valid JSON");
    assertContains(trainRefusal("--tokenizer", "nowhere.json"), "no tokenizer");
  }

  /// It ends the process that reads it.
  @Test
  void tokenizerThatBreaksTheLibrary() throws IOException {
    String json = Files.readString(TOKENIZER);
    Path broken =
        Files.writeString(
            directory.resolve("charsmap.json"),
            json.replaceFirst(
                "\"normalizer\": *null",
                "\"normalizer\": {\"type\": \"Precompiled\", \"precompiled_charsmap\": \"AAAA\"}"));
    assertContains(
        Cli.run("generate", run, "--prompt", "x", "--tokenizer", broken).refusal(),
        "charsmap.json is not a usable Hugging Face tokenizer: on reading it the library broke");
    assertContains(trainRefusal("--tokenizer", broken), "the library broke down");
  }

  @Test
  void endTokenThatIsNone() {
    Path wordPiece = TOKENIZER.resolveSibling("wordpiece.json");
    assertContains(trainRefusal("--tokenizer", wordPiece), "choose one with --eos-token");
    assertContains(
        trainRefusal("--tokenizer", wordPiece, "--eos-token", "</s>"), "no token '</s>'");
    assertContains(trainRefusal("--eos-token", "</s>"), "bytes");
    assertContains(
        Cli.run("generate", run, "--prompt", "x", "--eos-token", "</s>").refusal(), "bytes");
  }

  @Test
  void promptThatExceedsTheContext() throws IOException {
    Path model = foreign();
    replace(
        model.resolve("config.json"),
        "\"max_position_embeddings\" : 32768",
        "\"max_position_embeddings\" : 16");
    assertContains(
        Cli.run("generate", model, "--prompt", "Longer than sixteen bytes").refusal(),
        "context of 16");
    assertContains(
        Cli.run("inspect", model, "--data", data, "--tokens", 64).refusal(), "context of 16");
    Cli.run("generate", model, "--prompt", "Fits").succeeded();
    assertContains(trainRefusal("--sample-tokens", 40_000), "sample_tokens");
  }

  // ---------------------------------------------------------------- settings

  @Test
  void settingsThatCannotBe() {
    assertContains(trainRefusal("--attention-heads", 3, "--key-value-heads", 2), "3");
    assertContains(trainRefusal("--gate", "sdpa-sideways"), "unknown gate 'sdpa-sideways'");
    assertContains(trainRefusal("--gate", "sdpa-headwise+sdpa-elementwise"), "sdpa");
    assertContains(trainRefusal("--model", "giant"), "unknown model 'giant'");
    assertContains(trainRefusal("--precision", "float8"), "unknown precision 'float8'");
    assertContains(trainRefusal("--schedule", "square"), "unknown schedule 'square'");
    assertContains(trainRefusal("--steps", 0), "steps");
    assertContains(trainRefusal("--steps", "many"), "many");
    assertContains(trainRefusal("--steps", "99999999999"), "99999999999");
    assertContains(trainRefusal("--learning-rate", "NaN"), "learning_rate");
    assertContains(trainRefusal("--layers", -1), "layers");
    assertContains(trainRefusal("--warmup-steps", -1), "warmup_steps");
    assertContains(trainRefusal("--threads", 0), "--threads");
    assertContains(Cli.run("generate", run, "--temperature", -1).refusal(), "temperature");
    assertContains(Cli.run("generate", run, "--max-tokens", 0).refusal(), "0");
    assertContains(Cli.run("generate", run, "--precision", "float8").refusal(), "float8");
    assertContains(Cli.run("generate", run, "--precision", "int8").refusal(), "int8");
    assertContains(Cli.run("inspect", run, "--precision", "int8").refusal(), "generate");
    assertContains(
        Cli.run("generate", run, "--kv-cache", "q8_0").refusal(), "--kv-cache 'q8_0' is unknown");
    assertContains(trainRefusal("--precision", "int8"), "use float32 or bfloat16");
    assertContains(Cli.run("inspect", run, "--windows", 0).refusal(), "--windows");
    assertContains(Cli.run("inspect", run, "--tokens", 1).refusal(), "--tokens");
    assertFalse(Files.exists(directory.resolve("never").resolve("config.toml")));
  }

  @Test
  void variationsThatCannotBe() {
    assertContains(trainRefusal("--gate", "value-headwise-from-output"), "value");
    assertContains(trainRefusal("--gate", "sdpa-headwise-first*999"), "999");
    assertContains(trainRefusal("--softmax-sink", "kitchen"), "kitchen");
    assertContains(trainRefusal("--sdpa-nonlinearity", "relu"), "relu");
    assertContains(trainRefusal("--residual-clip", -1), "residual_clip");
    assertContains(trainRefusal("--gated-norm-rank", -1), "gated_norm_rank");
  }

  @Test
  void unknownFlags() {
    assertContains(Cli.run("train", "--batchsize", 4).refusal(), "--batch-size");
    assertContains(Cli.run("generate", run, "--loud").refusal(), "--loud");
    assertContains(Cli.run("generate").refusal(), "CHECKPOINT");
    assertContains(Cli.run("generate", run, "--seed", "x").refusal(), "--seed");
    assertContains(Cli.run("trane").refusal(), "train");
  }

  @Test
  void configurationFiles() throws IOException {
    assertContains(toml("stepz = 3\n"), "unknown setting 'stepz'");
    assertContains(toml("steps = 3\nseed = = 4\n"), "line 2");
    assertContains(toml("steps = \"three\"\n"), "steps must be a whole number");
    assertContains(toml("steps = 1.5\n"), "steps must be a whole number");
    assertContains(toml("steps = 99999999999\n"), "99999999999");
    assertContains(toml("data = 3\n"), "data must be text");
    assertContains(toml("learning_rate = true\n"), "learning_rate must be a number");
    assertContains(toml("match_parameters = 1\n"), "match_parameters must be true or false");
    assertContains(toml("[model]\nlayers = 2\n"), "model must be text");
    assertContains(
        Cli.run("train", "--config", directory.resolve("none.toml")).refusal(), "none.toml");
  }

  private static String toml(String text) throws IOException {
    Path file = Files.writeString(directory.resolve("settings.toml"), text);
    return Cli.run("train", "--config", file, "--output", directory.resolve("never")).refusal();
  }

  @Test
  void unknownDevices() {
    assertContains(trainRefusal("--device", "abacus"), "unknown device 'abacus'");
    assertContains(Cli.run("generate", run, "--device", "abacus").refusal(), "abacus");
    assumeFalse(Device.parse("auto").toString().startsWith("cuda"));
    assertContains(trainRefusal("--device", "cuda"), "not available");
    assertContains(Cli.run("inspect", run, "--device", "cuda:1").refusal(), "not available");
  }

  // ---------------------------------------------------------------- runs

  @Test
  void directoriesThatHoldTheWrongThing() throws IOException {
    assertContains(Cli.run("train", "--resume", directory).refusal(), "it is no run");
    assertContains(Cli.run("train", "--resume", run, "--batch-size", 9).refusal(), "--resume");
    Path other = Cli.text(directory.resolve("other.txt"));
    Files.writeString(other, Files.readString(other) + "and more");
    assertContains(Cli.run(Cli.tiny(other, run)).refusal(), "already holds a run");
    assertEquals(before, Cli.contents(run));
  }

  @Test
  void runWhoseTextChanged() throws IOException {
    Path changed = directory.resolve("changed");
    Path text = Cli.text(directory.resolve("changing.txt"));
    Cli.run(Cli.tiny(text, changed)).succeeded();
    Files.writeString(text, Files.readString(text) + "and more");
    assertContains(Cli.run("train", "--resume", changed).refusal(), "the data changed");
  }

  @Test
  void runWhoseTokenizerChanged() throws IOException {
    Path changed = directory.resolve("retokenized");
    Path tokenizer = directory.resolve("changing.json");
    Files.copy(TOKENIZER, tokenizer);
    Cli.run(Cli.tiny(data, changed, "--tokenizer", tokenizer)).succeeded();
    Cli.run("generate", changed, "--prompt", "Line").succeeded();
    Files.writeString(tokenizer, Files.readString(tokenizer) + " ");
    assertContains(Cli.run("train", "--resume", changed).refusal(), "the tokenizer changed");
  }

  @Test
  void damagedCheckpointIsNotResumed() throws IOException {
    Path damaged = Cli.copy(run, directory.resolve("damaged"));
    Path weights =
        damaged.resolve("checkpoints").resolve("step-00000004").resolve("model.safetensors");
    byte[] bytes = Files.readAllBytes(weights);
    bytes[bytes.length - 1] ^= 1;
    Files.write(weights, bytes);
    assertContains(Cli.run("train", "--resume", damaged).refusal(), "damaged");
  }

  private static void replace(Path file, String from, String to) throws IOException {
    String text = Files.readString(file);
    assertTrue(text.contains(from), text);
    Files.writeString(file, text.replaceFirst(Pattern.quote(from), to));
  }

  private static void assertContains(String text, String part) {
    assertTrue(text.contains(part), text);
  }

  // ---------------------------------------------------------------- bench

  private static String bench(Object... more) {
    Object[] arguments = new Object[more.length + 2];
    arguments[0] = "bench";
    arguments[1] = "train";
    System.arraycopy(more, 0, arguments, 2, more.length);
    return Cli.run(arguments).refusal();
  }

  @Test
  void benchRefusesWhatItCannotMeasure() {
    for (String shape :
        new String[] {
          "384,8", "a,b,c,d,e,f,g,h", "64,2,3,1,96,50,33,2", "64,0,2,1,96,50,33,2", ""
        }) {
      assertContains(bench("--shape", shape), "eight positive numbers");
    }
    assertContains(bench("--shape", "64,2,4,3,96,50,33,2"), "not a multiple");
    assertContains(bench("--gate", "sdpa"), "unknown gate 'sdpa'");
    assertContains(bench("--precision", "float8"), "unknown precision 'float8'");
    assertContains(bench("--steps", 0), "--steps must be at least 1, not 0");
    assertContains(bench("--warm-up", -1), "--warm-up must be 0 seconds or more");
    assertContains(bench("--threads", 0), "not 0");
    assertContains(bench("--json", directory.resolve("none/bench.json")), "cannot be written");
    assertContains(bench("--json", directory), "cannot be written");
  }
}
