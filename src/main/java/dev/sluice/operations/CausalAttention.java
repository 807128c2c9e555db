package dev.sluice.operations;

import dev.sluice.kernel.CausalTile;
import dev.sluice.kernel.Floats;
import dev.sluice.kernel.HeadRows;
import dev.sluice.kernel.Kernels;
import dev.sluice.kernel.Threads;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.MatrixProduct;
import dev.sluice.tensor.MatrixProduct.Matrix;
import dev.sluice.tensor.Operation;
import dev.sluice.tensor.Scratch;
import dev.sluice.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// `softmax(q kᵀ / √H + causal mask) v`, tile by tile (Dao et al. 2022, arXiv 2205.14135): of the
/// attention weights there is never more than one tile per thread.
///
/// With a window w a query sees its own key and the w − 1 before it. Tiles that no query of a block
/// sees are not computed, so that the work is T · w and not T². With a mask of documents a query
/// sees no key before its document's first one either, and the work is likewise that of the
/// documents.
///
/// The last of T queries stands at the last of S keys. Whole sequences, S = T, have gradients;
/// where S − T keys stand before the first query there are none, and S is each row's own.
///
/// The query heads that share a key and value head are worked on together, as rows of one matrix.
/// Products take the inputs' element type and sum in float32, the softmax is float32. Backwards,
/// the weights are computed again from the rows' log-sum-exp.
///
/// The gate y ⊙ σ(z) of [SigmoidGate] is applied where a block's result is written, and its
/// gradient taken where the result's is read: it has no pass over memory of its own.
///
/// The definition is [ComposedAttention].
final class CausalAttention {
  /// Attention's result and the log-sum-exp of its scores.
  ///
  /// @param yBTNH of the queries' element type, gated where there is a gate
  /// @param logSumExpBMTG float32; G = N / M query heads share a key and value head
  record Attended(Tensor yBTNH, Tensor logSumExpBMTG) {
    Tensor logSumExpBTN() {
      return logSumExpBMTG.transpose(1, 2).reshape(yBTNH.size(0), yBTNH.size(1), yBTNH.size(2));
    }
  }

  /// Rows of a tile, about.
  private static final int ROWS = 192;

  /// Columns of a tile. With as many rows, what a thread works on stays in its core's cache.
  private static final int COLUMNS = 512;

  private final Tensor query;
  private final Tensor key;
  private final Tensor value;
  private final @Nullable Tensor gate;
  private final long batch;
  private final long tokens;
  private final long keys;
  private final long keyValueHeads;
  private final int group;
  private final int width;
  private final boolean bfloat16;
  private final double scale;

  /// The most keys that a query sees; at most as many as there are.
  private final long window;

  private final @Nullable DocumentStarts documents;

  /// Tokens of a tile's rows; divides [#COLUMNS].
  private final long block;

  private CausalAttention(
      Tensor qBTNH,
      Tensor kBSMH,
      Tensor vBSMH,
      @Nullable Tensor gateLogits,
      int window,
      @Nullable DocumentStarts documents) {
    this.query = qBTNH;
    this.key = kBSMH;
    this.value = vBSMH;
    this.gate = gateLogits;
    this.batch = qBTNH.size(0);
    this.tokens = qBTNH.size(1);
    this.keys = kBSMH.size(1);
    this.keyValueHeads = kBSMH.size(2);
    this.group = Math.toIntExact(qBTNH.size(2) / keyValueHeads);
    this.width = Math.toIntExact(qBTNH.size(3));
    this.bfloat16 = qBTNH.type() == ElementType.BFLOAT16;
    this.scale = 1 / Math.sqrt((double) width);
    this.window = window == 0 ? keys : Math.min(window, keys);
    this.documents = documents;
    if (documents != null) {
      documents.requireShape(qBTNH);
    }
    this.block = Math.clamp(Integer.highestOneBit(ROWS / group), 16, 128);
  }

  /// Attends over whole sequences, with sinks, a gate and a mask of documents where they are given.
  static Tensor apply(
      Tensor qBTNH,
      Tensor kBTMH,
      Tensor vBTMH,
      @Nullable Tensor sinksN,
      @Nullable Tensor gateLogits,
      int window,
      @Nullable DocumentStarts documents) {
    if (sinksN == null) {
      return inTiles(qBTNH, kBTMH, vBTMH, gateLogits, window, documents).yBTNH();
    }
    var yBTNH = drained(inTiles(qBTNH, kBTMH, vBTMH, null, window, documents), sinksN);
    return gateLogits == null ? yBTNH : SigmoidGate.apply(yBTNH, gateLogits);
  }

  /// Attends over what is kept of each row: token by token where [Operations#attendsOneByOne], by a
  /// kernel of its own; else in tiles, of all rows at once; by the definition where gradients are
  /// recorded.
  static Tensor applyCached(
      Tensor qBTNH,
      List<Tensor> kSMH,
      List<Tensor> vSMH,
      @Nullable Tensor sinksN,
      @Nullable Tensor gateLogits,
      int window) {
    var inputs = new ArrayList<>(kSMH);
    inputs.addAll(vSMH);
    inputs.add(qBTNH);
    if (gateLogits != null) {
      inputs.add(gateLogits);
    }
    if (FusedOp.recording(inputs, List.of())) {
      return Operations.COMPOSED.cachedAttention(qBTNH, kSMH, vSMH, sinksN, gateLogits, window);
    }
    var oneByOne =
        kSMH.stream()
            .map(row -> Operations.attendsOneByOne(qBTNH, row.size(1)))
            .distinct()
            .toList();
    if (oneByOne.size() > 1) { // what a row gets does not depend on the others
      var rows = new ArrayList<Tensor>();
      for (int row = 0; row < kSMH.size(); row++) {
        rows.add(
            applyCached(
                qBTNH.narrow(0, row, 1),
                List.of(kSMH.get(row)),
                List.of(vSMH.get(row)),
                sinksN,
                gateLogits == null ? null : gateLogits.narrow(0, row, 1),
                window));
      }
      return Tensor.concatenate(rows, 0);
    }
    boolean isOneByOne = oneByOne.getFirst();
    if (!isOneByOne && sinksN == null) {
      return cachedInTiles(qBTNH, kSMH, vSMH, gateLogits, window).yBTNH();
    }
    var attended =
        isOneByOne
            ? TokenByToken.attend(qBTNH.to(ElementType.FLOAT32), kSMH, vSMH, window)
            : cachedInTiles(qBTNH, kSMH, vSMH, null, window);
    var yBTNH = sinksN == null ? attended.yBTNH() : drained(attended, sinksN);
    return gateLogits == null ? yBTNH : SigmoidGate.apply(yBTNH, gateLogits);
  }

  /// What the sinks leave of attention without them: y · σ(LSE − s), since exp(LSE) / (exp(LSE) +
  /// exp(s)) of the weight stays with the keys.
  static Tensor drained(Attended attended, Tensor sinksN) {
    var y = attended.yBTNH();
    return SigmoidGate.apply(y, attended.logSumExpBTN().minus(sinksN)).to(y.type());
  }

  /// Attends over whole sequences, without sinks.
  ///
  /// @param qBTNH queries, float32 or bfloat16
  /// @param kBTMH keys of the same type, N a multiple of M
  /// @param vBTMH values of the same type
  /// @param gateLogits z of the gate, `[B, T, N, H]` (elementwise) or `[B, T, N]` (headwise),
  ///   float32 or bfloat16; null for no gate
  /// @param window 0 for none
  /// @param documents of which a query sees its own alone, or null
  static Attended inTiles(
      Tensor qBTNH,
      Tensor kBTMH,
      Tensor vBTMH,
      @Nullable Tensor gateLogits,
      int window,
      @Nullable DocumentStarts documents) {
    return inTiles(
        new CausalAttention(
            qBTNH.contiguous(),
            kBTMH.contiguous(),
            vBTMH.contiguous(),
            gateLogits == null ? null : gateLogits.contiguous(),
            window,
            documents));
  }

  /// Attends over what is kept of each row, without sinks. What a row gets does not depend on the
  /// others.
  ///
  /// @param qBTNH queries, float32 or bfloat16; nothing here with a gradient
  /// @param kSMH of each row `[1, S, M, H]`, T ≤ S, N a multiple of M; a view whose vectors are
  ///   contiguous. Read where it stands, or brought into the queries' type
  /// @param vSMH values, as the keys
  /// @param gateLogits as in [#inTiles]
  /// @param window 0 for none
  static Attended cachedInTiles(
      Tensor qBTNH, List<Tensor> kSMH, List<Tensor> vSMH, @Nullable Tensor gateLogits, int window) {
    var inputs = new ArrayList<>(kSMH);
    inputs.addAll(vSMH);
    inputs.add(qBTNH);
    if (gateLogits != null) {
      inputs.add(gateLogits);
    }
    if (FusedOp.recording(inputs, List.of())) {
      throw new IllegalArgumentException("attention over a cache has no gradients");
    }
    try (var _ = Operation.begin("attention", Operation.FORWARD)) {
      var query = qBTNH.contiguous();
      var gate = gateLogits == null ? null : gateLogits.contiguous();
      var keys = ofType(query.type(), kSMH);
      var values = ofType(query.type(), vSMH);
      var rows = new ArrayList<CausalAttention>();
      for (int row = 0; row < kSMH.size(); row++) {
        rows.add(
            new CausalAttention(
                query.narrow(0, row, 1),
                keys.get(row),
                values.get(row),
                gate == null ? null : gate.narrow(0, row, 1),
                window,
                null));
      }
      var first = rows.getFirst();
      var y = Tensor.uninitialized(query, query.type(), query.shape());
      var logSumExp =
          Tensor.uninitialized(
              query,
              ElementType.FLOAT32,
              rows.size(),
              first.keyValueHeads,
              first.tokens,
              first.group);
      var numbers = y.numbers();
      var sums = logSumExp.memory();
      long rowsNumbers = y.elements() / rows.size();
      long rowsSums = logSumExp.memory().byteSize() / rows.size();
      long blocks = first.keyValueHeads * Math.ceilDiv(first.tokens, first.block);
      Threads.share(
          rows.size() * blocks,
          1,
          1,
          (from, to) -> {
            for (long i = from; i < to; i++) {
              long row = i / blocks;
              rows.get((int) row)
                  .attend(
                      i % blocks, numbers.from(row * rowsNumbers), sums.asSlice(row * rowsSums));
            }
          });
      return new Attended(y, logSumExp);
    }
  }

  /// Keys or values of each row in an element type: themselves, or copies of which each head's
  /// vectors stand one after the other.
  private static List<Tensor> ofType(ElementType type, List<Tensor> rowsSMH) {
    var copies = new ArrayList<Tensor>();
    for (var row : rowsSMH) {
      if (row.type() == type) {
        copies.add(row);
        continue;
      }
      var copyMSH =
          Tensor.uninitialized(row, type, row.size(0), row.size(2), row.size(1), row.size(3));
      copyMSH.put(0, row.transpose(1, 2));
      copies.add(copyMSH.transpose(1, 2));
    }
    return copies;
  }

  private static Attended inTiles(CausalAttention attention) {
    var logSumExp =
        Tensor.uninitialized(
            attention.query,
            ElementType.FLOAT32,
            attention.batch,
            attention.keyValueHeads,
            attention.tokens,
            attention.group);
    var attended =
        FusedOp.apply(
            "attention", attention.inputs(), List.of(), () -> attention.forward(logSumExp));
    return new Attended(attended.getFirst(), attended.getLast());
  }

  private List<Tensor> inputs() {
    return gate == null ? List.of(query, key, value) : List.of(query, key, value, gate);
  }

  private FusedOp.Forward forward(Tensor logSumExp) {
    var y = Tensor.uninitialized(query, query.type(), query.shape());
    var numbers = y.numbers();
    var sums = logSumExp.memory();
    long blocks = Math.ceilDiv(tokens, block); // of a head
    Threads.split(
        batch * keyValueHeads * blocks,
        1,
        (from, to) -> {
          for (long i = from; i < to; i++) {
            attend(i, numbers, sums);
          }
        });
    var result = y.detach();
    var saved = logSumExp.detach();
    var kept = new ArrayList<>(inputs());
    kept.add(result);
    kept.add(saved);
    return new FusedOp.Forward(
        List.of(y, logSumExp),
        kept,
        upstreams -> backward(upstreams.getFirst(), upstreams.getLast(), result, saved));
  }

  /// One of the blocks of all sequences and heads.
  private void attend(long number, Floats y, MemorySegment logSumExp) {
    long blocks = Math.ceilDiv(tokens, block); // of a head
    long head = number / blocks;
    attend(head / keyValueHeads, head % keyValueHeads, number % blocks * block, y, logSumExp);
  }

  /// A block of queries, of all heads of one sequence that share a key and value head.
  ///
  /// @param from the block's first query
  private void attend(long sequence, long head, long from, Floats y, MemorySegment logSumExp) {
    var k = keysOrValues(key, sequence, head);
    var v = keysOrValues(value, sequence, head);
    long to = Math.min(tokens, from + block);
    long own = keys - tokens + from; // the key at which the first of these queries stands
    long seen = keys - tokens + to;
    int most = Math.toIntExact(Math.min(block, tokens) * group);
    long widest = columns(0, keys);
    var queries = Scratch.numbers("queries", (long) most * width, bfloat16);
    var scores = Scratch.numbers("scores", most * widest, false);
    var weights = Scratch.numbers("weights", most * widest, bfloat16);
    var output = Scratch.numbers("output", (long) most * width, false);
    var maxima = Scratch.numbers("maxima", most, false).memory();
    var sums = Scratch.numbers("sums", most, false).memory();
    var factors = Scratch.numbers("factors", most, false).memory();
    var rows = queryRows(sequence, head, from, to);
    Kernels.FASTEST.gatherRows(query.numbers(), rows, queries);
    fill(maxima, rows.rows(), Float.NEGATIVE_INFINITY);
    fill(sums, rows.rows(), 0);
    int[] starts = starts(sequence, from, to);
    long start = firstSeen(own, starts);
    for (long first = start; first < seen; first += COLUMNS) {
      long columns = columns(first, seen);
      MatrixProduct.multiply(
          Matrix.of(queries, rows.rows(), width),
          k.rows(first, first + columns).transposed(),
          Matrix.of(scores, rows.rows(), columns),
          false);
      Kernels.FASTEST.causalSoftmax(
          tile(rows, columns, own, first, starts), scores.memory(), weights, maxima, sums, factors);
      if (first > start) {
        Kernels.FASTEST.scaleRows(output.memory(), factors, rows.rows(), width);
      }
      MatrixProduct.multiply(
          Matrix.of(weights, rows.rows(), columns),
          v.rows(first, first + columns),
          Matrix.of(output, rows.rows(), width),
          first > start);
    }
    if (gate == null) {
      Kernels.FASTEST.scatterRows(output.memory(), sums, y, rows);
    } else {
      var logitRows = logitRows(gate, sequence, head, from, to);
      Kernels.FASTEST.scatterGatedRows(
          output.memory(), sums, gathered(gate, logitRows), logitRows.width(), y, rows);
    }
    long at = logSumExpAt(sequence, head, from);
    for (int i = 0; i < rows.rows(); i++) {
      double logSum = Math.log(sums.getAtIndex(ValueLayout.JAVA_FLOAT, i));
      logSumExp.setAtIndex(
          ValueLayout.JAVA_FLOAT,
          at + i,
          (float) (maxima.getAtIndex(ValueLayout.JAVA_FLOAT, i) + logSum));
    }
  }

  private static void fill(MemorySegment floats, int count, float value) {
    for (int i = 0; i < count; i++) {
      floats.setAtIndex(ValueLayout.JAVA_FLOAT, i, value);
    }
  }

  private static void subtract(MemorySegment from, MemorySegment floats) {
    for (long i = 0; i < floats.byteSize() / 4; i++) {
      float difference =
          from.getAtIndex(ValueLayout.JAVA_FLOAT, i) - floats.getAtIndex(ValueLayout.JAVA_FLOAT, i);
      from.setAtIndex(ValueLayout.JAVA_FLOAT, i, difference);
    }
  }

  private Tensor[] backward(
      @Nullable Tensor upstream, @Nullable Tensor ofLogSumExp, Tensor result, Tensor logSumExp) {
    var dq = Tensor.uninitialized(query, query.type(), query.shape());
    var dk = Tensor.uninitialized(key, key.type(), key.shape());
    var dv = Tensor.uninitialized(value, value.type(), value.shape());
    var dz = gate == null ? null : Tensor.uninitialized(gate, gate.type(), gate.shape());
    var dOut =
        upstream != null
            ? upstream
            : Tensor.uninitialized(query, query.type(), query.shape()).fill(0);
    var dy = dOut.numbers();
    var dSums = ofLogSumExp == null ? null : ofLogSumExp.memory();
    var y = result.numbers();
    var sums = logSumExp.memory();
    var dqs = dq.numbers();
    var dks = dk.numbers();
    var dvs = dv.numbers();
    var dzs = dz == null ? null : dz.numbers();
    Threads.split(
        batch * keyValueHeads,
        1,
        (from, to) -> {
          for (long head = from; head < to; head++) {
            attendBackward(
                head / keyValueHeads, head % keyValueHeads, dy, dSums, y, sums, dqs, dks, dvs, dzs);
          }
        });
    return dz == null ? new Tensor[] {dq, dk, dv} : new Tensor[] {dq, dk, dv, dz};
  }

  /// Inverts [#attend] for all queries.
  private void attendBackward(
      long sequence,
      long head,
      Floats dy,
      @Nullable MemorySegment dLogSumExp,
      Floats y,
      MemorySegment logSumExp,
      Floats dq,
      Floats dk,
      Floats dv,
      @Nullable Floats dz) {
    var k = keysOrValues(key, sequence, head);
    var v = keysOrValues(value, sequence, head);
    int most = Math.toIntExact(Math.min(block, tokens) * group);
    long widest = columns(0, tokens);
    var queries = Scratch.numbers("queries", (long) most * width, bfloat16);
    var dOutput = Scratch.numbers("dOutput", (long) most * width, bfloat16);
    var result = Scratch.numbers("result", (long) most * width, bfloat16);
    var dQueries = Scratch.numbers("dQueries", (long) most * width, false);
    var scores = Scratch.numbers("scores", most * widest, false);
    var dWeights = Scratch.numbers("dWeights", most * widest, false);
    var weights = Scratch.numbers("weights", most * widest, bfloat16);
    var dScores = Scratch.numbers("dScores", most * widest, bfloat16);
    var delta = Scratch.numbers("delta", most, false).memory();
    var dKeys = Matrix.of(Scratch.numbers("dKeys", tokens * width, false), tokens, width);
    var dValues = Matrix.of(Scratch.numbers("dValues", tokens * width, false), tokens, width);
    // The last rows first: where nothing hides keys they see all, so that they write every row of
    // dKeys and dValues.
    boolean all = window == keys && documents == null;
    if (!all) {
      dKeys.elements().memory().asSlice(0, 4 * tokens * width).fill((byte) 0);
      dValues.elements().memory().asSlice(0, 4 * tokens * width).fill((byte) 0);
    }
    long last = (tokens - 1) / block * block;
    for (long from = last; from >= 0; from -= block) {
      long to = Math.min(tokens, from + block);
      boolean add = !all || from < last;
      var rows = queryRows(sequence, head, from, to);
      Kernels.FASTEST.gatherRows(query.numbers(), rows, queries);
      Kernels.FASTEST.gatherRows(dy, rows, dOutput);
      Kernels.FASTEST.gatherRows(y, rows, result);
      if (gate == null || dz == null) {
        Kernels.FASTEST.dotRows(dOutput, result, delta, rows.rows(), width);
      } else {
        var logitRows = logitRows(gate, sequence, head, from, to);
        var logits = gathered(gate, logitRows);
        Kernels.FASTEST.gatedRowsBackward(
            dOutput, result, logits, logitRows.width(), delta, rows.rows(), width);
        Kernels.FASTEST.spreadRows(logits, dz, logitRows);
      }
      if (dLogSumExp != null) { // ∂LSE/∂score is the weight, so that it joins the softmax's own sum
        subtract(
            delta, dLogSumExp.asSlice(4 * logSumExpAt(sequence, head, from), 4L * rows.rows()));
      }
      var sums = logSumExp.asSlice(4 * logSumExpAt(sequence, head, from), 4L * rows.rows());
      var q = Matrix.of(queries, rows.rows(), width);
      var dOut = Matrix.of(dOutput, rows.rows(), width);
      int[] starts = starts(sequence, from, to);
      long start = firstSeen(from, starts);
      for (long first = start; first < to; first += COLUMNS) {
        long columns = columns(first, to);
        var seenKeys = k.rows(first, first + columns);
        var seenValues = v.rows(first, first + columns);
        MatrixProduct.multiply(
            q, seenKeys.transposed(), Matrix.of(scores, rows.rows(), columns), false);
        MatrixProduct.multiply(
            dOut, seenValues.transposed(), Matrix.of(dWeights, rows.rows(), columns), false);
        Kernels.FASTEST.causalSoftmaxBackward(
            tile(rows, columns, from, first, starts),
            scores.memory(),
            dWeights.memory(),
            sums,
            delta,
            weights,
            dScores);
        var dScoresTile = Matrix.of(dScores, rows.rows(), columns);
        MatrixProduct.multiply(
            Matrix.of(weights, rows.rows(), columns).transposed(),
            dOut,
            dValues.rows(first, first + columns),
            add);
        MatrixProduct.multiply(
            dScoresTile.transposed(), q, dKeys.rows(first, first + columns), add);
        MatrixProduct.multiply(
            dScoresTile, seenKeys, Matrix.of(dQueries, rows.rows(), width), first > start);
      }
      Kernels.FASTEST.scatterRows(dQueries.memory(), null, dq, rows);
    }
    var everyToken =
        new HeadRows(
            (sequence * tokens * keyValueHeads + head) * width,
            keyValueHeads * width,
            Math.toIntExact(tokens),
            width,
            1);
    Kernels.FASTEST.scatterRows(dKeys.elements().memory(), null, dk, everyToken);
    Kernels.FASTEST.scatterRows(dValues.elements().memory(), null, dv, everyToken);
  }

  /// Where the tiles of a block begin: at the first key that its first query sees, rounded down for
  /// [#columns].
  ///
  /// @param own the key at which that query stands
  /// @param starts of the block's documents, which never fall
  private long firstSeen(long own, int @Nullable [] starts) {
    return Math.max(starts == null ? 0 : starts[0], own + 1 - window) / 64 * 64;
  }

  /// The keys at which the documents of a block's queries begin; null where all are one document.
  private int @Nullable [] starts(long sequence, long from, long to) {
    return documents == null ? null : documents.of(sequence, from, to);
  }

  /// How many of the keys `first … to` a tile takes, rounded up: products of few different shapes,
  /// as each is compiled.
  private long columns(long first, long to) {
    long seen = Math.min(to - first, COLUMNS);
    return Math.min(keys - first, Math.ceilDiv(seen, 64) * 64);
  }

  /// @param own the key at which the first row's query stands
  private CausalTile tile(
      HeadRows rows, long columns, long own, long first, int @Nullable [] starts) {
    int[] within =
        starts == null
            ? null
            : Arrays.stream(starts).map(start -> (int) Math.max(0, start - first)).toArray();
    return new CausalTile(
        rows.rows(), (int) columns, own + 1 - first, window, group, scale, within);
  }

  /// The vectors of the queries `from … to`, in a tensor `[B, T, N, H]`.
  private HeadRows queryRows(long sequence, long head, long from, long to) {
    return headRows(sequence, head, from, to, width);
  }

  /// The logits that gate these vectors: as many, or one for each.
  private HeadRows logitRows(Tensor logits, long sequence, long head, long from, long to) {
    return headRows(sequence, head, from, to, logits.shape().length == 3 ? 1 : width);
  }

  /// A block's logits, brought together.
  private static Floats gathered(Tensor logits, HeadRows rows) {
    long count = (long) rows.rows() * rows.width();
    var gathered = Scratch.numbers("logits", count, logits.type() == ElementType.BFLOAT16);
    Kernels.FASTEST.gatherRows(logits.numbers(), rows, gathered);
    return gathered;
  }

  /// @param elements of each
  private HeadRows headRows(long sequence, long head, long from, long to, int elements) {
    long stride = keyValueHeads * group * elements;
    return new HeadRows(
        (sequence * tokens + from) * stride + head * group * elements,
        stride,
        Math.toIntExact(to - from) * group,
        elements,
        group);
  }

  private long logSumExpAt(long sequence, long head, long from) {
    return ((sequence * keyValueHeads + head) * tokens + from) * group;
  }

  /// The keys or values of one head of one sequence, a row per token.
  private Matrix keysOrValues(Tensor tensorBSMH, long sequence, long head) {
    return new Matrix(
        tensorBSMH.spanned(),
        sequence * tensorBSMH.stride(0) + head * tensorBSMH.stride(2),
        keys,
        width,
        keys == 1 ? width : tensorBSMH.stride(1),
        1);
  }
}
