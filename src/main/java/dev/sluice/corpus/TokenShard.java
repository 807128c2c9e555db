package dev.sluice.corpus;

import dev.sluice.InvalidInputException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Objects;

/// A long sequence of token ids, read-only, mapped from a file: 16 bits each where the vocabulary
/// allows, else 32, little-endian, no header. The mapping lives as long as the shard is reachable.
public final class TokenShard {
  private static final ValueLayout.OfShort NARROW =
      ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  private static final ValueLayout.OfInt WIDE =
      ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  private final MemorySegment ids;
  private final int width;

  private TokenShard(MemorySegment ids, int width) {
    this.ids = ids;
    this.width = width;
  }

  /// A shard in memory.
  public static TokenShard of(int... ids) {
    MemorySegment segment = Arena.ofAuto().allocate((long) ids.length * Integer.BYTES);
    for (int i = 0; i < ids.length; i++) {
      segment.set(WIDE, (long) i * Integer.BYTES, ids[i]);
    }
    return new TokenShard(segment, Integer.BYTES);
  }

  static TokenShard map(Path file, int vocabularySize) {
    try (var channel = FileChannel.open(file, StandardOpenOption.READ)) {
      MemorySegment ids =
          channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size(), Arena.ofAuto());
      return new TokenShard(ids, width(vocabularySize));
    } catch (IOException e) {
      throw new InvalidInputException(
          "The token file %s cannot be read (%s); prepare the corpus again.".formatted(file, e), e);
    }
  }

  /// Bytes of one id on disk.
  static int width(int vocabularySize) {
    return vocabularySize <= 1 << 16 ? Short.BYTES : Integer.BYTES;
  }

  /// How many ids there are.
  public long length() {
    return ids.byteSize() / width;
  }

  public int at(long index) {
    Objects.checkIndex(index, length());
    return width == Short.BYTES
        ? Short.toUnsignedInt(ids.get(NARROW, index * Short.BYTES))
        : ids.get(WIDE, index * Integer.BYTES);
  }

  /// Copies `n` ids from index `from` on to `destination`, from `offset` on.
  public void copy(long from, int n, long[] destination, int offset) {
    Objects.checkFromIndexSize(from, n, length());
    Objects.checkFromIndexSize(offset, n, destination.length);
    for (int i = 0; i < n; i++) {
      destination[offset + i] = at(from + i);
    }
  }
}
