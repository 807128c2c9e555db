package dev.sluice.tensor;

import java.lang.foreign.MemorySegment;
import java.util.Comparator;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedDeque;
import java.util.concurrent.atomic.AtomicLong;
import org.jspecify.annotations.Nullable;

/// The products that oneDNN has compiled, for all threads: each kind once. A thread borrows what it
/// runs one with. The kinds that were not used for longest are given up when there are too many.
final class CompiledProducts {
  private static final int MOST_KEPT = 1024;

  private static final ConcurrentHashMap<Kind, Compiled> BY_KIND = new ConcurrentHashMap<>();

  /// Counts what was compiled: the time by which uses are told apart.
  private static final AtomicLong NOW = new AtomicLong();

  private CompiledProducts() {}

  /// What compiled code depends on: the sizes and strides of C ← A B or C ← C + A B.
  record Kind(
      long rows,
      long columns,
      long inner,
      long aRow,
      long aColumn,
      long bRow,
      long bColumn,
      long cRow,
      boolean bfloat16,
      boolean bfloat16Result,
      boolean add) {
    private OneDnn.Product compile() {
      return new OneDnn.Product(
          new long[] {rows, inner, aRow, aColumn},
          new long[] {inner, columns, bRow, bColumn},
          new long[] {rows, columns, cRow, 1},
          bfloat16,
          bfloat16Result,
          add);
    }
  }

  /// Multiplies matrices at these addresses.
  static void run(Kind kind, MemorySegment a, MemorySegment b, MemorySegment c) {
    while (true) {
      var compiled = BY_KIND.get(kind);
      if (compiled == null) {
        compiled = BY_KIND.computeIfAbsent(kind, Compiled::new);
        giveUpOldest();
      }
      var call = compiled.borrow();
      if (call != null) {
        try {
          call.run(a, b, c);
        } finally {
          compiled.giveBack(call);
        }
        return;
      }
    }
  }

  /// The kinds that are compiled now.
  static Set<Kind> kept() {
    return Set.copyOf(BY_KIND.keySet());
  }

  private static synchronized void giveUpOldest() {
    while (BY_KIND.size() > MOST_KEPT) {
      var oldest =
          BY_KIND.entrySet().stream()
              .min(Comparator.comparingLong(entry -> entry.getValue().usedAt))
              .orElseThrow();
      BY_KIND.remove(oldest.getKey());
      oldest.getValue().retire();
    }
  }

  /// One kind's code, and the calls that no thread is using.
  private static final class Compiled {
    private final OneDnn.Product product;
    private final ConcurrentLinkedDeque<OneDnn.Call> idle = new ConcurrentLinkedDeque<>();
    private volatile long usedAt = NOW.incrementAndGet();
    private volatile boolean retired;

    // guarded by this
    private int calls;
    private boolean closed;

    Compiled(Kind kind) {
      product = kind.compile();
    }

    /// A call that nobody else has, or null when this was retired.
    OneDnn.@Nullable Call borrow() {
      long now = NOW.get();
      if (usedAt != now) {
        usedAt = now;
      }
      var call = idle.poll();
      return call != null ? call : make();
    }

    private synchronized OneDnn.@Nullable Call make() {
      if (retired) {
        return null;
      }
      var call = new OneDnn.Call(product);
      calls++;
      return call;
    }

    void giveBack(OneDnn.Call call) {
      idle.push(call);
      if (retired) {
        closeIdle();
      }
    }

    /// Frees the native memory as soon as no thread uses it.
    synchronized void retire() {
      retired = true;
      closeIdle();
    }

    private synchronized void closeIdle() {
      for (var call = idle.poll(); call != null; call = idle.poll()) {
        call.close();
        calls--;
      }
      if (calls == 0 && !closed) {
        closed = true;
        product.close();
      }
    }
  }
}
