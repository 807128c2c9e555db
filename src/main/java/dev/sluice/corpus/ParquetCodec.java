package dev.sluice.corpus;

import com.aayushatharva.brotli4j.Brotli4jLoader;
import com.aayushatharva.brotli4j.decoder.BrotliInputStream;
import com.github.luben.zstd.ZstdInputStream;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.util.Arrays;

/// How the pages of a Parquet file are compressed, in the order of `parquet.thrift`.
enum ParquetCodec {
  UNCOMPRESSED,
  SNAPPY,
  GZIP,
  LZO,
  BROTLI,
  LZ4,
  ZSTD,
  LZ4_RAW;

  /// How many times longer the bytes can at most become; no memory is taken for what cannot be.
  private static final long MOST_OF_SNAPPY = 32;

  private static final long MOST_OF_LZ4 = 256;

  /// The bytes that were compressed.
  ///
  /// @param size how many they must be
  /// @throws IOException if they are not, or the bytes are damaged
  byte[] decompress(byte[] bytes, int from, int length, int size) throws IOException {
    return switch (this) {
      case UNCOMPRESSED -> {
        requireSize(length, size);
        yield Arrays.copyOfRange(bytes, from, from + length);
      }
      case SNAPPY -> {
        requirePossible(size, length, MOST_OF_SNAPPY);
        yield snappy(bytes, from, from + length, size);
      }
      case LZ4_RAW, LZ4 -> {
        requirePossible(size, length, MOST_OF_LZ4);
        yield this == LZ4
            ? lz4OfHadoop(bytes, from, from + length, size)
            : lz4(bytes, from, from + length, size);
      }
      case GZIP -> all(new GzipInput(new ByteArrayInputStream(bytes, from, length)), size);
      case BROTLI -> {
        if (!Brotli4jLoader.isAvailable()) {
          throw new IOException("Brotli's library does not run on this machine");
        }
        yield all(new BrotliInputStream(new ByteArrayInputStream(bytes, from, length)), size);
      }
      case ZSTD -> all(new ZstdInputStream(new ByteArrayInputStream(bytes, from, length)), size);
      case LZO -> throw new IOException("LZO is not known");
    };
  }

  private static void requirePossible(int size, int length, long most) throws IOException {
    requireSize(size > most * length ? most * length : size, size);
  }

  /// Takes memory as the bytes come.
  private static byte[] all(InputStream in, int size) throws IOException {
    try (in) {
      byte[] result = in.readNBytes(size);
      requireSize(in.read() < 0 ? result.length : size + 1L, size);
      return result;
    }
  }

  private static void requireSize(long found, int size) throws IOException {
    if (found != size) {
      throw new IOException("a page does not have the size that it states");
    }
  }

  /// Snappy's format: literals, and copies of what came before.
  private static byte[] snappy(byte[] in, int from, int end, int size) throws IOException {
    int at = from;
    long stated = 0;
    for (int shift = 0; shift < Integer.SIZE; shift += 7) {
      byte next = in[at++];
      stated |= (next & 0x7FL) << shift;
      if (next >= 0) {
        break;
      }
    }
    requireSize(stated, size);
    byte[] out = new byte[size];
    int done = 0;
    while (at < end) {
      int tag = in[at++] & 0xFF;
      int kind = tag & 3;
      int length = (tag >>> 2) + 1;
      if (kind == 0) {
        if (length > 60) {
          int bytes = length - 60;
          length = number(in, at, bytes) + 1;
          at += bytes;
        }
        done = literal(in, at, end, length, out, done);
        at += length;
      } else {
        int bytes = kind == 3 ? 4 : kind;
        int offset = number(in, at, bytes);
        at += bytes;
        if (kind == 1) {
          offset |= tag >>> 5 << 8;
          length = (tag >>> 2 & 7) + 4;
        }
        done = copy(out, done, offset, length);
      }
    }
    requireSize(done, size);
    return out;
  }

  /// One block of LZ4: literals and a copy, again and again, with literals at the end.
  private static byte[] lz4(byte[] in, int from, int end, int size) throws IOException {
    byte[] out = new byte[size];
    int at = from;
    int done = 0;
    while (at < end) {
      int token = in[at++] & 0xFF;
      long literals = (token & 0xF0L) >>> 4; // may claim more than an int holds
      if (literals == 15) {
        int next;
        do {
          next = in[at++] & 0xFF;
          literals += next;
        } while (next == 255);
      }
      done = literal(in, at, end, literals, out, done);
      at += (int) literals;
      if (at == end) {
        break;
      }
      int offset = number(in, at, 2);
      at += 2;
      long length = 4L + (token & 15);
      if (length == 19) {
        int next;
        do {
          next = in[at++] & 0xFF;
          length += next;
        } while (next == 255);
      }
      done = copy(out, done, offset, length);
    }
    requireSize(done, size);
    return out;
  }

  /// Hadoop writes blocks with both sizes before each, others one block without.
  private static byte[] lz4OfHadoop(byte[] in, int from, int end, int size) throws IOException {
    byte[] out = new byte[size];
    int done = 0;
    var blocks = ByteBuffer.wrap(in, from, end - from);
    while (blocks.remaining() >= 2 * Integer.BYTES) {
      int plain = blocks.getInt();
      int packed = blocks.getInt();
      if (plain < 0 || plain > size - done || packed < 0 || packed > blocks.remaining()) {
        break;
      }
      int at = blocks.position();
      byte[] block = lz4(in, at, at + packed, plain);
      System.arraycopy(block, 0, out, done, plain);
      done += plain;
      blocks.position(at + packed);
    }
    return done == size && !blocks.hasRemaining() ? out : lz4(in, from, end, size);
  }

  /// Little-endian.
  private static int number(byte[] in, int at, int bytes) {
    int number = 0;
    for (int i = 0; i < bytes; i++) {
      number |= (in[at + i] & 0xFF) << (8 * i);
    }
    return number;
  }

  private static int literal(byte[] in, int at, int end, long length, byte[] out, int done)
      throws IOException {
    if (length < 0 || length > end - at || length > out.length - done) {
      throw new IOException("a compressed page contradicts itself");
    }
    System.arraycopy(in, at, out, done, (int) length);
    return done + (int) length;
  }

  private static int copy(byte[] out, int done, int offset, long length) throws IOException {
    if (offset < 1 || offset > done || length > out.length - done) {
      throw new IOException("a compressed page contradicts itself");
    }
    for (int i = done; i < done + length; i++) { // may repeat what it has just written
      out[i] = out[i - offset];
    }
    return done + (int) length;
  }
}
