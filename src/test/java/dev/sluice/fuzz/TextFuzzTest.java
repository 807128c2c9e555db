package dev.sluice.fuzz;

import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.luben.zstd.Zstd;
import dev.sluice.corpus.Corpus;
import dev.sluice.files.Trees;
import dev.sluice.tokenizer.ByteTokenizer;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import java.util.zip.GZIPOutputStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/// Texts of all kinds, plain, compressed and in Parquet.
class TextFuzzTest {
  private static final Path PARQUET = Path.of("src/test/resources/dev/sluice/corpus/kinds");

  @TempDir Path directory;

  private static byte[] lines() {
    var lines = new StringBuilder();
    for (int i = 0; i < 30; i++) {
      lines.append(
          "{\"id\": %d, \"text\": \"Line %d: caf\u00E9 \\\"quoted\\\"\\n\", \"meta\": {\"a\": [1, 2.5]}}\n"
              .formatted(i, i * i));
    }
    return lines.toString().getBytes(StandardCharsets.UTF_8);
  }

  private static byte[] gzip(byte[] bytes) throws IOException {
    var out = new ByteArrayOutputStream();
    try (var gzip = new GZIPOutputStream(out)) {
      gzip.write(bytes);
    }
    return out.toByteArray();
  }

  private void fuzz(String name, byte[] good) throws IOException {
    Path file = directory.resolve(name);
    Path corpus = directory.resolve("corpus-" + name);
    var outcome =
        Fuzz.run(
            "text-" + name,
            mutations ->
                name.endsWith(".json") && mutations.below(2) == 0
                    ? mutations.jsonFile(good)
                    : mutations.bytes(good),
            input -> {
              Trees.remove(corpus);
              Files.write(file, input);
              var prepared = Corpus.prepare(file, "text", new ByteTokenizer(), 0.2, corpus);
              prepared.verify();
            });
    assertTrue(outcome.refused() > 0, outcome::toString);
  }

  @Test
  void plainText() throws IOException {
    fuzz("a.txt", "Plain text, caf\u00E9, 東京.\n".repeat(40).getBytes(StandardCharsets.UTF_8));
  }

  @Test
  void jsonLines() throws IOException {
    fuzz("a.jsonl", lines());
  }

  @Test
  void jsonArray() throws IOException {
    String array = new String(lines(), StandardCharsets.UTF_8).strip().replace("\n{", ",\n{");
    fuzz("a.json", ("[" + array + "]").getBytes(StandardCharsets.UTF_8));
  }

  @Test
  void gzipped() throws IOException {
    fuzz("a.jsonl.gz", gzip(lines()));
  }

  @Test
  void zstandard() throws IOException {
    fuzz("a.jsonl.zst", Zstd.compress(lines()));
  }

  @Test
  void parquet() throws IOException {
    List<Path> files;
    try (Stream<Path> all = Files.list(PARQUET)) {
      files = all.sorted().toList();
    }
    Path file = directory.resolve("a.parquet");
    Path corpus = directory.resolve("corpus");
    var outcome =
        Fuzz.run(
            "text-parquet",
            mutations -> mutations.bytes(Files.readAllBytes(mutations.oneOf(files))),
            input -> {
              Trees.remove(corpus);
              Files.write(file, input);
              Corpus.prepare(file, "text", new ByteTokenizer(), 0.2, corpus).verify();
            });
    assertTrue(outcome.refused() > 0, outcome::toString);
  }
}
