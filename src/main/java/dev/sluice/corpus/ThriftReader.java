package dev.sluice.corpus;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;

/// Reads structs of Thrift's compact protocol, in which Parquet describes itself. Nothing is
/// believed: no list or text may claim more than there are bytes, and nothing may be nested deeper
/// than Parquet nests.
///
/// Fields are read in a loop: `for (in.begin(); in.next(); )` with a switch over [#field], in which
/// each case takes the value or [#skip]s it.
///
/// Where the bytes contradict themselves, an unchecked exception says so: an
/// [IllegalArgumentException] or a [java.nio.BufferUnderflowException].
final class ThriftReader {
  private static final int DEEPEST = 64;

  private static final int TRUE = 1;
  private static final int FALSE = 2;
  private static final int BYTE = 3;
  private static final int INTEGER_16 = 4;
  private static final int INTEGER_64 = 6;
  private static final int DOUBLE = 7;
  private static final int BINARY = 8;
  private static final int LIST = 9;
  private static final int SET = 10;
  private static final int MAP = 11;
  private static final int STRUCT = 12;

  private final ByteBuffer bytes;
  private final int[] fields = new int[DEEPEST + 1];
  private int depth = -1;
  private int type;

  ThriftReader(ByteBuffer bytes) {
    this.bytes = bytes;
  }

  /// Begins a struct.
  void begin() {
    depth++;
    require(depth <= DEEPEST);
    fields[depth] = 0;
  }

  /// Goes on to the next field of the struct, or ends it.
  boolean next() {
    int header = bytes.get() & 0xFF;
    if (header == 0) {
      depth--;
      return false;
    }
    type = header & 0xF;
    fields[depth] = header >>> 4 == 0 ? (int) zigzag() : fields[depth] + (header >>> 4);
    return true;
  }

  /// The number of the present field.
  int field() {
    return fields[depth];
  }

  boolean truth() {
    require(type == TRUE || type == FALSE);
    return type == TRUE;
  }

  long integer() {
    require(type >= INTEGER_16 && type <= INTEGER_64);
    return zigzag();
  }

  /// A size or count.
  int size() {
    return Math.toIntExact(natural());
  }

  /// A number that is not negative.
  long natural() {
    long number = integer();
    require(number >= 0);
    return number;
  }

  String text() {
    require(type == BINARY);
    byte[] text = new byte[length(unsigned())];
    bytes.get(text);
    return new String(text, StandardCharsets.UTF_8);
  }

  /// Begins a list; its elements are then read one by one, as the value of a field is.
  int list() {
    require(type == LIST || type == SET);
    int header = bytes.get() & 0xFF;
    type = header & 0xF;
    return length(header >>> 4 == 0xF ? unsigned() : header >>> 4);
  }

  /// Passes over the value of the present field or element.
  void skip() {
    switch (type) {
      case TRUE, FALSE -> {}
      case BYTE -> bytes.get();
      case INTEGER_16, INTEGER_16 + 1, INTEGER_64 -> {
        long _ = unsigned();
      }
      case DOUBLE -> pass(Double.BYTES);
      case BINARY -> pass(unsigned());
      case LIST, SET -> {
        int size = list();
        int element = type;
        // Elements that are truth values have a byte of their own.
        boolean truth = element == TRUE || element == FALSE;
        for (int i = 0; i < size; i++) {
          type = truth ? BYTE : element;
          nested();
        }
      }
      case MAP -> {
        int size = length(unsigned());
        int types = size == 0 ? 0 : bytes.get() & 0xFF;
        for (int i = 0; i < size; i++) {
          type = types >>> 4;
          nested();
          type = types & 0xF;
          nested();
        }
      }
      case STRUCT -> {
        begin();
        while (next()) {
          skip();
        }
      }
      default -> require(false);
    }
  }

  /// Passes over an element, which counts as a level: lists can hold lists.
  private void nested() {
    depth++;
    require(depth <= DEEPEST);
    skip();
    depth--;
  }

  private void pass(long size) {
    bytes.position(bytes.position() + length(size));
  }

  /// A length that the bytes can hold.
  private int length(long size) {
    require(size >= 0 && size <= bytes.remaining());
    return (int) size;
  }

  private long zigzag() {
    long number = unsigned();
    return number >>> 1 ^ -(number & 1);
  }

  private long unsigned() {
    long number = 0;
    for (int shift = 0; shift < Long.SIZE; shift += 7) {
      byte next = bytes.get();
      number |= (next & 0x7FL) << shift;
      if (next >= 0) {
        return number;
      }
    }
    throw new IllegalArgumentException("a number of too many bytes");
  }

  private static void require(boolean sane) {
    if (!sane) {
      throw new IllegalArgumentException("not Thrift");
    }
  }
}
