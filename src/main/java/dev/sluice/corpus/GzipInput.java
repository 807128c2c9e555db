package dev.sluice.corpus;

import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.PushbackInputStream;
import java.util.zip.CRC32;
import java.util.zip.DataFormatException;
import java.util.zip.Inflater;
import java.util.zip.ZipException;

/// What gzip compressed, one member after the other. Java's own reader takes whatever follows a
/// member for the end of the file, also a damaged next member; here only zeros may follow, with
/// which tapes and block devices fill up.
final class GzipInput extends InputStream {
  private static final int MAGIC = 0x1F8B;
  private static final int DEFLATE = 8;
  private static final int HEADER_CHECKSUM = 2;
  private static final int EXTRA = 4;
  private static final int NAME = 8;
  private static final int COMMENT = 16;
  private static final int BLOCK = 1 << 16;

  private final PushbackInputStream in;
  private final Inflater inflater = new Inflater(true);
  private final CRC32 checksum = new CRC32();
  private final byte[] block = new byte[BLOCK];
  private int inBlock;
  private boolean ended;

  /// @throws IOException if it does not begin as gzip does
  GzipInput(InputStream in) throws IOException {
    this.in = new PushbackInputStream(in, BLOCK);
    if ((next() << 8 | next()) != MAGIC) {
      throw new ZipException("it does not begin as gzip does");
    }
    header();
  }

  @Override
  public int read() throws IOException {
    byte[] one = new byte[1];
    return read(one, 0, 1) < 0 ? -1 : one[0] & 0xFF;
  }

  @Override
  public int read(byte[] bytes, int offset, int length) throws IOException {
    if (length == 0) {
      return 0;
    }
    try {
      while (!ended) {
        int n = inflater.inflate(bytes, offset, length);
        if (n > 0) {
          checksum.update(bytes, offset, n);
          return n;
        }
        if (inflater.finished()) {
          endMember();
        } else if (inflater.needsInput()) {
          inBlock = in.read(block);
          if (inBlock < 0) {
            throw tooShort();
          }
          inflater.setInput(block, 0, inBlock);
        } else {
          throw new ZipException("it needs a dictionary");
        }
      }
      return -1;
    } catch (DataFormatException e) {
      throw new ZipException(e.getMessage() == null ? "not deflate" : e.getMessage());
    }
  }

  /// Checks what was read and begins the next member, if there is one.
  private void endMember() throws IOException {
    int rest = inflater.getRemaining();
    in.unread(block, inBlock - rest, rest);
    if (number() != checksum.getValue()
        || number() != (inflater.getBytesWritten() & 0xFFFF_FFFFL)) {
      throw new ZipException("a checksum differs");
    }
    inflater.reset();
    checksum.reset();
    int first = in.read();
    if (first == MAGIC >>> 8) {
      if (next() != (MAGIC & 0xFF)) {
        throw garbage();
      }
      header();
      return;
    }
    for (int padding = first; padding >= 0; padding = in.read()) {
      if (padding > 0) {
        throw garbage();
      }
    }
    ended = true;
  }

  /// What stands between the magic number and the compressed bytes.
  private void header() throws IOException {
    if (next() != DEFLATE) {
      throw new ZipException("its method of compression is not deflate");
    }
    int flags = next();
    skip(6); // time, level, system
    if ((flags & EXTRA) != 0) {
      skip(next() | next() << 8);
    }
    for (int text : new int[] {NAME, COMMENT}) {
      while ((flags & text) != 0 && next() != 0) {
        // to its end
      }
    }
    if ((flags & HEADER_CHECKSUM) != 0) {
      skip(2);
    }
  }

  private void skip(int bytes) throws IOException {
    for (int i = 0; i < bytes; i++) {
      next();
    }
  }

  private long number() throws IOException {
    return next() | next() << 8 | next() << 16 | (long) next() << 24;
  }

  private int next() throws IOException {
    int value = in.read();
    if (value < 0) {
      throw tooShort();
    }
    return value;
  }

  private static EOFException tooShort() {
    return new EOFException("it ends too early");
  }

  private static ZipException garbage() {
    return new ZipException("what follows its end is not gzip");
  }

  @Override
  public void close() throws IOException {
    inflater.end();
    in.close();
  }
}
