package dev.sluice.schema;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.TestData;
import dev.sluice.tokenizer.Tokenizer;
import dev.sluice.tokenizer.Tokenizers;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Set;
import java.util.SplittableRandom;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// The 151,669 tokens of Qwen3.
@Tag("shared")
class Qwen3MaskTest {
  private static Tokenizer tokenizer;
  private static Vocabulary vocabulary;

  @BeforeAll
  static void unpack(@TempDir Path folder) throws IOException, InterruptedException {
    Path packed = TestData.SHARED.resolve("data/tokenizers/qwen3");
    Path file = folder.resolve("tokenizer.json");
    var unpacking =
        new ProcessBuilder("xz", "-dc", packed.resolve("tokenizer.json.xz").toString())
            .redirectOutput(file.toFile())
            .start();
    assertEquals(0, unpacking.waitFor());
    Files.copy(packed.resolve("tokenizer_config.json"), folder.resolve("tokenizer_config.json"));
    tokenizer = Tokenizers.load(folder.toString());
    vocabulary = new Vocabulary(tokenizer.tokenBytes(), Set.of(tokenizer.endOfText()));
  }

  /// A token's bytes are what the library decodes, wherever they are characters of their own.
  @Test
  void bytesAreThoseOfTheLibrary() {
    byte[][] bytes = tokenizer.tokenBytes();
    assertEquals(tokenizer.vocabularySize(), bytes.length);
    var random = new SplittableRandom(1);
    for (int i = 0; i < 100; i++) {
      int id = random.nextInt(bytes.length);
      if (bytes[id].length > 0) {
        assertEquals(
            tokenizer.decode(new int[] {id}), new String(bytes[id], StandardCharsets.UTF_8));
      }
    }
    for (int id : tokenizer.encode("<think></think><|im_end|><tool_call>")) {
      assertEquals(0, bytes[id].length);
    }
  }

  @Test
  void whatIsValidCanBeWrittenTokenByToken() {
    for (var sample : SchemaSamples.ALL) {
      var mask =
          new TokenMask(
              JsonSchema.of("the schema", SchemaSamples.json(sample.getFirst())), vocabulary);
      for (String given : sample.subList(1, sample.size())) {
        for (int style = 0; style < 3; style++) {
          String text = SchemaSamples.written(SchemaSamples.json(given), style);
          JsonState state = mask.start();
          for (int id : tokenizer.encode(text)) {
            assertTrue(mask.allowed(state).get(id), "token " + id + " of " + text);
            state = mask.after(state, id);
          }
          assertTrue(mask.allowed(state).get(tokenizer.endOfText()), text);
        }
      }
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"^.{1,20}$", "^[A-Z][a-z]{1,9}( [A-Z][a-z]{1,9})?$", "^[^\\\\s]{3,}$"})
  void classesOfTokensAreTheTokens(String pattern) {
    SchemaSamples.requireEqualClasses(vocabulary, pattern);
  }

  @Test
  void whateverIsChosenTheTextIsValid() {
    var random = new SplittableRandom(2);
    int ended = 0;
    for (var sample : SchemaSamples.ALL) {
      var node = SchemaSamples.json(sample.getFirst());
      var mask = new TokenMask(JsonSchema.of("the schema", node), vocabulary);
      for (int walk = 0; walk < 3; walk++) {
        byte[] begun = SchemaSamples.beginning(sample, random);
        byte[] bytes = SchemaSamples.walk(mask, vocabulary, begun, random, (_, _) -> {});
        if (bytes != null) {
          String text = new String(bytes, StandardCharsets.UTF_8);
          assertTrue(new SchemaDefinition(node).allows(SchemaSamples.exactly(text)), text);
          ended++;
        }
      }
    }
    assertTrue(ended > SchemaSamples.ALL.size(), ended + " ended");
  }
}
