package dev.sluice.tokenizer;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.gguf.GgufFile;
import dev.sluice.gguf.GgufTexts;
import dev.sluice.gguf.GgufWriter;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class TokenIdsTest {
  @TempDir Path directory;

  private GgufTexts texts(List<String> texts) throws IOException {
    Path path = directory.resolve("texts.gguf");
    var writer = new GgufWriter();
    writer.texts("texts", texts);
    writer.write(path, List.of(), (_, _) -> {});
    try (var file = GgufFile.open(path)) {
      return Objects.requireNonNull(file.metadata().texts("texts"));
    }
  }

  /// As a map of strings has them, also those whose hash codes are the same there.
  @Test
  void tokensHaveTheirIds() throws IOException {
    List<String> all = new ArrayList<>(List.of("", "Aa", "BB", "é", "Ġthe", "𝄞", "?", "\0"));
    for (int i = 0; i < 70_000; i++) {
      all.add("w" + i);
    }
    Map<String, Integer> expected = new LinkedHashMap<>();
    all.forEach(token -> expected.put(token, expected.size()));

    var texts = texts(all);
    var ids = new TokenIds(texts, all.size());
    assertNull(ids.twice());
    assertEquals(all, texts.strings());
    expected.forEach((token, id) -> assertEquals(id, ids.get(token)));
    assertEquals(expected, ids);
    assertEquals(all, List.copyOf(ids.keySet()));
    assertNull(ids.get("w70000"));
    assertNull(ids.get("\uD834")); // half a pair, for which Java writes a question mark
    assertNull(ids.get("ÿ"));
    assertFalse(ids.containsKey(7));
  }

  @Test
  void onlyTheFirstAreTokens() throws IOException {
    var texts = texts(List.of("a", "b", "c", "b"));
    var ids = new TokenIds(texts, 2);
    assertEquals(Map.of("a", 0, "b", 1), ids);
    assertNull(ids.twice());
    assertArrayEquals(new int[] {1, 3}, new TokenIds(texts, 4).twice());
    assertTrue(new TokenIds(texts, 0).isEmpty());
    assertEquals(Collections.emptyMap(), new TokenIds(texts, 0));
  }
}
