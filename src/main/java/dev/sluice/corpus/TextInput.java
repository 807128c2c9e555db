package dev.sluice.corpus;

import com.github.luben.zstd.ZstdInputStream;
import dev.sluice.InvalidInputException;
import java.io.BufferedInputStream;
import java.io.EOFException;
import java.io.FilterInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.Reader;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import java.util.zip.GZIPInputStream;
import org.jspecify.annotations.Nullable;

/// Opens a text file, decompressed where its name says so, and turns every failure to read it into
/// one sentence with its name: all code above sees text or an [InvalidInputException].
final class TextInput extends FilterInputStream {
  private static final String GZIP = ".gz";
  private static final String ZSTANDARD = ".zst";

  private static final int SNIFFED_BYTES = 1 << 16;

  /// More broken characters than one in so many bytes and the file is in another encoding.
  private static final int BYTES_PER_BROKEN_CHARACTER = 200;

  private final String name;

  private TextInput(InputStream in, String name) {
    super(in);
    this.name = name;
  }

  /// A reader after the byte order mark, if there is one. Broken characters read as U+FFFD.
  static Reader open(Path file, String name) {
    InputStream raw = null;
    try {
      raw = Files.newInputStream(file);
      if (compressed(name) && Files.size(file) == 0) {
        throw new EOFException("the file is empty"); // which the Zstandard library lets pass
      }
      String lowerCase = name.toLowerCase(Locale.ROOT);
      InputStream decompressed =
          lowerCase.endsWith(GZIP)
              ? new GZIPInputStream(raw, 1 << 16)
              : lowerCase.endsWith(ZSTANDARD) ? new ZstdInputStream(raw) : raw;
      // The buffer lies above the translation of failures, so that looking ahead is covered too.
      var text = new BufferedInputStream(new TextInput(decompressed, name), SNIFFED_BYTES);
      requireText(text, name);
      return new InputStreamReader(text, StandardCharsets.UTF_8);
    } catch (IOException e) {
      closeQuietly(raw, e);
      throw unreadable(name, e);
    } catch (RuntimeException e) {
      closeQuietly(raw, e);
      throw e;
    }
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

  private static void requireText(BufferedInputStream in, String name) throws IOException {
    in.mark(SNIFFED_BYTES);
    byte[] start = in.readNBytes(SNIFFED_BYTES);
    in.reset();
    for (int i = 0; i < start.length; i++) {
      if (start[i] == 0) {
        throw new InvalidInputException(
            "%s is not text (byte %d is zero); give UTF-8 text, or remove the file."
                .formatted(name, i));
      }
    }
    String decoded = new String(start, StandardCharsets.UTF_8);
    long broken = decoded.chars().filter(c -> c == '\uFFFD').count();
    if (start.length == SNIFFED_BYTES && decoded.endsWith("\uFFFD")) {
      broken--; // the block may end within a character
    }
    if (broken * BYTES_PER_BROKEN_CHARACTER > start.length) {
      throw new InvalidInputException(
          "%s is not UTF-8 (%d broken characters in the first %d bytes); convert it, for instance with iconv."
              .formatted(name, broken, start.length));
    }
    if (decoded.startsWith("\uFEFF")) {
      in.skipNBytes(3);
    }
  }

  private static boolean compressed(String name) {
    String lowerCase = name.toLowerCase(Locale.ROOT);
    return lowerCase.endsWith(GZIP) || lowerCase.endsWith(ZSTANDARD);
  }

  private static InvalidInputException unreadable(String name, IOException e) {
    String reason = e.getMessage() == null ? e.getClass().getSimpleName() : e.getMessage();
    // A failure of the file system is not the fault of what was compressed.
    boolean damaged = compressed(name) && !(e instanceof FileSystemException);
    return new InvalidInputException(
        damaged
            ? "%s is truncated, damaged or unreadable (%s); copy it again.".formatted(name, reason)
            : "%s cannot be read (%s: %s); check that it exists and its permissions."
                .formatted(name, e.getClass().getSimpleName(), reason),
        e);
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
