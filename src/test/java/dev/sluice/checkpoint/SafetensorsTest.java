package dev.sluice.checkpoint;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.TestData;
import dev.sluice.tensor.ElementType;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

class SafetensorsTest {
  private static final Path GOLDEN = TestData.GOLDEN;

  @TempDir Path directory;

  /// Every safetensors file that the reference wrote; none is a failure, not a pass.
  static List<Path> goldenFiles() throws IOException {
    try (var files = Files.walk(GOLDEN, 2)) {
      var found = files.filter(f -> f.toString().endsWith(".safetensors")).sorted().toList();
      assertTrue(found.size() >= 12, "golden checkpoints are missing in " + GOLDEN);
      return found;
    }
  }

  @ParameterizedTest
  @MethodSource("goldenFiles")
  void whatTheReferenceWroteIsWrittenBackByteForByte(Path golden) throws IOException {
    Path copy = directory.resolve("copy.safetensors");
    try (var file = SafetensorsFile.open(golden)) {
      var shuffled = new ArrayList<>(file.entries());
      Collections.shuffle(shuffled, new Random(1));
      SafetensorsWriter.write(copy, file.metadata(), shuffled);
    }
    assertEquals(-1, Files.mismatch(golden, copy));
  }

  @Test
  void headerIsTheReferenceHeaderForEveryTypeAndEscape() throws IOException {
    // Written by safetensors 0.8.0 for the same tensors.
    String reference =
        "{\"__metadata__\":{\"format\":\"pt\\t\\u001f\u00e9\"},"
            + "\"a0\":{\"dtype\":\"I64\",\"shape\":[3],\"data_offsets\":[0,24]},"
            + "\"a1\":{\"dtype\":\"F64\",\"shape\":[3],\"data_offsets\":[24,48]},"
            + "\"a2\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[48,52]},"
            + "\"\u00e9\\n\\u0001\u007f\\\"\\\\/\u2028\ud83d\ude00\ufffd\":"
            + "{\"dtype\":\"F32\",\"shape\":[0,2],\"data_offsets\":[52,52]},"
            + "\"a3\":{\"dtype\":\"I32\",\"shape\":[3],\"data_offsets\":[52,64]},"
            + "\"a4\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[64,70]},"
            + "\"a5\":{\"dtype\":\"F16\",\"shape\":[3],\"data_offsets\":[70,76]},"
            + "\"a6\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[76,79]},"
            + "\"a7\":{\"dtype\":\"BOOL\",\"shape\":[3],\"data_offsets\":[79,82]}}";
    List<SafetensorsFile.Entry> entries =
        List.of(
            entry("a7", ElementType.BOOL, 3),
            entry("a6", ElementType.UINT8, 3),
            entry("a5", ElementType.FLOAT16, 3),
            entry("a4", ElementType.BFLOAT16, 3),
            entry("a3", ElementType.INT32, 3),
            entry("\u00e9\n\u0001\u007f\"\\/\u2028\ud83d\ude00\ufffd", ElementType.FLOAT32, 0, 2),
            entry("a2", ElementType.FLOAT32),
            entry("a1", ElementType.FLOAT64, 3),
            entry("a0", ElementType.INT64, 3));
    Path file = directory.resolve("all.safetensors");
    SafetensorsWriter.write(file, Map.of("format", "pt\t\u001f\u00e9"), entries);
    byte[] bytes = Files.readAllBytes(file);
    int length = (int) ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).getLong();
    String header = new String(bytes, 8, length, StandardCharsets.UTF_8);
    assertEquals(0, length % 8);
    assertEquals(reference, header.stripTrailing());
    try (var read = SafetensorsFile.open(file)) {
      assertEquals(Map.of("format", "pt\t\u001f\u00e9"), read.metadata());
      assertEquals(9, read.entries().size());
      assertEquals(List.of(0L, 2L), read.entries().get(3).shape());
    }
  }

  @Test
  void namesAreOrderedByTheirBytes() throws IOException {
    // U+FFFD sorts before U+1F600 by bytes, after it by UTF-16 units.
    Path file = directory.resolve("names.safetensors");
    SafetensorsWriter.write(
        file,
        Map.of(),
        List.of(
            entry("\ud83d\ude00", ElementType.UINT8, 1), entry("\ufffd", ElementType.UINT8, 1)));
    try (var read = SafetensorsFile.open(file)) {
      assertEquals(List.of("\ufffd", "\ud83d\ude00"), List.copyOf(read.names()));
    }
  }

  @Test
  void writesFromTheHeapAndAcrossChunks() throws IOException {
    float[] values = new float[5_000_011];
    for (int i = 0; i < values.length; i++) {
      values[i] = i;
    }
    var onHeap =
        new SafetensorsFile.Entry(
            "w", ElementType.FLOAT32, List.of(5_000_011L), MemorySegment.ofArray(values));
    Path file = directory.resolve("heap.safetensors");
    SafetensorsWriter.write(file, Map.of(), List.of(onHeap));
    try (var read = SafetensorsFile.open(file)) {
      assertArrayEquals(values, read.entry("w").data().toArray(ValueLayout.JAVA_FLOAT_UNALIGNED));
    }
  }

  @Test
  void noTensorsIsAFile() throws IOException {
    Path file = directory.resolve("none.safetensors");
    SafetensorsWriter.write(file, Map.of(), List.of());
    assertArrayEquals(
        "\b\0\0\0\0\0\0\0{}      ".getBytes(StandardCharsets.US_ASCII), Files.readAllBytes(file));
    try (var read = SafetensorsFile.open(file)) {
      assertEquals(List.of(), read.entries());
    }
  }

  @Test
  void readsAFileLargerThanTwoGigabytes() throws IOException {
    long elements = 2_200_000_000L;
    String header =
        "{\"big\":{\"dtype\":\"U8\",\"shape\":[%d],\"data_offsets\":[0,%d]}}"
            .formatted(elements, elements);
    Path file = directory.resolve("big.safetensors");
    Files.write(file, file(header, 0));
    try (var sparse = Files.newByteChannel(file, java.nio.file.StandardOpenOption.WRITE)) {
      sparse.position(8 + header.length() + elements - 1);
      sparse.write(ByteBuffer.wrap(new byte[] {42}));
    }
    try (var read = SafetensorsFile.open(file)) {
      assertEquals(42, read.entry("big").data().get(ValueLayout.JAVA_BYTE, elements - 1));
    }
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      textBlock =
          """
          {"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}              | 8 | not valid JSON
          hello                                                              | 0 | does not begin with {
          [1,2]                                                              | 0 | does not begin with {
          {} {}                                                              | 0 | goes on after its closing }
          {"a":7}                                                            | 0 | 'a' is not a JSON object
          {"a":{"dtype":"F32","shape":[2]}}                                  | 8 | 'a' lacks one of dtype, shape, data_offsets
          {"a":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]}}         | 8 | 'a' has dtype F8_E4M3
          {"a":{"dtype":5,"shape":[8],"data_offsets":[0,8]}}                 | 8 | 'a' has dtype 5
          {"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}            | 8 | has -2 in its shape
          {"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}}           | 8 | has 2.0 in its shape
          {"a":{"dtype":"F32","shape":2,"data_offsets":[0,8]}}               | 8 | a shape that is not a list
          {"a":{"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,8]}} | 8 | has 18446744073709551616 in its shape
          {"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}} | 8 | more bytes than a file can hold
          {"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}             | 8 | has data_offsets [8, 0]
          {"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,8]}}           | 8 | has data_offsets [0, 8, 8]
          {"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}            | 8 | has -8 in its data_offsets
          {"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}             | 8 | needs 12 bytes but its data_offsets give it 8
          {"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}} | 8 | the name 'a' occurs twice
          {"a":{"dtype":"F32","dtype":"I32","shape":[2],"data_offsets":[0,8]}} | 8 | gives 'dtype' twice
          {"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}} | 12 | 'b' and 'a' overlap in 4 bytes
          {"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}} | 8 | 'b' and 'a' overlap in 8 bytes
          {"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}} | 12 | 4 bytes between 'a' and 'b'
          {"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}             | 8 | 4 bytes between the header and 'a'
          {"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}             | 7 | has 69 bytes but its header describes 70, so it is truncated
          {"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}             | 9 | has 71 bytes but its header describes only 70
          {"__metadata__":{"a":1}}                                           | 0 | the value of 'a' in __metadata__ is not a string
          {"__metadata__":{"a":"1","a":"2"}}                                 | 0 | the key 'a' occurs twice
          {"__metadata__":7}                                                 | 0 | __metadata__ is not a JSON object
          """)
  void badHeaderIsRefused(String header, int dataBytes, String message) throws IOException {
    Path file = directory.resolve("bad.safetensors");
    Files.write(file, file(header, dataBytes));
    assertRefused(file, message);
  }

  @Test
  void badFileIsRefused() throws IOException {
    Path file = directory.resolve("bad.safetensors");
    assertRefused(file, "does not exist");
    assertRefused(directory, "is a directory");
    assertRefused(Path.of("/dev/null"), "is a pipe or a device, not a regular file");
    Files.write(file, new byte[0]);
    assertRefused(file, "has 0 bytes");
    Files.write(file, new byte[7]);
    assertRefused(file, "has 7 bytes");
    Files.write(file, new byte[] {9, 0, 0, 0, 0, 0, 0, 0, '{', '}'});
    assertRefused(file, "has 10 bytes but its header describes 17, so it is truncated");
    Files.write(file, new byte[] {-1, -1, -1, -1, -1, -1, -1, -1, '{', '}'});
    assertRefused(file, "its header has 18446744073709551615 bytes");
    Files.write(file, new byte[] {1, (byte) 0xe1, (byte) 0xf5, 5, 0, 0, 0, 0, '{', '}'});
    assertRefused(file, "its header has 100000001 bytes");
    Files.write(file, new byte[] {2, 0, 0, 0, 0, 0, 0, 0, (byte) 0xff, (byte) 0xfe});
    assertRefused(file, "is not UTF-8 text");
    Files.writeString(file, "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n");
    assertRefused(file, "run git lfs pull");
  }

  @Test
  void everyTruncationOfAFileIsRefused() throws IOException {
    byte[] whole =
        Files.readAllBytes(
            write("whole", entry("a", ElementType.FLOAT32, 5), entry("b", ElementType.BOOL, 3)));
    Path file = directory.resolve("cut.safetensors");
    for (int length = 0; length < whole.length; length++) {
      Files.write(file, Arrays.copyOf(whole, length));
      assertRefused(file, "truncated");
    }
  }

  @Test
  void missingTensorIsNamed() throws IOException {
    try (var file = SafetensorsFile.open(write("one", entry("a", ElementType.FLOAT32, 5)))) {
      var e = assertThrows(InvalidInputException.class, () -> file.entry("b"));
      assertTrue(e.getMessage().contains("no tensor 'b'"), e.getMessage());
    }
  }

  @Test
  void fullDiskIsSaid() {
    var e =
        assertThrows(
            IOException.class,
            () ->
                SafetensorsWriter.write(
                    Path.of("/dev/full"),
                    Map.of(),
                    List.of(entry("a", ElementType.FLOAT32, 100_000))));
    assertEquals("/dev/full cannot be written (No space left on device)", e.getMessage());
    assertTrue(Files.exists(Path.of("/dev/full")));
  }

  @Test
  void absentParentIsSaid() {
    var e = assertThrows(IOException.class, () -> write("absent/file"));
    assertTrue(e.getMessage().startsWith("no such file or directory: "), e.getMessage());
  }

  @Test
  void existingFileIsNotOverwritten() throws IOException {
    Path file = write("once", entry("a", ElementType.UINT8, 1));
    var e =
        assertThrows(
            InvalidInputException.class, () -> SafetensorsWriter.write(file, Map.of(), List.of()));
    assertTrue(e.getMessage().contains("exists already"), e.getMessage());
    SafetensorsFile.open(file).close();
  }

  @Test
  void impossibleEntriesAreRefused() {
    var a = entry("a", ElementType.UINT8, 1);
    Path file = directory.resolve("twice.safetensors");
    assertThrows(
        IllegalArgumentException.class,
        () -> SafetensorsWriter.write(file, Map.of(), List.of(a, a)));
    assertThrows(
        IllegalArgumentException.class,
        () ->
            SafetensorsWriter.write(
                file, Map.of(), List.of(entry("__metadata__", ElementType.UINT8, 1))));
    assertThrows(
        IllegalArgumentException.class,
        () ->
            SafetensorsWriter.write(
                file, Map.of(), List.of(entry("\ud800", ElementType.UINT8, 1))));
    assertThrows(
        IllegalArgumentException.class,
        () -> new SafetensorsFile.Entry("a", ElementType.INT32, List.of(1L), a.data()));
    assertFalse(Files.exists(file));
  }

  @Test
  void singleFileOfADirectory() {
    try (var model = SafetensorsDirectory.open(GOLDEN.resolve("qwen3"))) {
      assertEquals(1, model.shards().size());
      assertEquals(Map.of("format", "pt"), model.metadata());
      assertEquals(List.of(199L, 48L), model.entry("model.embed_tokens.weight").shape());
      assertEquals(model.names().size(), model.entries().size());
    }
  }

  @Test
  void shardsOfADirectory() throws IOException {
    shard("1", entry("a", ElementType.FLOAT32, 2), entry("unlisted", ElementType.FLOAT32, 2));
    shard("2", entry("b", ElementType.FLOAT32, 3));
    index(
        "{\"metadata\":{\"total_size\":20},\"weight_map\":{\"b\":\"2.safetensors\",\"a\":\"1.safetensors\"}}");
    try (var model = SafetensorsDirectory.open(directory)) {
      assertEquals(List.of("b", "a"), List.copyOf(model.names()));
      assertEquals(List.of(3L), model.entry("b").shape());
      var e = assertThrows(InvalidInputException.class, () -> model.entry("unlisted"));
      assertTrue(e.getMessage().contains("no tensor 'unlisted'"), e.getMessage());
    }
  }

  @Test
  void badDirectoryIsRefused() throws IOException {
    assertDirectoryRefused(directory.resolve("absent"), "does not exist");
    assertDirectoryRefused(GOLDEN.resolve("qwen3/config.json"), "is not a directory");
    assertDirectoryRefused(directory, "holds neither model.safetensors nor");
    Files.createFile(directory.resolve("pytorch_model.bin"));
    assertDirectoryRefused(directory, "convert its pytorch_model.bin");
    index("{\"weight_map\":");
    assertDirectoryRefused(directory, "is not valid JSON");
    index("{}");
    assertDirectoryRefused(directory, "has no object weight_map");
    index("{\"weight_map\":{\"a\":\"1.safetensors\",\"a\":\"2.safetensors\"}}");
    assertDirectoryRefused(directory, "the key 'a' is given twice");
    index("{\"weight_map\":{\"a\":\"../1.safetensors\"}}");
    assertDirectoryRefused(directory, "which is not a file name");
    index("{\"weight_map\":{\"a\":1}}");
    assertDirectoryRefused(directory, "which is not a file name");
    index("{\"weight_map\":{\"a\":\"1.safetensors\"}}");
    assertDirectoryRefused(directory, "1.safetensors is missing though");
    shard("1", entry("b", ElementType.FLOAT32, 3));
    assertDirectoryRefused(directory, "1.safetensors holds no tensor 'a' though");
  }

  /// What the index leaves out is not read, and that is said.
  @Test
  void whatIsNotReadIsTold() throws IOException {
    shard("1", entry("a", ElementType.FLOAT32, 2), entry("unlisted", ElementType.FLOAT32, 2));
    index("{\"weight_map\":{\"a\":\"1.safetensors\"}}");
    try (var model = SafetensorsDirectory.open(directory)) {
      assertEquals(
          List.of(
              "the shards in %s hold 'unlisted' that model.safetensors.index.json does not list: not read"
                  .formatted(directory)),
          model.notes());
    }
    Files.copy(directory.resolve("1.safetensors"), directory.resolve("model.safetensors"));
    try (var model = SafetensorsDirectory.open(directory)) {
      assertEquals(1, model.notes().size());
      assertTrue(model.notes().getFirst().contains("the former is read"));
    }
  }

  /// As caches of models keep them: links to files elsewhere.
  @Test
  void linksToFilesAreRead() throws IOException {
    Path blobs = Files.createDirectory(directory.resolve("blobs"));
    Path snapshot = Files.createDirectory(directory.resolve("snapshot"));
    Path blob = write("blob", entry("a", ElementType.FLOAT32, 2));
    Files.move(blob, blobs.resolve("blob"));
    Files.createSymbolicLink(snapshot.resolve("model.safetensors"), Path.of("../blobs/blob"));
    try (var model = SafetensorsDirectory.open(snapshot)) {
      assertEquals(List.of(2L), model.entry("a").shape());
    }
    Files.delete(blobs.resolve("blob"));
    assertDirectoryRefused(snapshot, "model.safetensors is a link that leads nowhere");
  }

  @Test
  void onlyRegularFilesAreOpened() throws Exception {
    Path pipe = directory.resolve("model.safetensors");
    assertEquals(0, new ProcessBuilder("mkfifo", pipe.toString()).start().waitFor());
    assertDirectoryRefused(directory, "model.safetensors is a pipe or a device");
    Files.move(pipe, directory.resolve("1.safetensors"));
    index("{\"weight_map\":{\"a\":\"1.safetensors\"}}");
    assertDirectoryRefused(directory, "1.safetensors is a pipe or a device");
    for (String name : List.of("", " ", ".", "..", "/etc/passwd", "a\\\\b", "a\\u0000b")) {
      index("{\"weight_map\":{\"a\":\"" + name + "\"}}");
      assertDirectoryRefused(directory, "which is not a file name");
    }
    Files.createDirectory(directory.resolve("2.safetensors"));
    index("{\"weight_map\":{\"a\":\"2.safetensors\"}}");
    assertDirectoryRefused(directory, "2.safetensors is a directory");
    var many = new StringBuilder("{\"weight_map\":{\"t\":\"0\"");
    for (int i = 0; i < 10_000; i++) {
      many.append(",\"t%d\":\"1%d\"".formatted(i, i));
    }
    index(many + "}}");
    assertDirectoryRefused(directory, "names 10001 shards");
    index("{\"weight_map\":{\"a\":\"" + "x".repeat(10_000) + "\"}}");
    assertDirectoryRefused(directory, "which is not a file name");
    index("[".repeat(1_000_000));
    assertDirectoryRefused(directory, "nested deeper than");
  }

  /// The sentence keeps its end, which says what is wrong, whatever a name's length and characters.
  @Test
  void namesDoNotHideTheReason() throws IOException {
    Path file = directory.resolve("bad.safetensors");
    for (String name : List.of("x".repeat(40_000), "\\u001b[31m\\u0007\\nrm", "\\u202eabc")) {
      Files.write(
          file,
          file("{\"" + name + "\":{\"dtype\":\"F8\",\"shape\":[8],\"data_offsets\":[0,8]}}", 8));
      var e = assertThrows(InvalidInputException.class, () -> SafetensorsFile.open(file));
      assertTrue(e.getMessage().contains("which Sluice does not read"), e.getMessage());
      assertTrue(e.getMessage().length() < 600, e.getMessage());
      assertTrue(e.getMessage().chars().noneMatch(c -> c < ' ' || c == 0x202e), e.getMessage());
    }
  }

  @Test
  void headersOfBracketsAreRefusedAtOnce() throws IOException {
    Path file = directory.resolve("bad.safetensors");
    Files.write(file, file("{\"a\":" + "[".repeat(3_000_000), 0));
    assertRefused(file, "is not a JSON object");
    Files.write(file, file("{\"a\":{\"x\":" + "[".repeat(3_000_000), 0));
    assertRefused(file, "nested deeper than");
    Files.write(
        file,
        file(
            "{\"a\":{\"dtype\":\"U8\",\"shape\":[1%s],\"data_offsets\":[0,1]}}"
                .formatted(",1".repeat(64)),
            1));
    assertRefused(file, "has 65 dimensions");
    Files.write(
        file,
        file(
            "{\"a\":{\"dtype\":\"U8\",\"shape\":[0,%d,%d],\"data_offsets\":[0,0]}}"
                .formatted(Long.MAX_VALUE, Long.MAX_VALUE),
            0));
    SafetensorsFile.open(file).close(); // nothing times anything is nothing
  }

  /// A name that became a link is not written through.
  @Test
  void linksAreNotWrittenThrough() throws IOException {
    Path precious = Files.writeString(directory.resolve("precious"), "mine");
    Path link = directory.resolve("link");
    Files.createSymbolicLink(link, precious);
    assertThrows(
        InvalidInputException.class, () -> SafetensorsWriter.write(link, Map.of(), List.of()));
    assertEquals("mine", Files.readString(precious));
    Path dangling = directory.resolve("dangling");
    Files.createSymbolicLink(dangling, directory.resolve("new"));
    assertThrows(IOException.class, () -> SafetensorsWriter.write(dangling, Map.of(), List.of()));
    assertFalse(Files.exists(directory.resolve("new")));
  }

  private static void assertRefused(Path path, String message) {
    var e = assertThrows(InvalidInputException.class, () -> SafetensorsFile.open(path));
    assertTrue(e.getMessage().contains(message), e.getMessage());
    assertTrue(e.getMessage().startsWith(path.toString()), e.getMessage());
    assertFalse(e.getMessage().contains("\n"), e.getMessage());
  }

  private static void assertDirectoryRefused(Path path, String message) {
    var e = assertThrows(InvalidInputException.class, () -> SafetensorsDirectory.open(path));
    assertTrue(e.getMessage().contains(message), e.getMessage());
    assertTrue(e.getMessage().startsWith(path.toString()), e.getMessage());
    assertFalse(e.getMessage().contains("\n"), e.getMessage());
  }

  private Path write(String name, SafetensorsFile.Entry... entries) throws IOException {
    Path file = directory.resolve(name + ".safetensors");
    SafetensorsWriter.write(file, new LinkedHashMap<>(), List.of(entries));
    return file;
  }

  private void shard(String name, SafetensorsFile.Entry... entries) throws IOException {
    write(name, entries);
  }

  private void index(String json) throws IOException {
    Files.writeString(directory.resolve(SafetensorsDirectory.INDEX), json);
  }

  private static byte[] file(String header, int dataBytes) {
    byte[] text = header.getBytes(StandardCharsets.UTF_8);
    return ByteBuffer.allocate(8 + text.length + dataBytes)
        .order(ByteOrder.LITTLE_ENDIAN)
        .putLong(text.length)
        .put(text)
        .array();
  }

  private static SafetensorsFile.Entry entry(String name, ElementType type, long... shape) {
    long bytes = type.bytes();
    for (long dimension : shape) {
      bytes *= dimension;
    }
    return new SafetensorsFile.Entry(
        name, type, Arrays.stream(shape).boxed().toList(), Arena.ofAuto().allocate(bytes));
  }
}
