package dev.sluice.kernel;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.concurrent.atomic.LongAdder;

/// How fast this machine reads memory, by as many threads as kernels take.
public final class ReadBandwidth {
  /// Bytes that a thread reads at a time: into memory that stays in its core's first cache, by the
  /// virtual machine's own copy, which reads as fast as a core can. A loop in Java read at half of
  /// that.
  private static final int PIECE = 1 << 14;

  /// Pieces that a thread takes at a time.
  private static final int STRETCH = 64;

  private ReadBandwidth() {}

  /// Bytes a second of the fastest of several readings of all of this memory, which is what a
  /// product with it could reach at most.
  ///
  /// @param parts of megabytes, such as a model's weights
  /// @param seconds that it may take, after two readings
  public static double bytesPerSecond(List<MemorySegment> parts, double seconds) {
    long began = System.nanoTime();
    double best = 0;
    for (int i = 0; i < 2 || System.nanoTime() - began < seconds * 1e9; i++) {
      long start = System.nanoTime();
      long bytes = parts.stream().mapToLong(ReadBandwidth::read).sum();
      best = Math.max(best, bytes / ((System.nanoTime() - start) / 1e9));
    }
    return best;
  }

  /// @return how many bytes were read
  static long read(MemorySegment memory) {
    var read = new LongAdder();
    Threads.share(
        Math.ceilDiv(memory.byteSize(), (long) PIECE),
        1,
        STRETCH,
        (first, last) -> {
          try (var arena = Arena.ofConfined()) {
            var to = arena.allocate(PIECE, 64);
            for (long piece = first; piece < last; piece++) {
              long from = piece * PIECE;
              long count = Math.min(PIECE, memory.byteSize() - from);
              MemorySegment.copy(memory, from, to, 0, count);
              read.add(count);
            }
          }
        });
    return read.sum();
  }
}
