package dev.sluice.gguf;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.TestData;
import dev.sluice.fuzz.Fuzz;
import dev.sluice.gguf.GgufWriter.Planned;
import dev.sluice.kernel.WeightFormat;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

class GgufFileTest {
  @TempDir Path directory;

  /// A file by hand.
  private static final class Bytes {
    private final ByteBuffer bytes = ByteBuffer.allocate(1 << 16).order(ByteOrder.LITTLE_ENDIAN);

    Bytes u32(long value) {
      bytes.putInt((int) value);
      return this;
    }

    Bytes u64(long value) {
      bytes.putLong(value);
      return this;
    }

    Bytes text(String text) {
      byte[] utf8 = text.getBytes(StandardCharsets.UTF_8);
      u64(utf8.length);
      bytes.put(utf8);
      return this;
    }

    /// Begins a file of so many tensors and keys.
    static Bytes begin(long version, long tensors, long keys) {
      return new Bytes().u32(GgufHeader.MAGIC).u32(version).u64(tensors).u64(keys);
    }

    Bytes tensor(String name, long type, long offset, long... dimensions) {
      text(name).u32(dimensions.length);
      Arrays.stream(dimensions).forEach(this::u64);
      return u32(type).u64(offset);
    }

    Bytes data(int alignment, int count) {
      while (bytes.position() % alignment != 0) {
        bytes.put((byte) 0);
      }
      for (int i = 0; i < count; i++) {
        bytes.put((byte) i);
      }
      return this;
    }

    byte[] done() {
      return Arrays.copyOf(bytes.array(), bytes.position());
    }
  }

  private Path file(byte[] bytes) throws IOException {
    return Files.write(directory.resolve("model.gguf"), bytes);
  }

  private String refusal(byte[] bytes) throws IOException {
    Path path = file(bytes);
    String message =
        String.valueOf(
            assertThrows(InvalidInputException.class, () -> GgufFile.open(path).close())
                .getMessage());
    assertNull(Fuzz.wrong(message));
    assertTrue(message.startsWith(path.toString()), message);
    return message;
  }

  private void refuses(String words, Bytes bytes) throws IOException {
    String message = refusal(bytes.done());
    assertTrue(message.contains(words), message);
  }

  // ---------------------------------------------------------------- both ways

  private static void write(Path path, Consumer<GgufWriter> metadata, Planned... tensors)
      throws IOException {
    var writer = new GgufWriter();
    metadata.accept(writer);
    writer.write(
        path,
        List.of(tensors),
        (planned, out) -> {
          byte[] bytes = new byte[Math.toIntExact(planned.bytes())];
          Arrays.fill(bytes, (byte) planned.name().length());
          for (int at = 0; at < bytes.length; at += 7) { // in pieces
            out.write(
                MemorySegment.ofArray(
                    Arrays.copyOfRange(bytes, at, Math.min(bytes.length, at + 7))));
          }
        });
  }

  private static Planned planned(String name, WeightFormat format, Long... shape) {
    return new Planned(name, format, List.of(shape));
  }

  @Test
  void whatIsWrittenIsRead() throws IOException {
    Path path = directory.resolve("model.gguf");
    write(
        path,
        to ->
            to.whole("a.whole", 0xFFFF_FFFFL)
                .number("a.number", 1e-6)
                .flag("a.flag", true)
                .text("a.text", "ä\n日本")
                .texts("a.texts", List.of("", "x y", "é"))
                .wholes("a.wholes", new int[] {-1, 2})
                .numbers("a.numbers", new double[] {0.1, 7})
                .flags("b.flags", new boolean[] {true, false}),
        planned("three", WeightFormat.F32, 3L),
        planned("blocks", WeightFormat.Q8_0, 2L, 5L, 64L),
        planned("one", WeightFormat.F16, 1L));
    try (var file = GgufFile.open(path)) {
      var metadata = file.metadata();
      assertEquals(0xFFFF_FFFFL, metadata.whole("a.whole"));
      assertEquals(1e-6, metadata.number("a.number"));
      assertEquals(0xFFFF_FFFFL, metadata.number("a.whole"));
      assertEquals(true, metadata.flag("a.flag"));
      assertEquals("ä\n日本", metadata.text("a.text"));
      assertEquals(List.of("", "x y", "é"), metadata.texts("a.texts").strings());
      assertArrayEquals(new long[] {-1, 2}, metadata.wholes("a.wholes"));
      assertEquals(List.of("a.numbers"), metadata.left("a."));
      assertArrayEquals(new double[] {0.1, 7}, metadata.numbers("a.numbers"));
      assertArrayEquals(new boolean[] {true, false}, metadata.flags("b.flags"));
      assertNull(metadata.whole("a"));
      assertNull(metadata.texts("a"));
      assertTrue(metadata.isList("a.texts") && !metadata.isList("a.text"));
      assertEquals(8, metadata.keys().size());
      assertEquals(List.of("three", "blocks", "one"), List.copyOf(file.tensors().keySet()));
      var blocks = file.tensors().get("blocks");
      assertEquals(List.of(2L, 5L, 64L), blocks.shape());
      assertEquals(640, blocks.elements());
      assertEquals(640 / 32 * 34, blocks.data().byteSize());
      assertEquals(6, blocks.data().get(ValueLayout.JAVA_BYTE, 679));
      assertEquals(List.of(), file.notes());
      assertEquals(List.of(path), file.files());
    }
    try (var children = Files.list(directory)) {
      assertEquals(1, children.count()); // nothing is left beside
    }
  }

  @Test
  void aValueOfAnotherKindIsRefusedByItsKey() throws IOException {
    Path path = directory.resolve("model.gguf");
    write(path, to -> to.text("k.text", "x").number("k.number", 1).texts("k.list", List.of("x")));
    try (var file = GgufFile.open(path)) {
      var metadata = file.metadata();
      assertRefused("'k.text' is a text where a whole number", () -> metadata.whole("k.text"));
      assertRefused("'k.number' is a number where a whole", () -> metadata.whole("k.number"));
      assertRefused("'k.text' is a text where true or false", () -> metadata.flag("k.text"));
      assertRefused("'k.list' is a list where a text", () -> metadata.text("k.list"));
      assertRefused("'k.text' is a text where a list", () -> metadata.texts("k.text"));
      assertRefused("'k.list' is a text where a whole number", () -> metadata.wholes("k.list"));
    }
  }

  private static void assertRefused(String words, Runnable reading) {
    String message =
        String.valueOf(assertThrows(InvalidInputException.class, reading::run).getMessage());
    assertTrue(message.contains(words), message);
  }

  @Test
  void aFileThatIsReplacedIsAsItWasWhereWritingFails() throws IOException {
    Path path = directory.resolve("model.gguf");
    write(path, to -> to.flag("k", true));
    byte[] before = Files.readAllBytes(path);

    assertThrows(
        IllegalStateException.class,
        () ->
            new GgufWriter()
                .write(path, List.of(planned("short", WeightFormat.F32, 2L)), (_, _) -> {}));

    assertArrayEquals(before, Files.readAllBytes(path));
    assertThrows(
        IllegalArgumentException.class, () -> new GgufWriter().flag("k", true).flag("k", true));
  }

  /// Version 2, values of every width, lists in lists, another alignment, a number without
  /// dimensions.
  @Test
  void allThatTheFormatHasIsRead() throws IOException {
    var bytes =
        Bytes.begin(2, 2, 5)
            .text("general.alignment")
            .u32(4)
            .u32(64)
            .text("nested")
            .u32(9)
            .u32(9)
            .u64(2)
            .u32(8)
            .u64(2)
            .text("a")
            .text("b")
            .u32(4)
            .u64(1)
            .u32(7);
    bytes.text("i8").u32(1).bytes.put((byte) -3);
    bytes.text("u16").u32(2).bytes.putShort((short) 0xFFFE);
    bytes.text("f64").u32(12).bytes.putDouble(0.25);
    bytes.tensor("scalar", 0, 0).tensor("x", 2, 64, 32, 2).data(64, 100);

    try (var file = GgufFile.open(file(bytes.done()))) {
      assertEquals(-3, file.metadata().whole("i8"));
      assertEquals(0xFFFE, file.metadata().whole("u16"));
      assertEquals(0.25, file.metadata().number("f64"));
      assertEquals(List.of(), file.tensors().get("scalar").shape());
      assertEquals(List.of(2L, 32L), file.tensors().get("x").shape());
      assertEquals(64, file.tensors().get("x").data().get(ValueLayout.JAVA_BYTE, 0));
    }
  }

  @Test
  void bytesBehindTheLastTensorAreTold() throws IOException {
    byte[] bytes = Bytes.begin(3, 1, 0).tensor("x", 0, 0, 8).data(32, 32 + 65).done();

    try (var file = GgufFile.open(file(bytes))) {
      assertEquals(1, file.notes().size());
      assertTrue(file.notes().getFirst().contains("65 bytes behind"), file.notes().getFirst());
    }
  }

  // ---------------------------------------------------------------- faults

  @Test
  void whatIsNoSuchFileIsRefused() throws IOException {
    assertTrue(refusal(new byte[0]).contains("is empty"));
    assertTrue(refusal("GG".getBytes(StandardCharsets.UTF_8)).contains("begins with 'GG'"));
    assertTrue(refusal("<html>no".getBytes(StandardCharsets.UTF_8)).contains("begins with '<htm'"));
    String pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    assertTrue(refusal(pointer.getBytes(StandardCharsets.UTF_8)).contains("git lfs pull"));
    refuses("is of version 1 of GGUF", Bytes.begin(1, 0, 0));
    refuses("is of version 4 of GGUF", Bytes.begin(4, 0, 0));
    refuses("is big-endian", Bytes.begin(0x0300_0000L, 0, 0));
    refuses("ends within the version", new Bytes().u32(GgufHeader.MAGIC));
    Path missing = directory.resolve("none.gguf");
    assertRefused("does not exist; name a .gguf file", () -> GgufFile.open(missing).close());
    assertRefused("is a directory", () -> GgufFile.open(directory).close());
  }

  @Test
  @EnabledOnOs({OS.LINUX, OS.MAC})
  void aPipeIsNotWaitedFor() throws IOException, InterruptedException {
    Path pipe = directory.resolve("pipe.gguf");
    assertEquals(0, new ProcessBuilder("mkfifo", pipe.toString()).start().waitFor());

    assertRefused("is a pipe or a device", () -> GgufFile.open(pipe).close());
  }

  @Test
  void lyingLengthsAreRefusedBeforeMemoryIsTaken() throws IOException {
    refuses("-1 tensors".replace("-1", "18446744073709551615"), Bytes.begin(3, -1, 0));
    refuses("4000000000 metadata keys", Bytes.begin(3, 0, 4_000_000_000L));
    refuses("has 9000000000000000000 bytes", Bytes.begin(3, 0, 1).u64(9_000_000_000_000_000_000L));
    refuses("has 18446744073709551615 bytes", Bytes.begin(3, 0, 1).u64(-1));
    refuses(
        "the text of the metadata key 'k' has 77 bytes, and only 0",
        Bytes.begin(3, 0, 1).text("k").u32(8).u64(77));
    refuses(
        "is a list of 1000000000000 values",
        Bytes.begin(3, 0, 1).text("k").u32(9).u32(4).u64(1_000_000_000_000L));
    refuses(
        "is a list of 18446744073709551615 values",
        Bytes.begin(3, 0, 1).text("k").u32(9).u32(8).u64(-1));
    refuses("the kind 13", Bytes.begin(3, 0, 1).text("k").u32(13));
    var deep = Bytes.begin(3, 0, 1).text("k").u32(9);
    for (int i = 0; i < 100; i++) {
      deep.u32(9).u64(1);
    }
    refuses("lists in lists more than 4 deep", deep.u32(4).u64(0));
    refuses("has 1001 bytes, more than", Bytes.begin(3, 0, 1).text("k".repeat(1001)).u32(4).u32(1));
  }

  @Test
  void tensorsThatCannotBeAreRefusedByName() throws IOException {
    refuses(
        "'x' twice", Bytes.begin(3, 2, 0).tensor("x", 0, 0, 8).tensor("x", 0, 32, 8).data(32, 64));
    refuses(
        "the metadata key 'k' twice",
        Bytes.begin(3, 0, 2).text("k").u32(4).u32(1).text("k").u32(4).u32(1));
    refuses("5 dimensions", Bytes.begin(3, 1, 0).tensor("x", 0, 0, 1, 1, 1, 1, 1));
    refuses("a dimension of 0", Bytes.begin(3, 1, 0).tensor("x", 0, 0, 0));
    refuses("a dimension of 18446744073709551615", Bytes.begin(3, 1, 0).tensor("x", 0, 0, -1));
    refuses("more than any file holds", Bytes.begin(3, 1, 0).tensor("x", 0, 0, 1L << 32, 1L << 32));
    refuses("more than any file holds", Bytes.begin(3, 1, 0).tensor("x", 0, 0, Long.MAX_VALUE / 4));
    refuses("'x' as IQ2_XXS", Bytes.begin(3, 1, 0).tensor("x", 16, 0, 256));
    refuses("'x' as type 4711", Bytes.begin(3, 1, 0).tensor("x", 4711, 0, 256));
    refuses("rows of 33 numbers", Bytes.begin(3, 1, 0).tensor("x", 8, 0, 33, 32));
    refuses("'x' at 8, which is no multiple", Bytes.begin(3, 1, 0).tensor("x", 0, 8, 8));
    refuses("which is no multiple", Bytes.begin(3, 1, 0).tensor("x", 0, -32, 8));
    refuses(
        "the tensors 'x' and 'y' over one another",
        Bytes.begin(3, 2, 0).tensor("y", 0, 32, 8).tensor("x", 0, 0, 9).data(32, 64));
    refuses(
        "is 27 bytes shorter than its header says",
        Bytes.begin(3, 1, 0).tensor("x", 0, 0, 16).data(32, 64 - 27));
    refuses("general.alignment 48", Bytes.begin(3, 0, 1).text("general.alignment").u32(4).u32(48));
    refuses(
        "'general.alignment' is a text",
        Bytes.begin(3, 0, 1).text("general.alignment").u32(8).text("x"));
  }

  @Test
  void hostileNamesDoNotReachTheTerminal() throws IOException {
    refuses("␛[31m", Bytes.begin(3, 1, 0).tensor("\u001b[31m\nx", 99, 0, 8));
    byte[] bytes = Bytes.begin(3, 0, 1).text("ab").u32(4).u32(1).done();
    bytes[32] = (byte) 0xFF;
    assertTrue(refusal(bytes).contains("is not UTF-8"));
  }

  @Test
  void everyCutIsRefused() throws IOException {
    byte[] whole = Files.readAllBytes(TestData.GOLDEN.resolve("gguf/qwen35-mini.gguf"));
    for (int length = 0; length < whole.length; length += 97) {
      refusal(Arrays.copyOf(whole, length));
    }
  }

  @Test
  void aDamagedFileIsReadOrRefused() throws IOException {
    byte[] good =
        Bytes.begin(3, 2, 3)
            .text("general.alignment")
            .u32(4)
            .u32(32)
            .text("list")
            .u32(9)
            .u32(8)
            .u64(2)
            .text("one")
            .text("two")
            .text("f")
            .u32(6)
            .u32(7)
            .tensor("x", 8, 0, 32, 2)
            .tensor("y", 0, 96, 4)
            .data(32, 112)
            .done();
    var outcome =
        Fuzz.run(
            "GgufFile",
            mutations -> mutations.bytes(good),
            input -> {
              Path path = file(input);
              try (var file = GgufFile.open(path)) {
                for (String key : file.metadata().keys()) {
                  try {
                    file.metadata().texts(key);
                  } catch (InvalidInputException _) {
                    // of another kind
                  }
                }
                for (var tensor : file.tensors().values()) {
                  float[] to = new float[Math.toIntExact(Math.min(tensor.elements(), 1 << 20))];
                  if (to.length == tensor.elements()) {
                    tensor.format().dequantize(tensor.data(), 0, to.length, to, 0);
                  }
                }
              }
            });

    assertTrue(outcome.refused() > 10 && outcome.read() > 10, outcome::toString);
  }

  /// Each text of a list has to be UTF-8 for itself, and lengths may be looked for beyond a part of
  /// the file that is read at once.
  @Test
  void textsOfListsAreReadWhereTheyStand() throws IOException {
    Path path = directory.resolve("texts.gguf");
    List<String> all = new ArrayList<>();
    for (int i = 0; i < 50; i++) {
      all.add("é€𝄞".repeat(i * 37 % 5000));
      all.add("");
    }
    all.add("x".repeat(1 << 19));
    all.add("y");
    write(
        path,
        to ->
            to.texts("k.texts", all)
                .wholes("k.wholes", new int[] {7, -1, 1 << 30})
                .text("k.behind", "z"));
    try (var file = GgufFile.open(path)) {
      assertEquals(all, file.metadata().texts("k.texts").strings());
      assertEquals("z", file.metadata().text("k.behind"));
      assertArrayEquals(new int[] {7, -1, 1 << 30}, file.metadata().ints("k.wholes"));
      assertNull(file.metadata().ints("k.none"));
      file.forgetMetadata();
      assertEquals(all, file.metadata().texts("k.texts").strings());
    }
    // the two bytes of é, which are UTF-8 one behind the other
    byte[] halves =
        Bytes.begin(3, 0, 1).text("k").u32(9).u32(8).u64(2).text("a").text("b").data(1, 0).done();
    halves[halves.length - 10] = (byte) 0xC3;
    halves[halves.length - 1] = (byte) 0xA9;
    try (var file = GgufFile.open(file(halves))) {
      assertRefused("'k' holds a text that is not UTF-8", () -> file.metadata().texts("k"));
    }
  }

  // ---------------------------------------------------------------- parts

  private List<Path> parts(int count) throws IOException {
    List<Path> parts = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      int number = i;
      Path path = directory.resolve("m-%05d-of-%05d.gguf".formatted(i + 1, count));
      write(
          path,
          to -> {
            to.whole("split.no", number);
            to.whole("split.count", count);
            to.wholes("none", new int[0]);
            to.whole("split.tensors.count", count);
            if (number == 0) {
              to.text("general.architecture", "x");
            }
          },
          planned("t" + i, WeightFormat.F32, 4L));
      parts.add(path);
    }
    return parts;
  }

  @Test
  void aModelInPartsIsOneWhicheverIsNamed() throws IOException {
    for (Path part : parts(3)) {
      try (var file = GgufFile.open(part)) {
        assertEquals(List.of("t0", "t1", "t2"), List.copyOf(file.tensors().keySet()));
        assertEquals("x", file.metadata().text("general.architecture"));
        assertEquals(3, file.files().size());
      }
    }
    assertTrue(GgufFile.isLaterPart(directory.resolve("m-00002-of-00003.gguf")));
    assertFalse(GgufFile.isLaterPart(directory.resolve("m-00001-of-00003.gguf")));
    assertFalse(GgufFile.isLaterPart(directory.resolve("m.gguf")));
  }

  @Test
  void partsThatAreMissingRenamedOrForeignAreNamed() throws IOException {
    var parts = parts(3);
    Path renamed = Files.copy(parts.get(1), directory.resolve("renamed.gguf"));
    assertRefused("does not end with -00002-of-00003.gguf", () -> GgufFile.open(renamed).close());
    Files.copy(parts.get(0), directory.resolve("m-00002-of-00002.gguf"));
    assertRefused(
        "part 1 of a model in 3 files",
        () -> GgufFile.open(directory.resolve("m-00002-of-00002.gguf")).close());
    Files.delete(parts.get(2));
    assertRefused(
        "part 3 of a model in 3 files; fetch it too", () -> GgufFile.open(parts.get(0)).close());
    Files.copy(parts.get(1), parts.get(2));
    assertRefused(
        "which the other parts do not belong to", () -> GgufFile.open(parts.get(0)).close());
    write(
        parts.get(2),
        to -> to.whole("split.no", 2).whole("split.count", 3).whole("split.tensors.count", 3),
        planned("t0", WeightFormat.F32, 4L));
    assertRefused(
        "which another part of the model holds too", () -> GgufFile.open(parts.get(0)).close());
    write(
        parts.get(2),
        to -> to.whole("split.no", 2).whole("split.count", 3).whole("split.tensors.count", 3),
        planned("t2", WeightFormat.F32, 4L),
        planned("t3", WeightFormat.F32, 4L));
    assertRefused("hold 4 tensors where they say 3", () -> GgufFile.open(parts.get(0)).close());
  }
}
