package dev.sluice.corpus;

import dev.sluice.InvalidInputException;
import java.io.IOException;
import java.io.InputStream;
import java.io.Reader;
import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharsetDecoder;
import java.nio.charset.CoderResult;
import java.nio.charset.StandardCharsets;

/// The characters of a file in UTF-8. What is broken reads as U+FFFD, as long as a [Utf8Judge] lets
/// it pass; a zero byte is refused.
final class Utf8Reader extends Reader {
  private static final int BLOCK = 1 << 16;

  /// Where UTF-16 and UTF-32 have a zero byte in most texts.
  private static final int FIRST_CHARACTER = 4;

  private final InputStream in;
  private final String name;
  private final Utf8Judge judge;
  private final CharsetDecoder decoder = StandardCharsets.UTF_8.newDecoder();
  private final ByteBuffer bytes = ByteBuffer.allocate(BLOCK).flip();
  private final CharBuffer chars = CharBuffer.allocate(BLOCK).flip();
  private long taken;
  private boolean ended;

  /// @param taken bytes of the file before those of `in`: a byte order mark
  Utf8Reader(InputStream in, String name, int taken) {
    this.in = in;
    this.name = name;
    this.judge = new Utf8Judge(name);
    this.taken = taken;
  }

  @Override
  public int read(char[] into, int offset, int length) throws IOException {
    if (length == 0) {
      return 0;
    }
    if (!chars.hasRemaining()) {
      fill();
    }
    if (!chars.hasRemaining()) {
      return -1;
    }
    int n = Math.min(length, chars.remaining());
    chars.get(into, offset, n);
    return n;
  }

  private void fill() throws IOException {
    chars.clear();
    while (true) {
      CoderResult result = decoder.decode(bytes, chars, ended);
      if (result.isMalformed() && chars.hasRemaining()) {
        long at = taken - bytes.remaining();
        judge.broken(at, "byte " + at);
        chars.put('\uFFFD');
        bytes.position(bytes.position() + result.length());
      } else if (result.isUnderflow() && chars.position() == 0 && !ended) {
        refill();
      } else {
        break;
      }
    }
    chars.flip();
    if (ended && !chars.hasRemaining()) {
      judge.end(taken);
    }
  }

  private void refill() throws IOException {
    bytes.compact();
    int n = in.read(bytes.array(), bytes.position(), bytes.remaining());
    ended = n < 0;
    for (int i = 0; i < n; i++) {
      if (bytes.get(bytes.position() + i) == 0) {
        throw zero(taken + i);
      }
    }
    taken += Math.max(0, n);
    bytes.position(bytes.position() + Math.max(0, n)).flip();
  }

  private InvalidInputException zero(long at) {
    return new InvalidInputException(
        "%s is not text (byte %d is zero%s); give UTF-8 text, or remove the file"
            .formatted(name, at, at < FIRST_CHARACTER ? ", as in UTF-16" : ""));
  }

  /// Broken characters so far.
  long broken() {
    return judge.broken();
  }

  @Override
  public void close() throws IOException {
    in.close();
  }
}
