package dev.sluice.operations;

import dev.sluice.tensor.FlashAttention.Attended;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// Attention by products of a block of queries with the keys that they see, in float32 and on any
/// device: for what [dev.sluice.tensor.FlashAttention] has no kernel for, queries after a cache
/// among it. There are never more weights than those of a block; backwards they are computed again
/// from the log-sum-exp. Queries that share a head of keys are rows of one product with these,
/// which are read where they lie.
///
/// Forwards: `S = q kᵀ / √H + mask`, `LSE = ln Σ exp S`, `P = exp(S − LSE)`, `y = P v`. Backwards:
/// `dv = Pᵀ dy`, `dS = P ⊙ (dy vᵀ − Σ dy ⊙ y)`, `dq = dS k / √H`, `dk = dSᵀ q / √H`, with the y and
/// the LSE that it is handed.
final class AttentionBlocks {
  /// Queries of a block.
  private static final long ROWS = 128;

  private final Tensor qBTNH;
  private final Tensor kBTMH;
  private final Tensor vBTMH;
  private final int window;
  private final @Nullable DocumentStarts documents;
  private final long batch;
  private final long tokens;
  private final long before;
  private final long shared;
  private final long group;
  private final long width;
  private final double scale;

  AttentionBlocks(
      Tensor qBTNH, Tensor kBTMH, Tensor vBTMH, int window, @Nullable DocumentStarts documents) {
    this.qBTNH = qBTNH;
    this.kBTMH = kBTMH;
    this.vBTMH = vBTMH;
    this.window = window;
    this.documents = documents;
    this.batch = qBTNH.size(0);
    this.tokens = qBTNH.size(1);
    this.before = kBTMH.size(1) - tokens;
    this.shared = kBTMH.size(2);
    this.group = qBTNH.size(2) / shared;
    this.width = qBTNH.size(3);
    this.scale = 1 / Math.sqrt((double) width);
  }

  Attended forward() {
    var results = new ArrayList<Tensor>();
    var sums = new ArrayList<Tensor>();
    for (long first = 0; first < tokens; first += ROWS) {
      try (var scope = Scope.open()) {
        var block = new Block(first);
        var scores = block.scores();
        var logSumExp = scores.logSumExp(-1); // [B, M, G, R]
        var weights = weights(scores, logSumExp);
        results.add(scope.keep(block.ofQueries(weights.matmul(block.values()), width)));
        sums.add(scope.keep(block.ofQueries(logSumExp, 1)));
      }
    }
    var sumsBTN1 = Tensor.concatenate(sums, 1);
    return new Attended(
        Tensor.concatenate(results, 1).to(qBTNH.type()),
        sumsBTN1.reshape(batch, tokens, shared * group),
        List.of());
  }

  /// @param addedBTN added to Σ dy ⊙ y, or null
  List<Tensor> backward(Tensor dyBTNH, Attended attended, @Nullable Tensor addedBTN) {
    var dq = new ArrayList<Tensor>();
    var dkBTMH = zeros(kBTMH);
    var dvBTMH = zeros(vBTMH);
    var product = dyBTNH.wide().times(attended.yBTNH().wide()).sum(3);
    var sumsBTN1 = addedBTN == null ? product : product.plus(addedBTN.reshape(product.shape()));
    for (long first = 0; first < tokens; first += ROWS) {
      try (var scope = Scope.open()) {
        var block = new Block(first);
        var logSumExp = block.byHeads(attended.logSumExpBTN()).reshape(block.shape());
        var weights = weights(block.scores(), logSumExp);
        var dy = block.byHeads(dyBTNH.wide());
        var dWeights = dy.matmul(block.values().transpose(2, 3));
        var dScores =
            weights.times(dWeights.minus(block.byHeads(sumsBTN1))).times(scale); // [B, M, GR, S]
        dq.add(scope.keep(block.ofQueries(dScores.matmul(block.keys()), width)));
        block.add(dkBTMH, dScores.transpose(2, 3).matmul(block.queries()));
        block.add(dvBTMH, weights.transpose(2, 3).matmul(dy));
      }
    }
    return List.of(
        Tensor.concatenate(dq, 1).to(qBTNH.type()),
        dkBTMH.to(kBTMH.type()),
        dvBTMH.to(vBTMH.type()));
  }

  private static Tensor zeros(Tensor like) {
    return Tensor.uninitialized(like, like.wide().type(), like.shape()).fill(0);
  }

  /// `[B, M, G·R, S]`.
  private Tensor weights(Tensor scoresBMGRS, Tensor logSumExpBMGR) {
    long rows = scoresBMGRS.size(3);
    return scoresBMGRS
        .minus(logSumExpBMGR.reshape(batch, shared, group, rows, 1))
        .exp()
        .reshape(batch, shared, group * rows, scoresBMGRS.size(4));
  }

  /// Some queries and the keys that any of them sees.
  private final class Block {
    private final long first;
    private final long rows;
    private final long start;
    private final long keys;

    Block(long first) {
      this.first = first;
      this.rows = Math.min(ROWS, tokens - first);
      this.start = ComposedAttention.firstSeen(before + first, window, documents);
      this.keys = before + first + rows - start;
    }

    long[] shape() {
      return new long[] {batch, shared, group, rows};
    }

    /// The block's part of `[B, T, N, …]` or `[B, T, N]`, as `[B, M, G·R, …]`.
    Tensor byHeads(Tensor xBTN) {
      long last = xBTN.elements() / (batch * tokens * shared * group);
      return xBTN.narrow(1, first, rows)
          .reshape(batch, rows, shared, group, last)
          .transpose(1, 2)
          .transpose(2, 3)
          .reshape(batch, shared, group * rows, last);
    }

    /// The same backwards: `[B, M, G·R, last]` as `[B, R, N, last]`.
    Tensor ofQueries(Tensor xBMR, long last) {
      return xBMR.reshape(batch, shared, group, rows, last)
          .transpose(2, 3)
          .transpose(1, 2)
          .reshape(batch, rows, shared * group, last);
    }

    Tensor queries() {
      return byHeads(qBTNH.wide());
    }

    /// `[B, M, S, H]`.
    Tensor keys() {
      return kBTMH.narrow(1, start, keys).wide().transpose(1, 2);
    }

    Tensor values() {
      return vBTMH.narrow(1, start, keys).wide().transpose(1, 2);
    }

    /// `[B, M, G, R, S]`.
    Tensor scores() {
      var queries = queries();
      var scores =
          queries
              .matmul(keys().transpose(2, 3))
              .times(scale)
              .reshape(batch, shared, group, rows, keys);
      if (rows == 1 && documents == null) {
        return scores; // it sees them all
      }
      var mask =
          ComposedAttention.mask(queries.narrow(2, 0, rows), keys, window, before + first - start);
      if (documents != null) {
        var starts = documents.numbers(qBTNH.device()).narrow(1, first, rows);
        mask =
            mask.plus(ComposedAttention.otherDocuments(starts, start, keys))
                .reshape(batch, 1, 1, rows, keys);
      }
      return scores.plus(mask);
    }

    /// Adds what the block gives of keys or values.
    void add(Tensor sumBTMH, Tensor partBMSH) {
      sumBTMH.narrow(1, start, keys).addInPlace(partBMSH.transpose(1, 2), 1);
    }
  }
}
