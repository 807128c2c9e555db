package dev.sluice.gguf;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Objects;
import java.util.SequencedMap;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/// The metadata of a GGUF file, read by kind: a value stays where it lies until it is asked for, so
/// that a vocabulary costs nothing before that. What nobody asked for is known at the end.
///
/// A value of another kind than the one that is asked for is refused; whole numbers of every width
/// are one kind, fractions of both are, and a list of one is not a number.
public final class GgufMetadata {
  /// The kinds of values by their numbers in the file.
  enum Kind {
    U8(0, 1, "a whole number"),
    I8(1, 1, "a whole number"),
    U16(2, 2, "a whole number"),
    I16(3, 2, "a whole number"),
    U32(4, 4, "a whole number"),
    I32(5, 4, "a whole number"),
    F32(6, 4, "a number"),
    BOOL(7, 1, "true or false"),
    STRING(8, 0, "a text"),
    ARRAY(9, 0, "a list"),
    U64(10, 8, "a whole number"),
    I64(11, 8, "a whole number"),
    F64(12, 8, "a number");

    /// Its number in the file.
    final int number;

    /// Bytes of a value; 0 where the value says.
    final int bytes;

    private final String words;

    Kind(int number, int bytes, String words) {
      this.number = number;
      this.bytes = bytes;
      this.words = words;
    }

    /// The kind of that number, or null.
    static @Nullable Kind numbered(long number) {
      for (var kind : values()) {
        if (kind.number == number) {
          return kind;
        }
      }
      return null;
    }
  }

  /// Where a value begins and ends.
  record Place(Kind kind, MemorySegment file, long at, long end) {}

  static final ValueLayout.OfInt INT =
      ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  static final ValueLayout.OfLong LONG =
      ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  private static final ValueLayout.OfShort SHORT =
      ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  private static final ValueLayout.OfFloat FLOAT =
      ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  private static final ValueLayout.OfDouble DOUBLE =
      ValueLayout.JAVA_DOUBLE_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  /// More than any vocabulary or list of merges has.
  private static final long LONGEST_LIST = 1L << 24;

  /// Bytes of all texts of a list, so that they fit into an array.
  private static final long LARGEST_LIST = 1L << 30;

  /// Bytes of a text, such as a chat template.
  private static final int LONGEST_TEXT = 16 << 20;

  private final Path path;
  private final SequencedMap<String, Place> places;
  private final Set<String> asked = new HashSet<>();

  GgufMetadata(Path path, SequencedMap<String, Place> places) {
    this.path = path;
    this.places = places;
  }

  /// All keys, in the order of the file.
  public List<String> keys() {
    return List.copyOf(places.keySet());
  }

  public boolean has(String key) {
    return places.containsKey(key);
  }

  /// The keys that nobody asked for and that begin so, in the order of the file.
  public List<String> left(String start) {
    return places.keySet().stream()
        .filter(key -> key.startsWith(start) && !asked.contains(key))
        .toList();
  }

  /// Marks a key as known to need no reading.
  public void pass(String key) {
    asked.add(key);
  }

  private @Nullable Place place(String key) {
    asked.add(key);
    return places.get(key);
  }

  /// Whether the value is a list, such as one with a number for each layer.
  public boolean isList(String key) {
    var place = places.get(key);
    return place != null && place.kind == Kind.ARRAY;
  }

  // ---------------------------------------------------------------- one value

  /// A whole number of any width, or null.
  public @Nullable Long whole(String key) {
    var place = place(key);
    return place == null ? null : (Long) whole(key, place.kind, place.file, place.at);
  }

  /// A number, whole or not, or null.
  public @Nullable Double number(String key) {
    var place = place(key);
    return place == null ? null : (Double) number(key, place.kind, place.file, place.at);
  }

  public @Nullable Boolean flag(String key) {
    var place = place(key);
    return place == null ? null : (Boolean) flag(key, place.kind, place.file, place.at);
  }

  public @Nullable String text(String key) {
    var place = place(key);
    return place == null ? null : text(key, place.kind, place.file, place.at);
  }

  private long whole(String key, Kind kind, MemorySegment file, long at) {
    return switch (kind) {
      case U8 -> file.get(ValueLayout.JAVA_BYTE, at) & 0xFF;
      case I8 -> file.get(ValueLayout.JAVA_BYTE, at);
      case U16 -> file.get(SHORT, at) & 0xFFFF;
      case I16 -> file.get(SHORT, at);
      case U32 -> Integer.toUnsignedLong(file.get(INT, at));
      case I32 -> file.get(INT, at);
      case I64 -> file.get(LONG, at);
      case U64 -> {
        long value = file.get(LONG, at);
        if (value < 0) {
          throw new InvalidInputException(
              "%s: the metadata key '%s' is %s, more than anything a model has; fetch the file again"
                  .formatted(path, key, Long.toUnsignedString(value)));
        }
        yield value;
      }
      case F32, F64, BOOL, STRING, ARRAY -> throw wrong(key, "a whole number", kind);
    };
  }

  private double number(String key, Kind kind, MemorySegment file, long at) {
    double value =
        switch (kind) {
          case F32 -> shortest(file.get(FLOAT, at));
          case F64 -> file.get(DOUBLE, at);
          case U8, I8, U16, I16, U32, I32, U64, I64 -> whole(key, kind, file, at);
          case BOOL, STRING, ARRAY -> throw wrong(key, "a number", kind);
        };
    if (!Double.isFinite(value)) {
      throw new InvalidInputException(
          "%s: the metadata key '%s' is %s, which is no number to compute with; fetch the file again"
              .formatted(path, key, value));
    }
    return value;
  }

  /// The decimal fraction that a float32 was made of: 1e-6 and not 9.99999997e-7.
  private static double shortest(float value) {
    return Float.isFinite(value) ? Double.parseDouble(Float.toString(value)) : value;
  }

  private boolean flag(String key, Kind kind, MemorySegment file, long at) {
    if (kind != Kind.BOOL) {
      throw wrong(key, "true or false", kind);
    }
    return file.get(ValueLayout.JAVA_BYTE, at) != 0;
  }

  private String text(String key, Kind kind, MemorySegment file, long at) {
    if (kind != Kind.STRING) {
      throw wrong(key, "a text", kind);
    }
    long length = file.get(LONG, at); // the file was checked to hold as many
    if (length > LONGEST_TEXT) {
      throw new InvalidInputException(
          "%s: the metadata key '%s' holds a text of %d bytes, more than the %d that one may have; fetch the file again"
              .formatted(path, key, length, LONGEST_TEXT));
    }
    byte[] bytes = new byte[(int) length];
    MemorySegment.copy(file, ValueLayout.JAVA_BYTE, at + 8, bytes, 0, bytes.length);
    try {
      return StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString();
    } catch (CharacterCodingException e) {
      throw new InvalidInputException(
          "%s: the metadata key '%s' holds a text that is not UTF-8; fetch the file again"
              .formatted(path, key),
          e);
    }
  }

  private InvalidInputException wrong(String key, String wanted, Kind found) {
    return new InvalidInputException(
        "%s: the metadata key '%s' is %s where %s belongs; fetch the file again"
            .formatted(path, Printable.brief(key, 80), found.words, wanted));
  }

  // ---------------------------------------------------------------- lists

  /// @param kind of the elements
  /// @param at where the first one begins
  /// @param end where the last one ends
  private record Elements(Kind kind, int count, MemorySegment file, long at, long end) {}

  private @Nullable Elements elements(String key) {
    var place = place(key);
    if (place == null) {
      return null;
    }
    if (place.kind != Kind.ARRAY) {
      throw wrong(key, "a list", place.kind);
    }
    long count = place.file.get(LONG, place.at + 4);
    if (count > LONGEST_LIST) {
      throw new InvalidInputException(
          "%s: the metadata key '%s' is a list of %d values, more than the %d that one may have; fetch the file again"
              .formatted(path, key, count, LONGEST_LIST));
    }
    var kind = Kind.numbered(place.file.get(INT, place.at));
    return new Elements(
        Objects.requireNonNull(kind), (int) count, place.file, place.at + 12, place.end);
  }

  /// Whole numbers, or null.
  public long @Nullable [] wholes(String key) {
    var elements = elements(key);
    if (elements == null) {
      return null;
    }
    long[] wholes = new long[elements.count];
    for (int i = 0; i < wholes.length; i++) {
      wholes[i] =
          whole(key, elements.kind, elements.file, elements.at + (long) i * elements.kind.bytes);
    }
    return wholes;
  }

  /// The same in 32 bits, such as the types of all tokens, which a start waits for; a number that
  /// does not fit is the nearest that does.
  public int @Nullable [] ints(String key) {
    var elements = elements(key);
    if (elements == null) {
      return null;
    }
    if (elements.kind == Kind.I32) {
      return elements.file.asSlice(elements.at, 4L * elements.count).toArray(INT);
    }
    return Arrays.stream(Objects.requireNonNull(wholes(key)))
        .mapToInt(value -> Math.clamp(value, Integer.MIN_VALUE, Integer.MAX_VALUE))
        .toArray();
  }

  /// Numbers, whole or not, or null.
  public double @Nullable [] numbers(String key) {
    var elements = elements(key);
    if (elements == null) {
      return null;
    }
    double[] numbers = new double[elements.count];
    for (int i = 0; i < numbers.length; i++) {
      numbers[i] =
          number(key, elements.kind, elements.file, elements.at + (long) i * elements.kind.bytes);
    }
    return numbers;
  }

  /// Truth values, or null; 0 and 1 are such too.
  public boolean @Nullable [] flags(String key) {
    var elements = elements(key);
    if (elements == null) {
      return null;
    }
    boolean[] flags = new boolean[elements.count];
    for (int i = 0; i < flags.length; i++) {
      long at = elements.at + (long) i * elements.kind.bytes;
      flags[i] =
          elements.kind == Kind.BOOL
              ? flag(key, elements.kind, elements.file, at)
              : whole(key, elements.kind, elements.file, at) != 0;
    }
    return flags;
  }

  /// Texts, or null.
  public @Nullable GgufTexts texts(String key) {
    var elements = elements(key);
    if (elements == null) {
      return null;
    }
    if (elements.count > 0 && elements.kind != Kind.STRING) {
      throw wrong(key, "a text", elements.kind);
    }
    long bytes = elements.end - elements.at;
    if (bytes > LARGEST_LIST) {
      throw new InvalidInputException(
          "%s: the metadata key '%s' holds %d bytes of texts, more than the %d that a list may have; fetch the file again"
              .formatted(path, key, bytes, LARGEST_LIST));
    }
    var list = elements.file.asSlice(elements.at, bytes).toArray(ValueLayout.JAVA_BYTE);
    var texts = GgufTexts.of(list, elements.count);
    if (!areUsual(texts)) {
      long at = elements.at;
      for (int i = 0; i < elements.count; i++) {
        var _ = text(key, elements.kind, elements.file, at); // which says what is wrong
        at += Long.BYTES + texts.end(i) - texts.start(i);
      }
    }
    return texts;
  }

  private static boolean areUsual(GgufTexts texts) {
    for (int i = 0; i < texts.count(); i++) {
      if (texts.end(i) - texts.start(i) > LONGEST_TEXT) {
        return false;
      }
    }
    return texts.areUtf8();
  }
}
