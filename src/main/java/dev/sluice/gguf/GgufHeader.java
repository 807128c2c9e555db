package dev.sluice.gguf;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.gguf.GgufMetadata.Kind;
import dev.sluice.gguf.GgufMetadata.Place;
import dev.sluice.kernel.WeightFormat;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SequencedMap;

/// Reads what stands before the tensors of one GGUF file, and says where each tensor lies.
///
///     4 bytes  GGUF
///     u32      version, 2 or 3
///     u64 u64  how many tensors, how many metadata
///              metadata: key, kind (u32), value
///              tensors: name, dimensions (u32, then u64 each, the innermost first), type (u32),
///              offset (u64) of its data from the end of all this, rounded up to the alignment
///
/// A text is a u64 of its bytes and as many. Nothing that a length says is believed before the file
/// is known to have it.
final class GgufHeader {
  static final int MAGIC = 0x4655_4747;

  /// More than any model has.
  private static final int MOST_KEYS = 10_000;

  private static final int MOST_TENSORS = 1 << 20;
  private static final int LONGEST_NAME = 1000;
  private static final int MOST_DIMENSIONS = 4;
  private static final int USUAL_ALIGNMENT = 32;
  private static final int LARGEST_ALIGNMENT = 1 << 20;

  /// How deep lists may stand in lists; nobody has any.
  private static final int DEEPEST = 4;

  /// What llama.cpp v0.5.0 has besides [WeightFormat], for messages.
  private static final Map<Integer, String> OTHERS =
      Map.ofEntries(
          Map.entry(4, "Q4_2"),
          Map.entry(5, "Q4_3"),
          Map.entry(9, "Q8_1"),
          Map.entry(15, "Q8_K"),
          Map.entry(16, "IQ2_XXS"),
          Map.entry(17, "IQ2_XS"),
          Map.entry(18, "IQ3_XXS"),
          Map.entry(19, "IQ1_S"),
          Map.entry(21, "IQ3_S"),
          Map.entry(22, "IQ2_S"),
          Map.entry(24, "I8"),
          Map.entry(25, "I16"),
          Map.entry(26, "I32"),
          Map.entry(27, "I64"),
          Map.entry(28, "F64"),
          Map.entry(29, "IQ1_M"),
          Map.entry(31, "Q4_0_4_4"),
          Map.entry(32, "Q4_0_4_8"),
          Map.entry(33, "Q4_0_8_8"),
          Map.entry(36, "IQ4_NL_4_4"),
          Map.entry(37, "IQ4_NL_4_8"),
          Map.entry(38, "IQ4_NL_8_8"),
          Map.entry(40, "NVFP4"));

  /// What a file holds.
  ///
  /// @param header all before the tensors
  /// @param trailing bytes behind the last tensor
  record Parsed(
      GgufMetadata metadata,
      SequencedMap<String, GgufTensor> tensors,
      MemorySegment header,
      long trailing) {}

  private record Slot(String name, WeightFormat format, List<Long> shape, long offset, long bytes) {
    long end() {
      return offset + bytes;
    }
  }

  private final Path path;
  private final MemorySegment file;
  private final long size;
  private long at;

  private GgufHeader(Path path, MemorySegment file) {
    this.path = path;
    this.file = file;
    this.size = file.byteSize();
  }

  static Parsed parse(Path path, MemorySegment file) {
    return new GgufHeader(path, file).parse();
  }

  private Parsed parse() {
    requireMagic();
    long version = u32("the version");
    if ((version & 0xFFFF) == 0) {
      throw wrong("is big-endian", "take the little-endian file of the model");
    }
    if (version != 2 && version != 3) {
      throw wrong(
          "is of version %d of GGUF, and Sluice reads 2 and 3".formatted(version),
          version == 1 ? "convert it anew" : "update Sluice or take another file");
    }
    int tensorCount = count("tensors", MOST_TENSORS);
    int keyCount = count("metadata keys", MOST_KEYS);
    SequencedMap<String, Place> places = new LinkedHashMap<>();
    for (int i = 0; i < keyCount; i++) {
      String key = name("the name of metadata key %d of %d".formatted(i + 1, keyCount));
      var kind = kind("the metadata key " + quoted(key));
      if (places.containsKey(key)) {
        throw wrong("has the metadata key %s twice".formatted(quoted(key)), "fetch it again");
      }
      long begin = at;
      skip(kind, "the metadata key " + quoted(key), 0);
      places.put(key, new Place(kind, file, begin, at));
    }
    var metadata = new GgufMetadata(path, places);
    long alignment = alignment(metadata);
    List<Slot> slots = new ArrayList<>();
    for (int i = 0; i < tensorCount; i++) {
      slots.add(slot(i, tensorCount, alignment));
    }
    long begin = Math.ceilDiv(at, alignment) * alignment;
    requireOneAfterTheOther(slots);
    long end = begin;
    for (var slot : slots) {
      end = Math.max(end, begin + slot.end());
    }
    if (!slots.isEmpty() && end > size) {
      throw wrong(
          "is %d bytes shorter than its header says (it has %d of %d), so it is truncated"
              .formatted(end - size, size, end),
          "fetch it again");
    }
    SequencedMap<String, GgufTensor> tensors = new LinkedHashMap<>();
    for (var slot : slots) {
      var data = file.asSlice(begin + slot.offset, slot.bytes);
      var tensor = new GgufTensor(slot.name, slot.format, slot.shape, data);
      if (tensors.put(slot.name, tensor) != null) {
        throw wrong("has the tensor %s twice".formatted(quoted(slot.name)), "fetch it again");
      }
    }
    long trailing = size - Math.ceilDiv(end, alignment) * alignment;
    var header = file.asSlice(0, Math.min(begin, size));
    return new Parsed(metadata, tensors, header, Math.max(0, trailing));
  }

  private void requireMagic() {
    if (size >= 4 && file.get(GgufMetadata.INT, 0) == MAGIC) {
      at = 4;
      return;
    }
    byte[] pointer = "version https://git-lfs".getBytes(StandardCharsets.US_ASCII);
    boolean isPointer =
        size >= pointer.length
            && file.asSlice(0, pointer.length).mismatch(MemorySegment.ofArray(pointer)) < 0;
    byte[] first = file.asSlice(0, Math.min(4, size)).toArray(ValueLayout.JAVA_BYTE);
    throw wrong(
        isPointer
            ? "is a Git LFS pointer and not the file"
            : size == 0
                ? "is empty"
                : "begins with '%s' and not with 'GGUF', so it is no GGUF file"
                    .formatted(Printable.brief(new String(first, StandardCharsets.ISO_8859_1), 8)),
        isPointer ? "run git lfs pull" : "name one or fetch it again");
  }

  // ---------------------------------------------------------------- values

  private void need(long bytes, String what) {
    if (bytes > size - at) {
      throw wrong(
          "ends within %s (it has %d bytes), so it is truncated".formatted(what, size),
          "fetch it again");
    }
  }

  private long u32(String what) {
    need(4, what);
    at += 4;
    return Integer.toUnsignedLong(file.get(GgufMetadata.INT, at - 4));
  }

  private long u64(String what) {
    need(8, what);
    at += 8;
    return file.get(GgufMetadata.LONG, at - 8);
  }

  private int count(String of, int most) {
    long count = u64("the number of " + of);
    if (count < 0 || count > most) {
      throw wrong(
          "says that it has %s %s, more than the %d that a model may have"
              .formatted(Long.toUnsignedString(count), of, most),
          "fetch it again");
    }
    return (int) count;
  }

  /// The length of a text that the file has.
  private long length(String what) {
    long length = u64(what);
    if (length < 0 || length > size - at) {
      throw wrong(
          "says that %s has %s bytes, and only %d follow, so it is truncated or damaged"
              .formatted(what, Long.toUnsignedString(length), size - at),
          "fetch it again");
    }
    return length;
  }

  private String name(String what) {
    long length = length(what);
    if (length > LONGEST_NAME) {
      throw wrong(
          "says that %s has %d bytes, more than the %d that one may have"
              .formatted(what, length, LONGEST_NAME),
          "fetch it again");
    }
    byte[] bytes = file.asSlice(at, length).toArray(ValueLayout.JAVA_BYTE);
    at += length;
    try {
      return StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString();
    } catch (CharacterCodingException e) {
      throw new InvalidInputException(
          "%s: %s is not UTF-8; fetch the file again".formatted(path, what), e);
    }
  }

  private Kind kind(String what) {
    long number = u32(what);
    var kind = Kind.numbered(number);
    if (kind == null) {
      throw wrong(
          "gives %s the kind %d, which GGUF does not have".formatted(what, number),
          "fetch it again or update Sluice");
    }
    return kind;
  }

  /// Goes past a value, once it is known to be there.
  private void skip(Kind kind, String what, int depth) {
    switch (kind) {
      case STRING -> {
        long length = length("the text of " + what); // goes on itself
        at += length;
      }
      case ARRAY -> skipList(what, depth);
      default -> {
        need(kind.bytes, what);
        at += kind.bytes;
      }
    }
  }

  private void skipList(String what, int depth) {
    if (depth >= DEEPEST) {
      throw wrong(
          "has lists in lists more than %d deep at %s".formatted(DEEPEST, what), "fetch it again");
    }
    var kind = kind("the elements of " + what);
    long count = u64("the length of " + what);
    int least = kind == Kind.STRING ? 8 : kind == Kind.ARRAY ? 12 : kind.bytes;
    if (count < 0 || count > (size - at) / least) {
      throw wrong(
          "says that %s is a list of %s values, more than the %d bytes that follow can hold"
              .formatted(what, Long.toUnsignedString(count), size - at),
          "fetch it again");
    }
    if (kind.bytes > 0) {
      at += count * kind.bytes;
      return;
    }
    if (kind == Kind.STRING) {
      skipTexts(what, count);
      return;
    }
    for (long i = 0; i < count; i++) {
      skip(kind, what, depth + 1);
    }
  }

  private void skipTexts(String what, long count) {
    var walk = new TextWalk(file, at);
    boolean areThere = walk.pass(count);
    at = walk.at();
    if (!areThere) {
      skip(Kind.STRING, what, 0); // which says what is wrong
      throw wrong("has a text of more than 2 GB at " + what, "fetch it again");
    }
  }

  private long alignment(GgufMetadata metadata) {
    Long given = metadata.whole("general.alignment");
    if (given == null) {
      return USUAL_ALIGNMENT;
    }
    if (given < 1 || given > LARGEST_ALIGNMENT || Long.bitCount(given) != 1) {
      throw wrong(
          "has the general.alignment %d, which is no power of two up to %d"
              .formatted(given, LARGEST_ALIGNMENT),
          "fetch it again");
    }
    return given;
  }

  // ---------------------------------------------------------------- tensors

  private Slot slot(int i, int all, long alignment) {
    String name = name("the name of tensor %d of %d".formatted(i + 1, all));
    String what = "the tensor " + quoted(name);
    long dimensions = u32(what);
    if (dimensions > MOST_DIMENSIONS) {
      throw wrong(
          "gives %s %d dimensions, and GGUF has up to %d"
              .formatted(what, dimensions, MOST_DIMENSIONS),
          "fetch it again");
    }
    Long[] shape = new Long[(int) dimensions];
    for (int d = shape.length - 1; d >= 0; d--) {
      long dimension = u64(what);
      if (dimension < 1) {
        throw wrong(
            "gives %s a dimension of %s".formatted(what, Long.toUnsignedString(dimension)),
            "fetch it again");
      }
      shape[d] = dimension;
    }
    long type = u32(what);
    var format = WeightFormat.numbered(type);
    if (format == null) {
      String known = type <= Integer.MAX_VALUE ? OTHERS.get((int) type) : null;
      throw wrong(
          "holds %s as %s, which Sluice does not read; it reads %s"
              .formatted(
                  what,
                  known == null ? "type " + type : known,
                  String.join(
                      ", ",
                      Arrays.stream(WeightFormat.values())
                          .filter(WeightFormat::isOfGguf)
                          .map(WeightFormat::name)
                          .toList())),
          "take a file of another quantisation");
    }
    long offset = u64(what);
    if (offset < 0 || offset % alignment != 0) {
      throw wrong(
          "places %s at %s, which is no multiple of its alignment of %d"
              .formatted(what, Long.toUnsignedString(offset), alignment),
          "fetch it again");
    }
    return new Slot(name, format, List.of(shape), offset, bytes(what, format, shape, offset));
  }

  private long bytes(String what, WeightFormat format, Long[] shape, long offset) {
    long row = shape.length == 0 ? 1 : shape[shape.length - 1];
    if (row % format.blockLength() != 0) {
      throw wrong(
          "gives %s rows of %d numbers, which are no whole blocks of %d of %s"
              .formatted(what, row, format.blockLength(), format),
          "fetch it again");
    }
    try {
      long bytes = format.bytes(GgufTensor.elements(List.of(shape)));
      var _ = Math.addExact(Math.addExact(offset, bytes), Integer.MAX_VALUE + at);
      return bytes;
    } catch (ArithmeticException e) {
      throw new InvalidInputException(
          "%s gives %s the shape %s, more than any file holds; fetch it again"
              .formatted(path, what, Arrays.toString(shape)),
          e);
    }
  }

  private void requireOneAfterTheOther(List<Slot> slots) {
    var ordered = slots.stream().sorted(Comparator.comparingLong(Slot::offset)).toList();
    for (int i = 1; i < ordered.size(); i++) {
      var before = ordered.get(i - 1);
      if (before.end() > ordered.get(i).offset) {
        throw wrong(
            "lays the tensors %s and %s over one another"
                .formatted(quoted(before.name), quoted(ordered.get(i).name)),
            "fetch it again");
      }
    }
  }

  private static String quoted(String name) {
    return "'" + Printable.brief(name, 80) + "'";
  }

  private InvalidInputException wrong(String what, String wayOut) {
    return new InvalidInputException("%s %s; %s".formatted(path, what, wayOut));
  }
}
