package dev.sluice.operations;

import dev.sluice.kernel.Floats;
import dev.sluice.kernel.Kernels;
import dev.sluice.kernel.MachineAttention;
import dev.sluice.kernel.Threads;
import dev.sluice.operations.CausalAttention.Attended;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Scratch;
import dev.sluice.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// Attention of the last tokens of each row over what is kept of it, where each token has the bits
/// that it has when it comes alone, see [Operations#attendsOneByOne].
///
/// In machine code the queries of neighbouring tokens go through the keys that all of them see
/// together, so that these are read once for all, and then each through its own.
final class TokenByToken {
  /// Queries that go together: as many as a core's first cache holds with what they have seen.
  private static final int TOGETHER = 32;

  /// Keys that are cut at multiples of so many give the same bits as in one piece.
  private static final int ALIGNED = 16;

  /// Multiplications below which a second thread costs more than it saves.
  private static final long GRAIN = 1 << 15;

  private final MemorySegment queries;
  private final List<Adjacent> keys;
  private final List<Adjacent> values;
  private final int window;
  private final long tokens;
  private final long heads;
  private final int width;

  /// Query heads that share a head of keys and values.
  private final int group;

  private final double scale;
  private final MemorySegment y;
  private final MemorySegment logSumExp;

  private TokenByToken(
      Tensor query,
      List<Adjacent> keys,
      List<Adjacent> values,
      long heads,
      int window,
      Attended results) {
    this.queries = query.memory();
    this.keys = keys;
    this.values = values;
    this.window = window;
    this.tokens = query.size(1);
    this.heads = heads;
    this.width = Math.toIntExact(query.size(3));
    this.group = Math.toIntExact(query.size(2) / heads);
    this.scale = 1 / Math.sqrt((double) width);
    this.y = results.yBTNH().memory();
    this.logSumExp = results.logSumExpBMTG().memory();
  }

  /// @param qBTNH float32
  /// @param kSMH of each row `[1, S, M, H]`, float32 or bfloat16
  /// @param vSMH likewise
  /// @param window 0 for none
  static Attended attend(Tensor qBTNH, List<Tensor> kSMH, List<Tensor> vSMH, int window) {
    var query = qBTNH.contiguous();
    long rows = query.size(0);
    long tokens = query.size(1);
    long heads = kSMH.getFirst().size(2);
    var results =
        new Attended(
            Tensor.uninitialized(query, ElementType.FLOAT32, query.shape()),
            Tensor.uninitialized(
                query, ElementType.FLOAT32, rows, heads, tokens, query.size(2) / heads));
    var ofKeys = kSMH.stream().map(Adjacent::of).toList();
    var ofValues = vSMH.stream().map(Adjacent::of).toList();
    var its = new TokenByToken(query, ofKeys, ofValues, heads, window, results);
    var machine = MachineAttention.of(its.width, kSMH.getFirst().type() == ElementType.BFLOAT16);
    long most = kSMH.stream().mapToLong(row -> row.size(1)).max().orElseThrow();
    long ofOneThread = Math.max(1, rows * heads * tokens / Threads.count());
    int together = machine == null ? 1 : (int) Math.clamp(TOGETHER / its.group, 1, ofOneThread);
    long blocks = Math.ceilDiv(tokens, together);
    Threads.share(
        rows * blocks * heads,
        Math.max(1, GRAIN / (together * most * its.width * its.group)),
        1,
        (from, to) -> {
          for (long i = from; i < to; i++) {
            int row = (int) (i / heads / blocks);
            long first = i / heads % blocks * together;
            its.attend(machine, row, i % heads, first, Math.min(tokens, first + together));
          }
        });
    return results;
  }

  /// @param first of the tokens
  /// @param end behind the last of them
  private void attend(
      @Nullable MachineAttention machine, int row, long head, long first, long end) {
    var ofKeys = keys.get(row);
    var ofValues = values.get(row);
    if (machine == null) {
      for (long token = first; token < end; token++) {
        int seen = seen(row, token);
        int hidden = window == 0 ? 0 : Math.max(0, seen - window);
        Kernels.FASTEST.oneTokenAttention(
            queries(row, head, token),
            ofKeys.head(head, hidden),
            ofValues.head(head, hidden),
            seen - hidden,
            group,
            width,
            scale,
            result(row, head, token),
            sums(row, head, token));
      }
      return;
    }
    int count = Math.toIntExact((end - first) * group);
    var states = Scratch.numbers("states", machine.stateNumbers(count), false).memory();
    machine.begin(count, states);
    boolean seeAll = window == 0 || seen(row, end - 1) <= window;
    int shared = seeAll && end > first + 1 ? seen(row, first) / ALIGNED * ALIGNED : 0;
    if (shared > 0) {
      var k = ofKeys.head(head, 0);
      var v = ofValues.head(head, 0);
      machine.take(together(row, head, first, end), k, v, shared, count, scale, states);
    }
    for (long token = first; token < end; token++) {
      int seen = seen(row, token);
      int before = seeAll ? shared : Math.max(0, seen - window);
      long at = machine.stateNumbers(group) * (token - first) * Float.BYTES;
      var state = states.asSlice(at);
      machine.take(
          queries(row, head, token),
          ofKeys.head(head, before),
          ofValues.head(head, before),
          seen - before,
          group,
          scale,
          state);
      machine.end(group, state, result(row, head, token), sums(row, head, token));
    }
  }

  /// Keys up to a token's own.
  private int seen(int row, long token) {
    return Math.toIntExact(keys.get(row).count - (tokens - 1 - token));
  }

  /// The bytes of a token's queries of one head.
  private long bytes() {
    return (long) group * width * Float.BYTES;
  }

  private long place(int row, long head, long token) {
    return ((row * tokens + token) * heads + head) * bytes();
  }

  private MemorySegment queries(int row, long head, long token) {
    return queries.asSlice(place(row, head, token), bytes());
  }

  private MemorySegment result(int row, long head, long token) {
    return y.asSlice(place(row, head, token), bytes());
  }

  private MemorySegment sums(int row, long head, long token) {
    long bytes = (long) group * Float.BYTES;
    return logSumExp.asSlice(((row * heads + head) * tokens + token) * bytes, bytes);
  }

  /// The queries of some tokens, one behind the other.
  private MemorySegment together(int row, long head, long first, long end) {
    var all = Scratch.numbers("queries", (end - first) * group * width, false).memory();
    for (long token = first; token < end; token++) {
      var its = queries(row, head, token);
      MemorySegment.copy(its, 0, all, (token - first) * bytes(), bytes());
    }
    return all;
  }

  /// Keys or values of one row, of which each head's vectors stand one after the other, as in a
  /// cache; else a copy.
  private record Adjacent(Floats numbers, long count, long headNumbers, long vectorNumbers) {
    static Adjacent of(Tensor tensorBSMH) {
      boolean isSo = tensorBSMH.size(1) == 1 || tensorBSMH.stride(1) == tensorBSMH.size(3);
      var all =
          isSo && tensorBSMH.stride(3) == 1
              ? tensorBSMH
              : tensorBSMH.transpose(1, 2).contiguous().transpose(1, 2);
      return new Adjacent(all.spanned(), all.size(1), all.stride(2), all.size(3));
    }

    /// @param hidden vectors that are left out at the beginning
    Floats head(long head, long hidden) {
      return numbers.from(head * headNumbers + hidden * vectorNumbers);
    }
  }
}
