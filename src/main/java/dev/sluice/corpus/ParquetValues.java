package dev.sluice.corpus;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import org.jspecify.annotations.Nullable;

/// The values of a Parquet page, one after the other: byte arrays in any of the encodings that
/// there are for them, numbers plain or from a dictionary. Bytes that contradict themselves end in
/// an [IOException] or an [IndexOutOfBoundsException].
abstract class ParquetValues {
  static final int PLAIN = 0;
  static final int PLAIN_DICTIONARY = 2;
  static final int RUN_LENGTHS = 3;
  static final int DELTA_LENGTHS = 6;
  static final int DELTA_BYTES = 7;
  static final int DICTIONARY = 8;

  /// The present value is `bytes[from … to)`.
  byte[] bytes;

  int from;
  int to;

  private ParquetValues(byte[] bytes) {
    this.bytes = bytes;
  }

  /// Goes on to the next value; before the first there is none.
  abstract void advance() throws IOException;

  /// The values in `data[at …)`.
  ///
  /// @param most so many values at most
  /// @return null if the encoding is not known
  static @Nullable ParquetValues of(
      int encoding,
      byte[] data,
      int at,
      int most,
      @Nullable Dictionary dictionary,
      ParquetFile.@Nullable Primitive number)
      throws IOException {
    if (number == ParquetFile.Primitive.TRUTH) {
      return switch (encoding) {
        case PLAIN -> new Truths(data, at);
        case RUN_LENGTHS -> new TruthRuns(data, at);
        default -> null;
      };
    }
    if (number != null && encoding != PLAIN && dictionary == null) {
      return null;
    }
    return switch (encoding) {
      case PLAIN -> number == null ? new Plain(data, at) : new Fixed(data, at, number.bytes);
      case PLAIN_DICTIONARY, DICTIONARY -> {
        if (dictionary == null) {
          throw new IOException("a page lacks its dictionary");
        }
        yield new OfDictionary(dictionary, data, at);
      }
      case DELTA_LENGTHS -> new DeltaLengths(data, at, most);
      case DELTA_BYTES -> new DeltaBytes(data, at, most);
      default -> null;
    };
  }

  /// Each with its length in four bytes before it.
  private static final class Plain extends ParquetValues {
    Plain(byte[] data, int at) {
      super(data);
      to = at;
    }

    @Override
    void advance() throws IOException {
      from = to + Integer.BYTES;
      int length = from > bytes.length ? -1 : littleEndian(bytes, to);
      if (length < 0 || length > bytes.length - from) {
        throw new IOException("a string is longer than its page");
      }
      to = from + length;
    }
  }

  /// All of one length.
  private static final class Fixed extends ParquetValues {
    private final int width;

    Fixed(byte[] data, int at, int width) {
      super(data);
      this.width = width;
      to = at;
    }

    @Override
    void advance() throws IOException {
      from = to;
      if (width > bytes.length - from) {
        throw new IOException("a page ends within a number");
      }
      to = from + width;
    }
  }

  /// A bit each, as a byte.
  private static final class Truths extends ParquetValues {
    private final byte[] data;
    private long bit;

    Truths(byte[] data, int at) {
      super(new byte[1]);
      this.data = data;
      this.bit = 8L * at;
      to = 1;
    }

    @Override
    void advance() throws IOException {
      if (bit >= 8L * data.length) {
        throw new IOException("a page ends before its last truth value");
      }
      bytes[0] = (byte) bits(data, bit++, 1);
    }
  }

  /// Runs of bits, behind their length in four bytes.
  private static final class TruthRuns extends ParquetValues {
    private final RunLengths runs;

    TruthRuns(byte[] data, int at) throws IOException {
      super(new byte[1]);
      runs = new RunLengths(data, Math.addExact(at, Integer.BYTES), data.length, 1);
      to = 1;
    }

    @Override
    void advance() throws IOException {
      bytes[0] = (byte) runs.next();
    }
  }

  private static int littleEndian(byte[] bytes, int at) {
    return ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).getInt(at);
  }

  /// The distinct values of a column's part, as [Plain].
  static final class Dictionary {
    private final byte[] bytes;
    private final int[] starts;
    private final int[] ends;

    /// @param count that its page states
    /// @param number what its values are; null for strings
    Dictionary(byte[] bytes, int count, ParquetFile.@Nullable Primitive number) throws IOException {
      if (count > bytes.length / Integer.BYTES) {
        throw new IOException("a dictionary states more strings than it has");
      }
      this.bytes = bytes;
      this.starts = new int[count];
      this.ends = new int[count];
      var values = number == null ? new Plain(bytes, 0) : new Fixed(bytes, 0, number.bytes);
      for (int i = 0; i < count; i++) {
        values.advance();
        starts[i] = values.from;
        ends[i] = values.to;
      }
    }
  }

  private static final class OfDictionary extends ParquetValues {
    private final Dictionary dictionary;
    private final RunLengths indices;

    OfDictionary(Dictionary dictionary, byte[] data, int at) throws IOException {
      super(dictionary.bytes);
      this.dictionary = dictionary;
      // A page of nulls alone may leave out the width too.
      this.indices =
          at == data.length
              ? new RunLengths(data, at, at, 0)
              : new RunLengths(data, at + 1, data.length, data[at]);
    }

    @Override
    void advance() throws IOException {
      int index = indices.next();
      if (index < 0 || index >= dictionary.starts.length) {
        throw new IOException("a page names a string that its dictionary does not have");
      }
      from = dictionary.starts[index];
      to = dictionary.ends[index];
    }
  }

  /// All lengths, then all bytes.
  private static final class DeltaLengths extends ParquetValues {
    private final Deltas lengths;
    private int next;

    DeltaLengths(byte[] data, int at, int most) throws IOException {
      super(data);
      lengths = new Deltas(data, at, most);
      to = lengths.end;
    }

    @Override
    void advance() throws IOException {
      from = to;
      to = lengths.behind(next++, from, bytes.length);
    }
  }

  /// How much each has in common with the one before, how much not, and that.
  private static final class DeltaBytes extends ParquetValues {
    private final byte[] data;
    private final Deltas prefixes;
    private final Deltas suffixes;
    private int next;
    private int at;

    DeltaBytes(byte[] data, int at, int most) throws IOException {
      super(new byte[0]);
      this.data = data;
      this.prefixes = new Deltas(data, at, most);
      this.suffixes = new Deltas(data, prefixes.end, most);
      this.at = suffixes.end;
    }

    @Override
    void advance() throws IOException {
      int prefix = prefixes.behind(next, 0, to);
      int end = suffixes.behind(next++, at, data.length);
      byte[] value = new byte[Math.addExact(prefix, end - at)];
      System.arraycopy(bytes, 0, value, 0, prefix);
      System.arraycopy(data, at, value, prefix, end - at);
      at = end;
      bytes = value;
      to = value.length;
    }
  }

  /// Numbers as differences, bit-packed in blocks.
  private static final class Deltas {
    private final int[] numbers;
    private final int end;

    /// @param most as a page's number of values; more numbers are refused
    Deltas(byte[] data, int at, int most) throws IOException {
      var in = ByteBuffer.wrap(data, at, data.length - at);
      long blockSize = unsigned(in);
      long miniBlocks = unsigned(in);
      long count = unsigned(in);
      long number = zigzag(in);
      if (miniBlocks < 1
          || miniBlocks > blockSize
          || blockSize > Integer.MAX_VALUE
          || blockSize % miniBlocks != 0
          || count < 0
          || count > most) {
        throw new IOException("lengths of strings are stored in blocks that cannot be");
      }
      int miniBlock = (int) (blockSize / miniBlocks);
      numbers = new int[(int) count];
      int done = 0;
      if (count > 0) {
        numbers[done++] = (int) number;
      }
      while (done < count) {
        long least = zigzag(in);
        int widths = in.position();
        in.position(Math.addExact(widths, (int) miniBlocks));
        for (int block = 0; block < miniBlocks && done < count; block++) {
          int width = data[widths + block] & 0xFF;
          long bit = 8L * in.position();
          for (int i = 0; i < miniBlock && done < count; i++) {
            number += least + bits(data, bit + (long) i * width, width);
            numbers[done++] = (int) number;
          }
          long length = ((long) miniBlock * width + 7) / 8;
          in.position((int) Math.min(data.length, in.position() + length));
        }
      }
      end = in.position();
    }

    /// Where the part ends that begins at `from` and is as long as a number says, up to `limit`.
    int behind(int index, int from, int limit) throws IOException {
      int length = numbers[index];
      if (length < 0 || length > limit - from) {
        throw new IOException("a string is longer than its page");
      }
      return from + length;
    }
  }

  /// Small numbers as runs of one number or bit-packed: definition levels, and indices of a
  /// dictionary.
  static final class RunLengths {
    private final byte[] data;
    private final int end;
    private final int width;
    private final ByteBuffer in;
    private long left;
    private boolean packed;
    private int number;
    private long bit;

    /// @param width of a number in bits
    RunLengths(byte[] data, int from, int end, int width) throws IOException {
      if (width < 0 || width > Integer.SIZE || end < from || end > data.length) {
        throw new IOException("a page holds numbers of %d bits".formatted(width));
      }
      this.data = data;
      this.end = end;
      this.width = width;
      this.in = ByteBuffer.wrap(data, from, end - from);
    }

    int next() throws IOException {
      while (left == 0) {
        run();
      }
      left--;
      if (packed) {
        if (bit + width > 8L * end) {
          throw new IOException("a page ends within a number");
        }
        number = (int) bits(data, bit, width);
        bit += width;
      }
      return number;
    }

    private void run() throws IOException {
      long header = unsigned(in);
      packed = (header & 1) == 1;
      long size = header >>> 1;
      if (packed) {
        left = Math.multiplyExact(size, 8L);
        bit = 8L * in.position();
        in.position((int) Math.min(end, in.position() + Math.multiplyExact(size, (long) width)));
      } else {
        left = size;
        number = 0;
        for (int shift = 0; shift < width; shift += 8) {
          number |= (in.get() & 0xFF) << shift;
        }
      }
    }
  }

  /// A number of at most 64 bits, the lowest first.
  private static long bits(byte[] data, long bit, int width) throws IOException {
    if (width > Long.SIZE) {
      throw new IOException("a page holds numbers of %d bits".formatted(width));
    }
    long number = 0;
    for (int done = 0; done < width; ) {
      int offset = (int) (bit & 7);
      int taken = Math.min(8 - offset, width - done);
      long part = (data[(int) (bit >>> 3)] & 0xFFL) >>> offset & ((1L << taken) - 1);
      number |= part << done;
      done += taken;
      bit += taken;
    }
    return number;
  }

  private static long unsigned(ByteBuffer in) throws IOException {
    long number = 0;
    for (int shift = 0; shift < Long.SIZE; shift += 7) {
      byte next = in.get();
      number |= (next & 0x7FL) << shift;
      if (next >= 0) {
        return number;
      }
    }
    throw new IOException("a number has too many bytes");
  }

  private static long zigzag(ByteBuffer in) throws IOException {
    long number = unsigned(in);
    return number >>> 1 ^ -(number & 1);
  }
}
