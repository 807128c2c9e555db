package dev.sluice.serving;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;

import dev.sluice.generation.Choice;
import dev.sluice.generation.Sampler;
import dev.sluice.tokenizer.Tokenizers;
import java.util.Set;
import org.junit.jupiter.api.Test;

class ServedModelTest {
  /// A tokenizer that falls back to bytes gives a token other bytes in another text.
  @Test
  void partsOfCharactersHaveBytesWhereTheTokenizerIsByteLevel() {
    var fallback = model("src/test/resources/dev/sluice/tokenizer/fallback.json");
    int[] parts = fallback.tokenizer().encode("\u0fd6"); // of no token of its own
    assertEquals("\uFFFD", fallback.text(parts[parts.length - 1]));
    assertNull(fallback.bytes(parts[parts.length - 1]));
    assertArrayEquals(new byte[] {'a'}, fallback.bytes(single(fallback, "a")));
    var byteLevel = model("src/test/resources/dev/sluice/tokenizer/tokenizer.json");
    int[] bytes = byteLevel.tokenizer().encode("\u0fd6");
    assertEquals("\uFFFD", byteLevel.text(bytes[0]));
    assertArrayEquals(new byte[] {(byte) 0xE0}, byteLevel.bytes(bytes[0]));
  }

  private static int single(ServedModel model, String text) {
    for (int id = 0; id < model.tokenizer().vocabularySize(); id++) {
      if (model.text(id).equals(text)) {
        return id;
      }
    }
    throw new AssertionError("no token is " + text);
  }

  private static ServedModel model(String tokenizer) {
    var loaded = Tokenizers.load(tokenizer);
    return new ServedModel(
        "model",
        "test",
        loaded,
        null,
        loaded::encode,
        Set.of(),
        Set.of(),
        new Choice(Sampler.GREEDY),
        FilesInPlace.NONE);
  }
}
