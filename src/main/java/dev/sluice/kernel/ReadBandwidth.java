package dev.sluice.kernel;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.List;
import java.util.concurrent.atomic.AtomicLong;

/// How fast this machine reads memory, by as many threads as kernels take.
public final class ReadBandwidth {
  private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG_UNALIGNED;

  /// Bytes that a thread reads at a time: a loop over an int, which the compiler can free of
  /// checks.
  private static final long PIECE = 1 << 20;

  private ReadBandwidth() {}

  /// Bytes a second of the fastest of several readings of all of this memory, which is what a
  /// product with it could reach at most.
  ///
  /// @param parts of megabytes, such as a model's weights
  /// @param seconds that it may take, after two readings
  public static double bytesPerSecond(List<MemorySegment> parts, double seconds) {
    long bytes = parts.stream().mapToLong(MemorySegment::byteSize).sum();
    long began = System.nanoTime();
    long least = Long.MAX_VALUE;
    for (int i = 0; i < 2 || System.nanoTime() - began < seconds * 1e9; i++) {
      long start = System.nanoTime();
      parts.forEach(ReadBandwidth::sum);
      least = Math.min(least, System.nanoTime() - start);
    }
    return bytes / (least / 1e9);
  }

  /// The sum of the memory's whole numbers of eight bytes: to read it and leave nothing out.
  static long sum(MemorySegment memory) {
    var total = new AtomicLong();
    Threads.split(
        Math.ceilDiv(memory.byteSize(), PIECE),
        1,
        (first, last) -> {
          long sum = 0;
          for (long piece = first; piece < last; piece++) {
            long from = piece * PIECE;
            sum += ofPiece(memory.asSlice(from, Math.min(PIECE, memory.byteSize() - from)));
          }
          total.addAndGet(sum);
        });
    return total.get();
  }

  /// Four sums, so that no addition waits for the one before.
  private static long ofPiece(MemorySegment piece) {
    long a = 0;
    long b = 0;
    long c = 0;
    long d = 0;
    int at = 0;
    int bytes = (int) piece.byteSize();
    for (; at <= bytes - 4 * Long.BYTES; at += 4 * Long.BYTES) {
      a += piece.get(LONG, at);
      b += piece.get(LONG, at + Long.BYTES);
      c += piece.get(LONG, at + 2 * Long.BYTES);
      d += piece.get(LONG, at + 3 * Long.BYTES);
    }
    for (; at <= bytes - Long.BYTES; at += Long.BYTES) {
      a += piece.get(LONG, at);
    }
    return a + b + c + d;
  }
}
