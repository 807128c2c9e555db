package dev.sluice.corpus;

import dev.sluice.InvalidInputException;
import dev.sluice.files.Failures;
import dev.sluice.files.RegularFile;
import dev.sluice.files.Sha256;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/// A long sequence of token ids, read-only, mapped from a file: 16 bits each where the vocabulary
/// allows, else 32, little-endian, no header. The mapping lives as long as the shard is reachable.
///
/// A corpus is replaced by new files, so that a mapping goes on to show the old ones. A file that
/// others cut or overwrite in place is found where it is read: no id comes out that the vocabulary
/// does not have.
public final class TokenShard {
  private static final ValueLayout.OfShort NARROW =
      ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  private static final ValueLayout.OfInt WIDE =
      ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  private static final String WAY_OUT = "prepare the corpus again";
  private static final int BLOCK = 1 << 18;

  private final MemorySegment ids;
  private final int width;
  private final int vocabularySize;
  private final String name;

  /// What is mapped, to ask for its size; null in memory. Unlike a channel it stays open when the
  /// thread that asks is interrupted, and like one it is closed when it is no longer reachable.
  private final @Nullable RandomAccessFile file;

  private TokenShard(
      MemorySegment ids,
      int width,
      int vocabularySize,
      String name,
      @Nullable RandomAccessFile file) {
    this.ids = ids;
    this.width = width;
    this.vocabularySize = vocabularySize;
    this.name = name;
    this.file = file;
  }

  /// A shard in memory.
  public static TokenShard of(int... ids) {
    MemorySegment segment = Arena.ofAuto().allocate((long) ids.length * Integer.BYTES);
    for (int i = 0; i < ids.length; i++) {
      segment.set(WIDE, (long) i * Integer.BYTES, ids[i]);
    }
    return new TokenShard(segment, Integer.BYTES, Integer.MAX_VALUE, "the text", null);
  }

  /// @param tokens how many ids the file must have
  static TokenShard map(Path file, long tokens, int vocabularySize) {
    RegularFile.require(file, WAY_OUT);
    int width = width(vocabularySize);
    RandomAccessFile mapped = null;
    try {
      mapped = new RandomAccessFile(file.toFile(), "r");
      long size = mapped.length();
      if (size / width != tokens || size % width != 0) {
        throw new InvalidInputException(
            "%s has %s tokens where corpus.json says %d; %s"
                .formatted(
                    file,
                    size % width == 0
                        ? size / width
                        : size + " bytes, which are no whole number of",
                    tokens,
                    WAY_OUT));
      }
      MemorySegment ids =
          mapped.getChannel().map(FileChannel.MapMode.READ_ONLY, 0, size, Arena.ofAuto());
      return new TokenShard(ids, width, vocabularySize, file.toString(), mapped);
    } catch (IOException | RuntimeException e) {
      close(mapped, e);
      throw e instanceof InvalidInputException known
          ? known
          : new InvalidInputException(
              "The token file %s cannot be read (%s); %s."
                  .formatted(file, Failures.words(e), WAY_OUT),
              e);
    }
  }

  private static void close(@Nullable RandomAccessFile file, Exception reason) {
    if (file != null) {
      try {
        file.close();
      } catch (IOException e) {
        reason.addSuppressed(e);
      }
    }
  }

  /// Reads all of it: the checksum must be right, and no id may be beyond the vocabulary.
  void verify(String sha256) {
    MessageDigest digest = Sha256.digest();
    byte[] block = new byte[BLOCK];
    var content = MemorySegment.ofArray(block);
    long unknown = -1;
    for (long from = 0; from < ids.byteSize(); from += BLOCK) {
      int n = (int) Math.min(BLOCK, ids.byteSize() - from);
      read(from, content, n);
      digest.update(block, 0, n);
      for (int i = 0; unknown < 0 && i < n / width; i++) {
        unknown = isKnown(id(content, i)) ? -1 : from / width + i;
      }
    }
    if (!Sha256.hex(digest).equals(sha256)) {
      throw new InvalidInputException(
          "%s does not match its checksum; delete the folder and prepare the corpus again."
              .formatted(name));
    }
    if (unknown >= 0) {
      int _ = at(unknown);
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
    long[] one = new long[1];
    copy(index, 1, one, 0);
    return (int) one[0];
  }

  /// Copies `n` ids from index `from` on to `destination`, from `offset` on.
  public void copy(long from, int n, long[] destination, int offset) {
    Objects.checkFromIndexSize(from, n, length());
    Objects.checkFromIndexSize(offset, n, destination.length);
    requireWhole();
    try {
      for (int i = 0; i < n; i++) {
        destination[offset + i] = requireKnown(id(ids, from + i), from + i);
      }
    } catch (InternalError e) {
      throw cut(e);
    }
  }

  private void read(long from, MemorySegment into, int bytes) {
    requireWhole();
    try {
      MemorySegment.copy(ids, from, into, 0, bytes);
    } catch (InternalError e) {
      throw cut(e);
    }
  }

  private int id(MemorySegment from, long index) {
    return width == Short.BYTES
        ? Short.toUnsignedInt(from.get(NARROW, index * Short.BYTES))
        : from.get(WIDE, index * Integer.BYTES);
  }

  private boolean isKnown(int id) {
    return id >= 0 && id < vocabularySize;
  }

  private int requireKnown(int id, long index) {
    if (!isKnown(id)) {
      throw new InvalidInputException(
          "%s holds the id %s at token %d, where its vocabulary has %d; delete the folder and prepare the corpus again."
              .formatted(name, Integer.toUnsignedString(id), index, vocabularySize));
    }
    return id;
  }

  /// Asks before reading: the fault of reading a page that the file no longer has is thrown, but
  /// not always where it is caught.
  private void requireWhole() {
    try {
      if (file != null && file.length() < ids.byteSize()) {
        throw cut(null);
      }
    } catch (IOException e) {
      throw cut(e);
    }
  }

  private InvalidInputException cut(@Nullable Throwable e) {
    String message =
        "%s became shorter while it was in use, or its disk failed; %s".formatted(name, WAY_OUT);
    return e == null ? new InvalidInputException(message) : new InvalidInputException(message, e);
  }
}
