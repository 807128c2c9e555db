package dev.sluice.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.attention.RopeScaling;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.files.Trees;
import dev.sluice.gate.Gate;
import dev.sluice.gguf.GgufFile;
import dev.sluice.operations.Precision;
import dev.sluice.tensor.Device;
import dev.sluice.tokenizer.Tokenizers;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ObjectNode;

class ConvertTest {
  @TempDir Path directory;

  @Test
  void theTableSaysWhatWasConverted() throws IOException {
    Path source = model("source", 48);
    Path target = directory.resolve("target");
    var answer =
        Cli.run("convert", source, target, "--packing", "megatron_qkv", "--shard-size", "50KB")
            .succeeded();
    for (String expected :
        List.of(
            "gate packing +key_value_group +megatron_qkv",
            "type +float32 +float32",
            "shards +1 +13",
            "largest difference of logits +– +0",
            "Written: " + target)) {
      assertTrue(answer.out().matches("(?s).*" + expected + ".*"), answer::toString);
    }
    assertTrue(answer.err().contains("linear_qkv"), answer::toString);
    Path narrow = directory.resolve("narrow");
    answer = Cli.run("convert", target, narrow, "--dtype", "bfloat16").succeeded();
    assertTrue(answer.out().contains("The same roundings the other way"), answer::toString);
  }

  @ParameterizedTest
  @CsvSource({
    "--packing, group, 'use key_value_group, query_head, separate or megatron_qkv'",
    "--dtype, float8, 'use float32, bfloat16 or float16'",
    "--dtype, BF16, 'use float32, bfloat16 or float16'",
    "--shard-size, 2, 'give one such as 500MB, 2GB or 2GiB'",
    "--shard-size, -2GB, 'give one such as'",
    "--shard-size, 2 PB, 'give one such as'",
    "--shard-size, 0GB, 'less than a byte'",
    "--shard-size, 0.0000001KB, 'less than a byte'"
  })
  void whatCannotBeIsRefused(String option, String value, String words) throws IOException {
    Path source = model("source", 48);
    String sentence =
        Cli.run("convert", source, directory.resolve("target"), option, value).refusal();
    assertTrue(sentence.contains(words) && sentence.contains(value), sentence);
    assertFalse(Files.exists(directory.resolve("target")));
  }

  @Test
  void placesThatCannotBeAreRefused() throws IOException {
    Path source = model("source", 48);
    for (Path target : List.of(source, source.resolve("in"), directory)) {
      assertTrue(Cli.run("convert", source, target).refusal().contains("; name"));
    }
    assertTrue(
        Cli.run("convert", directory.resolve("no"), directory.resolve("t"))
            .refusal()
            .contains("does not exist"));
    assertEquals(List.of(source), Trees.children(directory));
  }

  /// A run stands for its newest checkpoint, and nothing is put into it.
  @Test
  void aRunIsConverted() throws IOException {
    Path run = directory.resolve("run");
    Path data = Cli.text(directory.resolve("log.txt"));
    Cli.run(Cli.tiny(data, run, "--steps", 2, "--gate", "sdpa-headwise")).succeeded();
    assertTrue(Cli.run("convert", run, run.resolve("converted")).refusal().contains("; name"));
    Path target = directory.resolve("target");
    var answer =
        Cli.run("convert", run, target, "--packing", "separate", "--dtype", "float16").succeeded();
    assertTrue(answer.err().contains("'SHA256SUMS'"), answer::toString);
    Cli.run(
            "inspect",
            target,
            "--data",
            data,
            "--tokens",
            32,
            "--output",
            directory.resolve("seen"))
        .succeeded();
  }

  @ParameterizedTest
  @CsvSource({
    "2GB,2000000000",
    "2GiB,2147483648",
    "500mb,500000000",
    "1.5 KiB,1536",
    "0.5KB,500",
    "3TB,3000000000000",
    "999999TiB,1099510528264372224"
  })
  void sizesAreThoseOfHuggingFace(String size, long bytes) {
    assertEquals(bytes, ConvertCommand.bytes(size));
  }

  @ParameterizedTest
  @ValueSource(strings = {"", "GB", "1,5GB", "1e3GB", "2G", "2B", "1234567GB", "２GB"})
  void whatIsNoSizeIsRefused(String size) {
    assertThrows(InvalidInputException.class, () -> ConvertCommand.bytes(size));
  }

  /// A disk that is full while the weights are written.
  @Test
  @EnabledOnOs(OS.LINUX)
  void aFullDiskLeavesNothing() throws IOException {
    Path source = model("source", 256);
    Path errors = directory.resolve("errors.txt");
    var process =
        SluiceProcess.start(
            errors, "ulimit -f 300; ", "convert", source, directory.resolve("target"));
    assertEquals(Main.FAILED, SluiceProcess.end(process), () -> SluiceProcess.read(errors));
    String said = SluiceProcess.read(errors);
    assertTrue(said.contains("model.safetensors cannot be written"), said);
    assertFalse(said.contains("Exception"), said);
    assertEquals(List.of(errors, source), Trees.children(directory));
  }

  /// Ctrl-C as soon as something is written.
  @Test
  @EnabledOnOs(OS.LINUX)
  void anInterruptionLeavesNothing() throws Exception {
    Path source = model("source", 512);
    Path errors = directory.resolve("errors.txt");
    var process =
        SluiceProcess.start(
            errors, "", "convert", source, directory.resolve("target"), "--dtype", "bfloat16");
    while (process.isAlive() && Trees.children(directory).size() < 3) {
      TimeUnit.MILLISECONDS.sleep(1);
    }
    new ProcessBuilder("kill", "-INT", String.valueOf(process.pid())).start().waitFor();
    assertEquals(130, SluiceProcess.end(process), () -> SluiceProcess.read(errors));
    String said = SluiceProcess.read(errors);
    assertTrue(said.contains("Stopping; what was written is removed first."), said);
    assertTrue(said.contains("there is no " + directory.resolve("target")), said);
    assertEquals(List.of(errors, source), Trees.children(directory));
  }

  private Path model(String name, int hiddenSize) throws IOException {
    Path place = Files.createDirectory(directory.resolve(name));
    var config =
        DecoderConfig.uniform(
            101,
            hiddenSize,
            2 * hiddenSize,
            4,
            4,
            2,
            16,
            128,
            10_000,
            new RopeScaling.None(),
            1e-6,
            true,
            true,
            0.2,
            List.of(Gate.SDPA_ELEMENTWISE));
    try (var decoder = Decoder.initialize(config, Precision.FLOAT32, Device.CPU, 3)) {
      ModelDirectory.write(place, decoder);
    }
    return place;
  }

  /// A model of bytes, as a GGUF file, computes what it did, and is taken wherever a model is.
  @Test
  void aModelBecomesAGgufFileAndADirectoryAgain() throws IOException {
    Path mini = Path.of("src/test/resources/golden/gguf/qwen35-mini.gguf");
    Path folder = directory.resolve("folder");
    assertTrue(Cli.run("convert", mini, folder).succeeded().out().contains("Written: " + folder));
    Path file = directory.resolve("file.gguf");
    var answer = Cli.run("convert", folder, file, "--weights", "q8_0").succeeded();
    for (String expected :
        List.of("architecture qwen35", "q8_0 +\\d+ +0", "Logits differ by", "Written: " + file)) {
      assertTrue(answer.out().matches("(?s).*" + expected + ".*"), answer::toString);
    }
    String[] how = {"--prompt", "the other", "--max-tokens", "4", "--temperature", "0"};
    var ofMini = generate(mini, how);
    assertEquals(ofMini, generate(file, how));
    Path alone = Files.createDirectory(directory.resolve("alone"));
    Files.copy(file, alone.resolve("model.gguf"));
    assertEquals(ofMini, generate(alone, how));

    Files.copy(folder.resolve("tokenizer.json"), alone.resolve("tokenizer.json"));
    var noted =
        Cli.run("generate", alone.resolve("model.gguf"), "--prompt", "x", "--max-tokens", 1);
    assertTrue(
        noted.succeeded().err().contains("tokenizer.json is used, and not the tokenizer within"),
        noted::toString);
  }

  /// The tokenizer of a directory is that of the file, or a sentence says what it cannot be.
  @Test
  void aDirectorysSplitterIsTheFiles() throws IOException {
    Path mini = Path.of("src/test/resources/golden/gguf/qwen35-mini.gguf");
    Path folder = directory.resolve("folder");
    Cli.run("convert", mini, folder).succeeded();
    Path tokenizer = folder.resolve("tokenizer.json");
    var json = (ObjectNode) JsonMapper.shared().readTree(tokenizer.toFile());
    var splitters = JsonMapper.shared().readTree(mini.resolveSibling("splitters.json").toFile());
    json.putNull("normalizer").set("pre_tokenizer", splitters.get("pre_tokenizers").get("afmoe"));
    Files.writeString(tokenizer, json.toString());
    Path file = directory.resolve("file.gguf");
    Cli.run("convert", folder, file).succeeded();
    try (var written = GgufFile.open(file)) {
      assertEquals("afmoe", written.metadata().text("tokenizer.ggml.pre"));
    }
    var before = Tokenizers.load(tokenizer.toString());
    var after = Tokenizers.load(file.toString());
    for (JsonNode each : splitters.get("texts")) {
      String text = each.get("text").asString();
      assertArrayEquals(before.encode(text), after.encode(text), text);
    }

    json.putObject("pre_tokenizer").put("type", "Metaspace");
    Files.writeString(tokenizer, json.toString());
    String sentence = Cli.run("convert", folder, directory.resolve("other.gguf")).refusal();
    assertTrue(
        sentence.contains("Metaspace") && sentence.contains("qwen2, qwen35, gpt-4o"), sentence);
  }

  private static String generate(Path model, String... how) {
    var arguments = new ArrayList<Object>(List.of("generate", model));
    arguments.addAll(List.of(how));
    return Cli.run(arguments.toArray()).succeeded().out();
  }

  @ParameterizedTest
  @CsvSource({
    "m.gguf, --weights, q5_0, 'choose one of f32, f16, bf16, q8_0, q4_0, q4_k, q6_k'",
    "m.gguf, --weights, Q8_0, 'choose one of f32, f16, bf16, q8_0, q4_0, q4_k, q6_k'",
    "m.gguf, --dtype, float16, 'choose --weights'",
    "m.gguf, --packing, separate, 'the packing is that of the file'",
    "m.gguf, --shard-size, 1GB, 'the model is written as one file'",
    "m, --weights, q8_0, 'name a target that ends with .gguf'",
    "a/b/m.gguf, --weights, f32, 'no file can be made in it'",
  })
  void whatDoesNotGoWithAGgufFileIsRefused(String target, String flag, String value, String wayOut)
      throws IOException {
    Path source = model("source", 48);
    var sentence = Cli.run("convert", source, directory.resolve(target), flag, value).refusal();
    assertTrue(sentence.contains(wayOut), sentence);
    assertFalse(Files.exists(directory.resolve(target)));
  }
}
