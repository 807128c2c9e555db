package dev.sluice.attention;

import dev.sluice.kernel.Floats;
import dev.sluice.kernel.Kernels;
import dev.sluice.kernel.Threads;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.MatrixProduct;
import dev.sluice.tensor.MatrixProduct.Matrix;
import dev.sluice.tensor.Scratch;
import dev.sluice.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.Objects;

/// `softmax(q kᵀ / √H + causal mask) v` over whole sequences, block by block of queries: of the
/// attention weights there is never more than one block of one head per thread (Dao et al. 2022,
/// arXiv 2205.14135, with a row's scores kept whole, so that nothing is rescaled).
///
/// Products take the inputs' element type and sum in float32, the softmax is float32. Backwards,
/// the weights are computed again from the rows' log-sum-exp.
final class CausalAttention {
  /// Attention's result and the log-sum-exp of its scores.
  ///
  /// @param yBTNH of the queries' element type
  /// @param logSumExpBNT float32
  record Attended(Tensor yBTNH, Tensor logSumExpBNT) {}

  private final Tensor query;
  private final Tensor key;
  private final Tensor value;
  private final long batch;
  private final long tokens;
  private final long heads;
  private final long keyValueHeads;
  private final long width;
  private final boolean bfloat16;
  private final double scale;

  /// Queries of a block.
  private final long block;

  /// What the number of keys that a block looks at is rounded up to: products of few different
  /// shapes, as each is compiled.
  private final long step;

  private CausalAttention(Tensor qBTNH, Tensor kBTMH, Tensor vBTMH) {
    this.query = qBTNH;
    this.key = kBTMH;
    this.value = vBTMH;
    this.batch = qBTNH.size(0);
    this.tokens = qBTNH.size(1);
    this.heads = qBTNH.size(2);
    this.keyValueHeads = kBTMH.size(2);
    this.width = qBTNH.size(3);
    this.bfloat16 = qBTNH.type() == ElementType.BFLOAT16;
    this.scale = 1 / Math.sqrt((double) width);
    this.block = Math.clamp(tokens / 16, 64, 128);
    this.step = Math.clamp(tokens / 16, 64, 512);
  }

  /// Attends on the CPU.
  ///
  /// @param qBTNH queries, float32 or bfloat16
  /// @param kBTMH keys of the same type, N a multiple of M
  /// @param vBTMH values of the same type
  static Attended apply(Tensor qBTNH, Tensor kBTMH, Tensor vBTMH) {
    var attention = new CausalAttention(qBTNH.contiguous(), kBTMH.contiguous(), vBTMH.contiguous());
    var logSumExp =
        Tensor.uninitialized(
            qBTNH, ElementType.FLOAT32, attention.batch, attention.heads, attention.tokens);
    var y =
        FusedOp.apply(
            "attention",
            List.of(attention.query, attention.key, attention.value),
            List.of(),
            () -> attention.forward(logSumExp));
    return new Attended(y.getFirst(), logSumExp);
  }

  private FusedOp.Forward forward(Tensor logSumExp) {
    var y = Tensor.uninitialized(query, query.type(), query.shape());
    var numbers = y.numbers();
    var sums = logSumExp.memory();
    Threads.split(
        batch * heads,
        1,
        (from, to) -> {
          for (long head = from; head < to; head++) {
            attend(head / heads, head % heads, numbers, sums);
          }
        });
    var result = y.detach();
    return new FusedOp.Forward(
        List.of(y),
        List.of(query, key, value, result, logSumExp),
        upstreams -> backward(Objects.requireNonNull(upstreams.getFirst()), result, logSumExp));
  }

  /// One head of one sequence.
  private void attend(long sequence, long head, Floats y, MemorySegment logSumExp) {
    var q = head(query.numbers(), sequence, head, heads);
    var k = head(key.numbers(), sequence, head * keyValueHeads / heads, keyValueHeads);
    var v = head(value.numbers(), sequence, head * keyValueHeads / heads, keyValueHeads);
    var scores = Scratch.numbers("scores", block * tokens, false);
    var weights = Scratch.numbers("weights", block * tokens, bfloat16);
    var sums = Scratch.numbers("sums", block, false);
    var output = Scratch.numbers("output", block * width, false);
    for (long from = 0; from < tokens; from += block) {
      long to = Math.min(tokens, from + block);
      int rows = (int) (to - from);
      long columns = columns(to);
      MatrixProduct.multiply(
          q.rows(from, to),
          k.rows(0, columns).transposed(),
          Matrix.of(scores, rows, columns),
          false);
      Kernels.FASTEST.causalSoftmax(
          scores.memory(),
          weights,
          sums.memory(),
          logSumExp.asSlice(4 * ((sequence * heads + head) * tokens + from), 4L * rows),
          scale,
          rows,
          (int) columns,
          columns,
          (int) from + 1);
      MatrixProduct.multiply(
          Matrix.of(weights, rows, columns),
          v.rows(0, columns),
          Matrix.of(output, rows, width),
          false);
      Kernels.FASTEST.divideRows(
          output.memory(),
          sums.memory(),
          y,
          at(sequence, from, head, heads),
          heads * width,
          rows,
          (int) width);
    }
  }

  private Tensor[] backward(Tensor upstream, Tensor result, Tensor logSumExp) {
    var dq = Tensor.uninitialized(query, query.type(), query.shape());
    var dk = Tensor.uninitialized(key, key.type(), key.shape());
    var dv = Tensor.uninitialized(value, value.type(), value.shape());
    var dy = upstream.numbers();
    var y = result.numbers();
    var sums = logSumExp.memory();
    var dqs = dq.numbers();
    var dks = dk.numbers();
    var dvs = dv.numbers();
    Threads.split(
        batch * keyValueHeads,
        1,
        (from, to) -> {
          for (long head = from; head < to; head++) {
            attendBackward(head / keyValueHeads, head % keyValueHeads, dy, y, sums, dqs, dks, dvs);
          }
        });
    return new Tensor[] {dq, dk, dv};
  }

  /// Inverts [#attend] for all query heads that share a key and value head, so that the sums over
  /// them have one order.
  private void attendBackward(
      long sequence,
      long keyValueHead,
      Floats dy,
      Floats y,
      MemorySegment logSumExp,
      Floats dq,
      Floats dk,
      Floats dv) {
    long group = heads / keyValueHeads;
    var k = head(key.numbers(), sequence, keyValueHead, keyValueHeads);
    var v = head(value.numbers(), sequence, keyValueHead, keyValueHeads);
    var scores = Scratch.numbers("scores", block * tokens, false);
    var dWeights = Scratch.numbers("dWeights", block * tokens, false);
    var weights = Scratch.numbers("weights", block * tokens, bfloat16);
    var dScores = Scratch.numbers("dScores", block * tokens, bfloat16);
    var delta = Scratch.numbers("delta", block, false);
    var dKeys = Matrix.of(Scratch.numbers("dKeys", tokens * width, false), tokens, width);
    var dValues = Matrix.of(Scratch.numbers("dValues", tokens * width, false), tokens, width);
    boolean add = false;
    for (long head = keyValueHead * group; head < (keyValueHead + 1) * group; head++) {
      var q = head(query.numbers(), sequence, head, heads);
      var dOut = head(dy, sequence, head, heads);
      var dQueries = head(dq, sequence, head, heads);
      // The last block first: it sees all keys, so that it writes every row of dKeys and dValues.
      for (long from = (tokens - 1) / block * block; from >= 0; from -= block) {
        long to = Math.min(tokens, from + block);
        int rows = (int) (to - from);
        long columns = columns(to);
        var seenKeys = k.rows(0, columns);
        MatrixProduct.multiply(
            q.rows(from, to), seenKeys.transposed(), Matrix.of(scores, rows, columns), false);
        MatrixProduct.multiply(
            dOut.rows(from, to),
            v.rows(0, columns).transposed(),
            Matrix.of(dWeights, rows, columns),
            false);
        Kernels.FASTEST.dotRows(
            dy,
            y,
            delta.memory(),
            at(sequence, from, head, heads),
            heads * width,
            rows,
            (int) width);
        Kernels.FASTEST.causalSoftmaxBackward(
            scores.memory(),
            dWeights.memory(),
            logSumExp.asSlice(4 * ((sequence * heads + head) * tokens + from), 4L * rows),
            delta.memory(),
            weights,
            dScores,
            scale,
            rows,
            (int) columns,
            columns,
            (int) from + 1);
        MatrixProduct.multiply(
            Matrix.of(weights, rows, columns).transposed(),
            dOut.rows(from, to),
            dValues.rows(0, columns),
            add);
        var dScoresBlock = Matrix.of(dScores, rows, columns);
        MatrixProduct.multiply(
            dScoresBlock.transposed(), q.rows(from, to), dKeys.rows(0, columns), add);
        MatrixProduct.multiply(dScoresBlock, seenKeys, dQueries.rows(from, to), false);
        add = true;
      }
    }
    long start = at(sequence, 0, keyValueHead, keyValueHeads);
    long stride = keyValueHeads * width;
    int rows = (int) tokens;
    Kernels.FASTEST.divideRows(
        dKeys.elements().memory(), null, dk, start, stride, rows, (int) width);
    Kernels.FASTEST.divideRows(
        dValues.elements().memory(), null, dv, start, stride, rows, (int) width);
  }

  /// How many keys the queries before `to` look at.
  private long columns(long to) {
    return Math.min(tokens, Math.ceilDiv(to, step) * step);
  }

  /// Where a head's vector of a token starts.
  private long at(long sequence, long token, long head, long heads) {
    return ((sequence * tokens + token) * heads + head) * width;
  }

  /// One head of one sequence, a row per token.
  private Matrix head(Floats elements, long sequence, long head, long heads) {
    return new Matrix(elements, at(sequence, 0, head, heads), tokens, width, heads * width, 1);
  }
}
