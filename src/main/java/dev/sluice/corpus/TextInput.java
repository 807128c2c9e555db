package dev.sluice.corpus;

import com.github.luben.zstd.ZstdIOException;
import com.github.luben.zstd.ZstdInputStream;
import dev.sluice.InvalidInputException;
import dev.sluice.files.Failures;
import dev.sluice.files.RegularFile;
import java.io.BufferedInputStream;
import java.io.EOFException;
import java.io.FilterInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import java.util.Locale;
import org.jspecify.annotations.Nullable;

/// Opens a text file, decompressed where its name says so, and turns every failure to read it into
/// one sentence with its name: all code above sees text or an [InvalidInputException].
final class TextInput extends FilterInputStream {
  /// The largest that Zstandard knows, 2 GiB: what `zstd --long=31` writes.
  private static final int LONGEST_WINDOW_BITS = 31;

  private static final int BUFFER = 1 << 16;
  private static final String UTF_8_MARK = "EFBBBF";

  /// How a file of another encoding begins, or one that is compressed although its name does not
  /// say so; no text in UTF-8 begins like that. The longer come first.
  private enum Foreign {
    UTF_32_LE("FFFE0000", "is UTF-32, not UTF-8; convert it with iconv -f UTF-32 -t UTF-8"),
    UTF_32_BE("0000FEFF", "is UTF-32, not UTF-8; convert it with iconv -f UTF-32 -t UTF-8"),
    UTF_16_LE("FFFE", "is UTF-16, not UTF-8; convert it with iconv -f UTF-16 -t UTF-8"),
    UTF_16_BE("FEFF", "is UTF-16, not UTF-8; convert it with iconv -f UTF-16 -t UTF-8"),
    GZIP("1F8B", "holds gzip data, not text; name it so that it ends in .gz"),
    ZSTANDARD("28B52FFD", "holds Zstandard data, not text; name it so that it ends in .zst"),
    ZIP("504B0304", "holds a zip archive, not text; unpack it"),
    XZ("FD377A58", "holds xz data, not text; unpack it with xz -d");

    private final String start;
    private final String sentence;

    Foreign(String start, String sentence) {
      this.start = start;
      this.sentence = sentence;
    }
  }

  private enum Compression {
    NONE("", ""),
    GZIP(".gz", "gzip"),
    ZSTANDARD(".zst", "zstd");

    private final String extension;
    private final String tool;

    Compression(String extension, String tool) {
      this.extension = extension;
      this.tool = tool;
    }

    static Compression of(String name) {
      String lowerCase = name.toLowerCase(Locale.ROOT);
      return lowerCase.endsWith(GZIP.extension)
          ? GZIP
          : lowerCase.endsWith(ZSTANDARD.extension) ? ZSTANDARD : NONE;
    }

    InputStream decompressing(InputStream raw) throws IOException {
      return switch (this) {
        case NONE -> raw;
        case GZIP -> new GzipInput(raw);
        case ZSTANDARD ->
            new ZstdInputStream(new LastByteAlone(raw)).setLongMax(LONGEST_WINDOW_BITS);
      };
    }
  }

  /// Gives the last byte in a read of its own. The Zstandard library knows whether its last read
  /// ended a frame, but takes one that begins in the same read as another ends for ended too; after
  /// a last byte alone it finds every frame that was cut off.
  private static final class LastByteAlone extends FilterInputStream {
    private static final int NONE = -1;

    private int held = NONE;
    private boolean begun;

    LastByteAlone(InputStream in) {
      super(in);
    }

    @Override
    public int read() throws IOException {
      byte[] one = new byte[1];
      return read(one, 0, 1) < 0 ? -1 : one[0] & 0xFF;
    }

    @Override
    public int read(byte[] bytes, int offset, int length) throws IOException {
      if (!begun) {
        held = in.read();
        begun = true;
      }
      if (held == NONE) {
        return -1;
      }
      bytes[offset] = (byte) held;
      if (length == 1) {
        held = in.read();
        return 1;
      }
      int more = in.read(bytes, offset + 1, length - 1);
      held = more > 0 ? bytes[offset + more] & 0xFF : NONE;
      return Math.max(1, more);
    }
  }

  private final String name;

  private TextInput(InputStream in, String name) {
    super(in);
    this.name = name;
  }

  /// A reader after the byte order mark, if there is one.
  static Utf8Reader open(Path file, String name) {
    RegularFile.require(file, "give a file of text");
    var compression = Compression.of(name);
    InputStream raw = null;
    try {
      raw = Files.newInputStream(file);
      if (compression != Compression.NONE && Files.size(file) == 0) {
        throw new EOFException("it is empty"); // which the Zstandard library lets pass
      }
      // The buffer lies above the translation of failures, so that looking ahead is covered too.
      var in = new BufferedInputStream(new TextInput(compression.decompressing(raw), name), BUFFER);
      return new Utf8Reader(in, name, skipMark(in, name));
    } catch (IOException e) {
      closeQuietly(raw, e);
      throw unreadable(name, e);
    } catch (RuntimeException e) {
      closeQuietly(raw, e);
      throw e;
    }
  }

  /// How many bytes the byte order mark has.
  private static int skipMark(BufferedInputStream in, String name) throws IOException {
    in.mark(4);
    String start = HexFormat.of().withUpperCase().formatHex(in.readNBytes(4));
    in.reset();
    for (Foreign foreign : Foreign.values()) {
      if (start.startsWith(foreign.start)) {
        throw new InvalidInputException(name + " " + foreign.sentence);
      }
    }
    int mark = start.startsWith(UTF_8_MARK) ? UTF_8_MARK.length() / 2 : 0;
    in.skipNBytes(mark);
    return mark;
  }

  @Override
  public int read() throws IOException {
    byte[] one = new byte[1];
    return read(one, 0, 1) < 0 ? -1 : one[0] & 0xFF;
  }

  @Override
  public int read(byte[] bytes, int offset, int length) {
    try {
      return in.read(bytes, offset, length);
    } catch (IOException e) {
      throw unreadable(name, e);
    }
  }

  private static InvalidInputException unreadable(String name, IOException e) {
    var compression = Compression.of(name);
    // A failure of the file system is not the fault of what was compressed, and a limit is none.
    if (compression == Compression.NONE || e instanceof FileSystemException) {
      return new InvalidInputException(
          "%s cannot be read (%s); check that it exists and its permissions"
              .formatted(name, Failures.words(e)),
          e);
    }
    String limit = e instanceof ZstdIOException failure ? limit(failure.getErrorCode()) : "";
    return new InvalidInputException(
        limit.isEmpty()
            ? "%s is truncated, damaged or no %s data (%s); copy it again"
                .formatted(name, compression.tool, Failures.words(e))
            : "%s %s".formatted(name, limit),
        e);
  }

  /// What the Zstandard library cannot do with a whole file; empty where the file is not whole.
  ///
  /// @param code of `zstd_errors.h`
  private static String limit(long code) {
    return switch ((int) code) {
      case 12 -> "was compressed by another version of zstd's format; decompress it with that";
      case 14 -> "uses a feature of zstd that Sluice does not read; decompress it with zstd -d";
      case 16 ->
          "needs a window of more than 2 GiB; decompress it with zstd -d --memory=4096MB or more";
      case 32 -> "was compressed with a dictionary of its own; decompress it with zstd -d -D";
      case 64 -> "needs more memory for its window than there is; decompress it with zstd -d";
      default -> "";
    };
  }

  private static void closeQuietly(@Nullable InputStream in, Exception reason) {
    if (in == null) {
      return;
    }
    try {
      in.close();
    } catch (IOException e) {
      reason.addSuppressed(e);
    }
  }
}
