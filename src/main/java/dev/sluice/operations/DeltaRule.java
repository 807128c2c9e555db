package dev.sluice.operations;

import dev.sluice.kernel.Floats;
import dev.sluice.kernel.HeadRows;
import dev.sluice.kernel.Kernels;
import dev.sluice.kernel.Threads;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.MatrixProduct;
import dev.sluice.tensor.MatrixProduct.Matrix;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Scratch;
import dev.sluice.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// The gated delta rule. Each value head has a state S `[K, V]`, float32 and zero at first, a
/// memory of values by keys. A token with the key k and the query q, both divided by their lengths
/// and q by √K too, makes of it
///
/// ```
/// S ← e^g S
/// S ← S + k (β (v − Sᵀ k))ᵀ
/// y = Sᵀ q
/// ```
///
/// The fused operation works on chunks of 64 tokens (Yang et al. 2024, arXiv 2406.06484): within
/// one, what the tokens add to the state is the solution of a triangular system, and everything
/// else is products of matrices. All of it is float32, whatever the element type of the tensors;
/// decays are summed in float64, and a factor below 2⁻⁴⁸ counts as zero. Backwards each chunk is
/// computed again from the state that enters it, which the forward pass has kept.
public final class DeltaRule {
  /// What the rule gives.
  ///
  /// @param yBTNV of the element type of the channels
  /// @param state `[B, N, K, V]`, float32, after the last token
  public record Result(Tensor yBTNV, Tensor state) {}

  /// Added to the square of a length.
  static final double EPSILON = 1e-6;

  /// Tokens of a chunk.
  static final int CHUNK = 64;

  /// The rows of a chunk are rounded up to a multiple of this, by tokens of zeros, which change
  /// nothing: products of few different shapes, as each is compiled.
  private static final int ROWS = 16;

  /// A decay that leaves nothing of the state. A smaller one is taken for it, so that sums stay
  /// finite.
  static final double FORGETS_EVERYTHING = -256;

  /// Elements of states that a thread's piece of a step has at least.
  private static final long GRAIN = 1 << 15;

  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT;

  private final Tensor mixed;
  private final Tensor decays;
  private final Tensor rates;
  private final @Nullable Tensor initial;

  // Their memory, which lives as long as they do.
  private final Floats channels;
  private final MemorySegment g;
  private final MemorySegment beta;
  private final @Nullable MemorySegment initialStates;

  private final DeltaHeads heads;
  private final long batch;
  private final long tokens;
  private final long chunks;
  private final int group;
  private final int keyWidth;
  private final int valueWidth;
  private final long stateSize;
  private final boolean bfloat16;

  private DeltaRule(
      Tensor mixedBTC,
      Tensor decaysBTN,
      Tensor ratesBTN,
      @Nullable Tensor initial,
      DeltaHeads heads) {
    this.mixed = mixedBTC.contiguous();
    this.decays = decaysBTN.contiguous();
    this.rates = ratesBTN.contiguous();
    this.initial = initial == null ? null : initial.contiguous();
    this.channels = mixed.numbers();
    this.g = decays.memory();
    this.beta = rates.memory();
    this.initialStates = this.initial == null ? null : this.initial.memory();
    this.heads = heads;
    this.batch = mixed.size(0);
    this.tokens = mixed.size(1);
    this.chunks = Math.ceilDiv(tokens, CHUNK);
    this.group = heads.group();
    this.keyWidth = heads.keyWidth();
    this.valueWidth = heads.valueWidth();
    this.stateSize = (long) keyWidth * valueWidth;
    this.bfloat16 = mixed.type() == ElementType.BFLOAT16;
  }

  // ---------------------------------------------------------------- the definition

  /// The definition, token by token.
  ///
  /// @param mixedBTC queries, keys and values; in float64, everything is float64
  /// @param decaysBTN g ≤ 0
  /// @param ratesBTN β
  /// @param state `[B, N, K, V]` before the first token, or null for zeros
  static Result composed(
      Tensor mixedBTC,
      Tensor decaysBTN,
      Tensor ratesBTN,
      @Nullable Tensor state,
      DeltaHeads heads) {
    expect(mixedBTC, decaysBTN, ratesBTN, state, heads);
    var wide = mixedBTC.wide();
    var scaled = normalised(heads.queries(wide)).times(scale(heads));
    var q = heads.perValueHead(scaled).transpose(1, 2);
    var k = heads.perValueHead(normalised(heads.keys(wide))).transpose(1, 2);
    var v = heads.values(wide).transpose(1, 2);
    long batch = wide.size(0);
    int headCount = heads.valueHeads();
    var s =
        state != null
            ? state
            : Tensor.zeros(wide.type(), batch, headCount, heads.keyWidth(), heads.valueWidth())
                .to(wide.device());
    var results = new ArrayList<Tensor>();
    for (long t = 0; t < wide.size(1); t++) {
      var key = k.narrow(2, t, 1);
      var decay = decaysBTN.narrow(1, t, 1).exp().reshape(batch, headCount, 1, 1);
      var rate = ratesBTN.narrow(1, t, 1).reshape(batch, headCount, 1, 1);
      s = s.times(decay);
      var change = v.narrow(2, t, 1).minus(key.matmul(s)).times(rate);
      s = s.plus(key.transpose(2, 3).matmul(change));
      results.add(q.narrow(2, t, 1).matmul(s));
    }
    var y = Tensor.concatenate(results, 2).transpose(1, 2).to(mixedBTC.type());
    return new Result(y.contiguous(), s);
  }

  private static double scale(DeltaHeads heads) {
    return 1 / Math.sqrt(heads.keyWidth());
  }

  /// x / √(Σ x² + ε) over the last dimension.
  private static Tensor normalised(Tensor x) {
    var squares = x.square().mean(-1).times((double) x.size(-1));
    return x.dividedBy(squares.plus(EPSILON).squareRoot());
  }

  static void expect(
      Tensor mixed, Tensor decays, Tensor rates, @Nullable Tensor state, DeltaHeads heads) {
    long b = mixed.size(0);
    long[] perHead = {b, mixed.shape().length == 3 ? mixed.size(1) : 0, heads.valueHeads()};
    long[] states = {b, heads.valueHeads(), heads.keyWidth(), heads.valueWidth()};
    if (mixed.shape().length != 3
        || mixed.size(2) != heads.channels()
        || mixed.size(1) < 1
        || !Arrays.equals(decays.shape(), perHead)
        || !Arrays.equals(rates.shape(), perHead)
        || (state != null && !Arrays.equals(state.shape(), states))) {
      throw new IllegalArgumentException(
          "no delta rule of %s over %s with decays %s, rates %s and state %s"
              .formatted(heads, mixed, decays, rates, state));
    }
  }

  private static void expectFloat32(Tensor decays, Tensor rates, @Nullable Tensor state) {
    if (decays.type() != ElementType.FLOAT32
        || rates.type() != ElementType.FLOAT32
        || (state != null && state.type() != ElementType.FLOAT32)) {
      throw new IllegalArgumentException(
          "decays %s, rates %s and state %s must be float32".formatted(decays, rates, state));
    }
  }

  // ---------------------------------------------------------------- the fused operation

  /// The rule over all tokens, with gradients of all that is given, the state before the first
  /// token included.
  ///
  /// @param mixedBTC queries, keys and values, float32 or bfloat16
  /// @param decaysBTN g ≤ 0, float32; a positive one is refused
  /// @param ratesBTN β, float32
  /// @param state `[B, N, K, V]` before the first token, float32, left as it is; null for zeros
  static Result apply(
      Tensor mixedBTC,
      Tensor decaysBTN,
      Tensor ratesBTN,
      @Nullable Tensor state,
      DeltaHeads heads) {
    expect(mixedBTC, decaysBTN, ratesBTN, state, heads);
    expectFloat32(decaysBTN, ratesBTN, state);
    var rule = new DeltaRule(mixedBTC, decaysBTN, ratesBTN, state, heads);
    var inputs = rule.inputs();
    boolean recorded = FusedOp.recording(inputs, List.of());
    var both = FusedOp.apply("gated delta rule", inputs, List.of(), () -> rule.forward(recorded));
    return new Result(both.getFirst(), both.getLast());
  }

  private List<Tensor> inputs() {
    return initial == null ? List.of(mixed, decays, rates) : List.of(mixed, decays, rates, initial);
  }

  /// @param recorded whether a backward pass will want the state at each chunk's start
  private FusedOp.Forward forward(boolean recorded) {
    var y =
        Tensor.uninitialized(mixed, mixed.type(), batch, tokens, heads.valueHeads(), valueWidth);
    var last = Tensor.uninitialized(mixed, ElementType.FLOAT32, stateShape());
    var kept =
        recorded
            ? Tensor.uninitialized(
                mixed, ElementType.FLOAT32, batch, heads.valueHeads(), chunks, keyWidth, valueWidth)
            : null;
    var states = new States(kept == null ? null : kept.memory(), last.memory());
    var out = y.numbers();
    Threads.split(
        batch * heads.keyHeads(),
        1,
        (from, to) -> {
          var chunk = new Chunk();
          for (long i = from; i < to; i++) {
            forward(i / heads.keyHeads(), (int) (i % heads.keyHeads()), chunk, states, out);
          }
        });
    var saved = new ArrayList<>(inputs());
    if (kept != null) {
      saved.add(kept);
    }
    return new FusedOp.Forward(
        List.of(y, last),
        saved,
        upstreams -> backward(upstreams.getFirst(), upstreams.getLast(), states));
  }

  private long[] stateShape() {
    return new long[] {batch, heads.valueHeads(), keyWidth, valueWidth};
  }

  /// Where the states stand.
  ///
  /// @param kept `[B, N, chunks, K, V]`, the states at the chunks' starts; null if only the last
  ///   one is wanted, which every chunk then changes in place
  /// @param last `[B, N, K, V]`
  private record States(@Nullable MemorySegment kept, MemorySegment last) {}

  /// @param head counted through all sequences
  /// @param chunk from 0 to the number of chunks
  private MemorySegment state(States states, long head, long chunk) {
    var kept = states.kept;
    return kept != null && chunk < chunks
        ? slice(kept, head * chunks + chunk)
        : slice(states.last, head);
  }

  private MemorySegment slice(MemorySegment states, long i) {
    return states.asSlice(i * stateSize * 4, stateSize * 4);
  }

  private long head(long sequence, int valueHead) {
    return sequence * heads.valueHeads() + valueHead;
  }

  /// The value heads of one key head of one sequence.
  private void forward(long sequence, int keyHead, Chunk chunk, States states, Floats y) {
    for (int r = 0; r < group; r++) {
      long head = head(sequence, heads.valueHead(keyHead, r));
      var start = state(states, head, 0);
      if (initialStates == null) {
        start.fill((byte) 0);
      } else {
        start.copyFrom(slice(initialStates, head));
      }
    }
    for (long i = 0; i < chunks; i++) {
      chunk.take(sequence, keyHead, i * CHUNK);
      for (int r = 0; r < group; r++) {
        int valueHead = heads.valueHead(keyHead, r);
        long head = head(sequence, valueHead);
        chunk.takeHead(valueHead);
        chunk.forward(valueHead, state(states, head, i), state(states, head, i + 1), y);
      }
    }
  }

  private Tensor[] backward(@Nullable Tensor dOut, @Nullable Tensor dLast, States states) {
    var dMixed = Tensor.uninitialized(mixed, mixed.type(), mixed.shape());
    var dDecays = Tensor.uninitialized(decays, ElementType.FLOAT32, decays.shape());
    var dRates = Tensor.uninitialized(rates, ElementType.FLOAT32, rates.shape());
    var dInitial =
        initial == null ? null : Tensor.uninitialized(mixed, ElementType.FLOAT32, stateShape());
    var gradients =
        new Gradients(
            dOut == null ? null : dOut.numbers(),
            dLast == null ? null : dLast.memory(),
            dMixed.numbers(),
            dDecays.memory(),
            dRates.memory(),
            dInitial == null ? null : dInitial.memory());
    Threads.split(
        batch * heads.keyHeads(),
        1,
        (from, to) -> {
          var chunk = new Chunk();
          var backward = new ChunkBackward(chunk);
          for (long i = from; i < to; i++) {
            backward(
                i / heads.keyHeads(),
                (int) (i % heads.keyHeads()),
                chunk,
                backward,
                states,
                gradients);
          }
        });
    return dInitial == null
        ? new Tensor[] {dMixed, dDecays, dRates}
        : new Tensor[] {dMixed, dDecays, dRates, dInitial};
  }

  /// What arrives, and what is to be computed.
  private record Gradients(
      @Nullable Floats dOut,
      @Nullable MemorySegment dLast,
      Floats dMixed,
      MemorySegment dDecays,
      MemorySegment dRates,
      @Nullable MemorySegment dInitial) {}

  /// Inverts [#forward] for one key head of one sequence.
  private void backward(
      long sequence,
      int keyHead,
      Chunk chunk,
      ChunkBackward backward,
      States states,
      Gradients gradients) {
    for (int r = 0; r < group; r++) {
      var dState = slice(backward.dStates.memory(), r);
      if (gradients.dLast == null) {
        dState.fill((byte) 0);
      } else {
        dState.copyFrom(slice(gradients.dLast, head(sequence, heads.valueHead(keyHead, r))));
      }
    }
    for (long i = chunks - 1; i >= 0; i--) {
      chunk.take(sequence, keyHead, i * CHUNK);
      backward.begin();
      for (int r = 0; r < group; r++) {
        int valueHead = heads.valueHead(keyHead, r);
        chunk.takeHead(valueHead);
        backward.head(valueHead, r, state(states, head(sequence, valueHead), i), gradients);
      }
      backward.finish(gradients.dMixed);
    }
    for (int r = 0; gradients.dInitial != null && r < group; r++) {
      slice(gradients.dInitial, head(sequence, heads.valueHead(keyHead, r)))
          .copyFrom(slice(backward.dStates.memory(), r));
    }
  }

  // ---------------------------------------------------------------- a chunk

  private static Floats float32(String purpose, long count) {
    return Scratch.numbers(purpose, count, false);
  }

  /// What RMSNorm multiplies keys and queries with, so that it divides them by their lengths: a
  /// length is the root of a mean square, but for a factor.
  ///
  /// @param keys float32 `[K]`
  /// @param queries likewise
  static void lengthFactors(DeltaHeads heads, MemorySegment keys, MemorySegment queries) {
    double length = 1 / Math.sqrt(heads.keyWidth());
    for (int i = 0; i < heads.keyWidth(); i++) {
      keys.setAtIndex(FLOAT, i, (float) length);
      queries.setAtIndex(FLOAT, i, (float) (length * scale(heads)));
    }
  }

  static float factor(double decay) {
    return decay < Kernels.FORGOTTEN ? 0 : (float) Math.exp(decay);
  }

  private static void clear(MemorySegment floats, long from, long to) {
    floats.asSlice(from * 4, (to - from) * 4).fill((byte) 0);
  }

  private static void copy(MemorySegment from, MemorySegment to, long count) {
    MemorySegment.copy(from, 0, to, 0, count * 4);
  }

  private Matrix state(MemorySegment memory) {
    return Matrix.of(Floats.float32(memory), keyWidth, valueWidth);
  }

  /// A chunk of n tokens as one thread works on it. Matrices `[2n, …]` have the keys' rows first
  /// and then the queries'.
  private final class Chunk {
    long sequence;
    long first; // token
    int keyHead;
    int count; // tokens
    int rows; // n, `count` rounded up

    /// As they stand in the tensor.
    final Floats stored = Scratch.numbers("stored keys", 2L * CHUNK * keyWidth, bfloat16);

    final Floats storedValues =
        Scratch.numbers("stored values", CHUNK * (long) valueWidth, bfloat16);
    final Floats keyNorm = float32("key norm", keyWidth);
    final Floats queryNorm = float32("query norm", keyWidth);

    /// `[k; q]`, normalised and scaled.
    final Floats keysQueries = float32("keys and queries", 2L * CHUNK * keyWidth);

    /// `[k; q] kᵀ`.
    final Floats scores = float32("scores of keys", 2L * CHUNK * CHUNK);

    /// `[−e^c k; e^c q]`.
    final Floats decayed = float32("decayed keys", 2L * CHUNK * keyWidth);

    final Floats system = float32("system", (long) CHUNK * CHUNK);
    final Floats weights = float32("weights of values", (long) CHUNK * CHUNK);

    /// First the values, then what is written into the state; below, the results.
    final Floats values = float32("values", 2L * CHUNK * valueWidth);

    /// c, the decay from the chunk's start to each token's end, as a logarithm.
    final double[] decay = new double[CHUNK];

    final float[] rate = new float[CHUNK];
    final MemorySegment rateFactors = float32("rates", CHUNK).memory();

    /// `[−e^c; e^c]`.
    final MemorySegment fromStart = float32("decays from the start", 2L * CHUNK).memory();

    /// `e^(c[n − 1] − c)`.
    final MemorySegment toEnd = float32("decays to the end", CHUNK).memory();

    final MemorySegment throughout = float32("decay of a chunk", 1).memory();

    Chunk() {
      lengthFactors(heads, keyNorm.memory(), queryNorm.memory());
    }

    /// Brings a chunk's keys and queries in.
    void take(long itsSequence, int itsKeyHead, long itsFirst) {
      sequence = itsSequence;
      keyHead = itsKeyHead;
      first = itsFirst;
      count = (int) Math.min(CHUNK, tokens - first);
      rows = Math.ceilDiv(count, ROWS) * ROWS;
      if (count < rows) {
        stored.memory().fill((byte) 0);
      }
      Kernels.FASTEST.gatherRows(channels, keyRows(), stored);
      Kernels.FASTEST.gatherRows(channels, queryRows(), storedQueries(stored));
      norm(keyNorm, 0);
      norm(queryNorm, rows);
      MatrixProduct.multiply(
          both(keysQueries, keyWidth), keys().transposed(), both(scores, rows), false);
    }

    /// Brings in one token's key, and its query after it; no products are made.
    void takeToken(long itsSequence, int itsKeyHead, long token) {
      sequence = itsSequence;
      keyHead = itsKeyHead;
      first = token;
      count = 1;
      rows = 1;
      Kernels.FASTEST.gatherRows(channels, keyRows(), stored);
      Kernels.FASTEST.gatherRows(channels, queryRows(), storedQueries(stored));
      norm(keyNorm, 0);
      norm(queryNorm, rows);
    }

    private void norm(Floats weight, int from) {
      Kernels.FASTEST.rmsNorm(
          stored,
          null,
          weight,
          EPSILON / keyWidth,
          stored,
          keysQueries,
          keyWidth,
          from,
          from + rows);
    }

    /// The queries' rows.
    Floats storedQueries(Floats keysThenQueries) {
      return keysThenQueries.from((long) rows * keyWidth);
    }

    /// `[2n, width]`
    Matrix both(Floats elements, long width) {
      return Matrix.of(elements, 2L * rows, width);
    }

    /// The keys' rows of `[2n, width]`, or a matrix of these only.
    Matrix upper(Floats elements, long width) {
      return Matrix.of(elements, rows, width);
    }

    Matrix keys() {
      return upper(keysQueries, keyWidth);
    }

    private Matrix lower(Floats elements, long width) {
      return both(elements, width).rows(rows, 2L * rows);
    }

    private HeadRows keyAt(int channel, int width) {
      long stride = heads.channels();
      return new HeadRows((sequence * tokens + first) * stride + channel, stride, count, width, 1);
    }

    HeadRows queryRows() {
      return keyAt(keyHead * keyWidth, keyWidth);
    }

    HeadRows keyRows() {
      return keyAt((heads.keyHeads() + keyHead) * keyWidth, keyWidth);
    }

    HeadRows valueRows(int valueHead) {
      return keyAt(2 * heads.keyHeads() * keyWidth + valueHead * valueWidth, valueWidth);
    }

    HeadRows resultRows(int valueHead) {
      long stride = (long) heads.valueHeads() * valueWidth;
      return new HeadRows(
          (sequence * tokens + first) * stride + (long) valueHead * valueWidth,
          stride,
          count,
          valueWidth,
          1);
    }

    /// Where a token's decay and rate stand.
    long at(int token, int valueHead) {
      return (sequence * tokens + first + token) * heads.valueHeads() + valueHead;
    }

    /// Brings a value head's decays and rates in, and makes the matrices of them.
    void takeHead(int valueHead) {
      double sum = 0;
      for (int i = 0; i < rows; i++) {
        if (i < count) {
          float decay = g.getAtIndex(FLOAT, at(i, valueHead));
          if (decay > 0) {
            throw new IllegalArgumentException(
                "a decay is the logarithm of a factor of at most 1, not " + decay);
          }
          sum += Math.max(decay, FORGETS_EVERYTHING);
        }
        this.decay[i] = sum;
        rate[i] = i < count ? beta.getAtIndex(FLOAT, at(i, valueHead)) : 0;
        rateFactors.setAtIndex(FLOAT, i, rate[i]);
        float factor = factor(sum);
        fromStart.setAtIndex(FLOAT, i, -factor);
        fromStart.setAtIndex(FLOAT, rows + i, factor);
      }
      for (int i = 0; i < rows; i++) {
        toEnd.setAtIndex(FLOAT, i, factor(sum - decay[i]));
      }
      throughout.setAtIndex(FLOAT, 0, factor(sum));
      copy(keysQueries.memory(), decayed.memory(), 2L * rows * keyWidth);
      Kernels.FASTEST.scaleRows(decayed.memory(), fromStart, 2 * rows, keyWidth);
      Kernels.FASTEST.deltaScores(
          scores.memory(), decay, rate, system.memory(), weights.memory(), rows);
    }

    /// Brings a value head's values in, as float32 rows.
    void takeValues(int valueHead) {
      Kernels.FASTEST.gatherRows(channels, valueRows(valueHead), storedValues);
      Kernels.FASTEST.copy(storedValues, values, 0, (long) count * valueWidth);
    }

    /// The values' rows, which are what the state is to lack, become what is written into it.
    void solve() {
      Kernels.FASTEST.scaleRows(values.memory(), rateFactors, rows, valueWidth);
      Kernels.FASTEST.solveUnitTriangle(system.memory(), values.memory(), false, rows, valueWidth);
    }

    /// @param before the state at the chunk's start
    /// @param after takes the state at its end; may be `before`
    void forward(int valueHead, MemorySegment before, MemorySegment after, Floats y) {
      takeValues(valueHead);
      clear(values.memory(), (long) count * valueWidth, 2L * rows * valueWidth);
      MatrixProduct.multiply(
          both(decayed, keyWidth), state(before), both(values, valueWidth), true);
      solve();
      MatrixProduct.multiply(
          upper(weights, rows), upper(values, valueWidth), lower(values, valueWidth), true);
      Kernels.FASTEST.scatterRows(
          values.from((long) rows * valueWidth).memory(), null, y, resultRows(valueHead));
      if (before.address() != after.address()) {
        after.copyFrom(before);
      }
      Kernels.FASTEST.scaleRows(after, throughout, 1, Math.toIntExact(stateSize));
      Kernels.FASTEST.scaleRows(values.memory(), toEnd, rows, valueWidth);
      MatrixProduct.multiply(keys().transposed(), upper(values, valueWidth), state(after), true);
    }
  }

  /// What the backward pass of a chunk needs besides.
  private final class ChunkBackward {
    private final Chunk chunk;

    /// ∂L/∂S of each value head that shares the key head: at the chunk's end, then at its start.
    final Floats dStates = float32("dStates", group * stateSize);

    /// ∂L/∂`[k; q]`.
    private final Floats dKeysQueries = float32("dKeys and dQueries", 2L * CHUNK * keyWidth);

    private final Floats dStored = Scratch.numbers("dStored keys", 2L * CHUNK * keyWidth, bfloat16);
    private final Floats dScores = float32("dScores of keys", 2L * CHUNK * CHUNK);
    private final Floats products = float32("dSystem and dWeights", 2L * CHUNK * CHUNK);

    /// ∂L/∂ of the values' rows, and of the results.
    private final Floats dValues = float32("dValues and results", 2L * CHUNK * valueWidth);

    /// What the state lacked, v − Sᵀk.
    private final Floats lacked = float32("lacked", (long) CHUNK * valueWidth);

    /// `e^(c[n − 1] − c) k`.
    private final Floats late = float32("late keys", (long) CHUNK * keyWidth);

    /// ∂L/∂`[−e^c k; e^c q]`, and of late keys.
    private final Floats dDecayed = float32("dDecayed keys", 2L * CHUNK * keyWidth);

    private final MemorySegment dots = float32("dots", 2L * CHUNK).memory();
    private final MemorySegment unused = float32("dNorm", keyWidth).memory();
    private final double[] dDecay = new double[CHUNK];
    private final double[] dRate = new double[CHUNK];

    ChunkBackward(Chunk chunk) {
      this.chunk = chunk;
    }

    void begin() {
      clear(dKeysQueries.memory(), 0, 2L * chunk.rows * keyWidth);
      clear(dScores.memory(), 0, 2L * chunk.rows * chunk.rows);
    }

    /// Inverts [Chunk#forward].
    ///
    /// @param before the state at the chunk's start
    void head(int valueHead, int number, MemorySegment before, Gradients gradients) {
      int rows = chunk.rows;
      int last = chunk.count - 1;
      var values = chunk.upper(chunk.values, valueWidth);
      var dState = slice(dStates.memory(), number);
      Arrays.fill(dDecay, 0);
      Arrays.fill(dRate, 0);

      // What was written into the state, once more.
      chunk.takeValues(valueHead);
      clear(chunk.values.memory(), (long) chunk.count * valueWidth, (long) rows * valueWidth);
      MatrixProduct.multiply(chunk.upper(chunk.decayed, keyWidth), state(before), values, true);
      copy(chunk.values.memory(), lacked.memory(), (long) rows * valueWidth);
      chunk.solve();

      // results = [e^c q] before + weights · values; after = e^c[n−1] before + lateᵀ · values
      takeUpstream(valueHead, gradients.dOut);
      var dUpper = chunk.upper(dValues, valueWidth);
      MatrixProduct.multiply(
          chunk.upper(chunk.weights, rows).transposed(),
          chunk.lower(dValues, valueWidth),
          dUpper,
          false);
      copy(chunk.keysQueries.memory(), late.memory(), (long) rows * keyWidth);
      Kernels.FASTEST.scaleRows(late.memory(), chunk.toEnd, rows, keyWidth);
      MatrixProduct.multiply(chunk.upper(late, keyWidth), state(dState), dUpper, true);

      // values = system⁻¹ (rate · lacked)
      Kernels.FASTEST.solveUnitTriangle(
          chunk.system.memory(), dValues.memory(), true, rows, valueWidth);
      MatrixProduct.multiply(
          chunk.both(dValues, valueWidth), values.transposed(), chunk.both(products, rows), false);
      Kernels.FASTEST.deltaScoresBackward(
          chunk.scores.memory(),
          products.memory(),
          chunk.decay,
          chunk.rate,
          dScores.memory(),
          dDecay,
          dRate,
          rows);
      Kernels.FASTEST.dotRows(dValues, lacked, dots, rows, valueWidth);
      for (int i = 0; i < rows; i++) {
        dRate[i] += dots.getAtIndex(FLOAT, i);
      }
      Kernels.FASTEST.scaleRows(dValues.memory(), chunk.rateFactors, rows, valueWidth);
      Kernels.FASTEST.scatterRows(
          dValues.memory(), null, gradients.dMixed, chunk.valueRows(valueHead));

      // after = … + lateᵀ · values
      MatrixProduct.multiply(
          values, state(dState).transposed(), chunk.upper(dDecayed, keyWidth), false);
      addToKeys(chunk.toEnd, rows);
      for (int i = 0; i < last; i++) {
        double through = dots.getAtIndex(FLOAT, i);
        dDecay[i] -= through;
        dDecay[last] += through;
      }

      // [lacked; results] = [v; 0] + [−e^c k; e^c q] before + …
      MatrixProduct.multiply(
          chunk.both(dValues, valueWidth),
          state(before).transposed(),
          chunk.both(dDecayed, keyWidth),
          false);
      addToKeys(chunk.fromStart, 2 * rows);
      for (int i = 0; i < rows; i++) {
        dDecay[i] += dots.getAtIndex(FLOAT, i);
        dDecay[i] += dots.getAtIndex(FLOAT, rows + i);
      }

      // after = e^c[n−1] before + …
      int size = Math.toIntExact(stateSize);
      Kernels.FASTEST.scaleRows(dState, chunk.throughout, 1, size);
      Kernels.FASTEST.dotRows(Floats.float32(dState), Floats.float32(before), dots, 1, size);
      dDecay[last] += dots.getAtIndex(FLOAT, 0);
      MatrixProduct.multiply(
          chunk.both(chunk.decayed, keyWidth).transposed(),
          chunk.both(dValues, valueWidth),
          state(dState),
          true);

      // c is the sum of the decays up to a token
      double sum = 0;
      for (int i = rows - 1; i >= 0; i--) {
        sum += dDecay[i];
        if (i <= last) {
          long at = chunk.at(i, valueHead);
          gradients.dDecays.setAtIndex(FLOAT, at, (float) sum);
          gradients.dRates.setAtIndex(FLOAT, at, (float) dRate[i]);
        }
      }
    }

    /// Adds to the gradient of the rows that were scaled by these factors, and notes the gradient
    /// of the factors' logarithms.
    private void addToKeys(MemorySegment factors, int rows) {
      Kernels.FASTEST.addScaledRows(
          dDecayed.memory(),
          factors,
          chunk.keysQueries.memory(),
          dKeysQueries.memory(),
          dots,
          rows,
          keyWidth);
    }

    private void takeUpstream(int valueHead, @Nullable Floats dOut) {
      long lower = (long) chunk.rows * valueWidth;
      clear(dValues.memory(), lower, 2 * lower);
      if (dOut != null) {
        Kernels.FASTEST.gatherRows(dOut, chunk.resultRows(valueHead), chunk.storedValues);
        Kernels.FASTEST.copy(
            chunk.storedValues, dValues.from(lower), 0, (long) chunk.count * valueWidth);
      }
    }

    /// scores = [k; q] kᵀ, and the norms.
    void finish(Floats dMixed) {
      int rows = chunk.rows;
      var all = chunk.both(dKeysQueries, keyWidth);
      var scores = chunk.both(dScores, rows);
      MatrixProduct.multiply(scores, chunk.keys(), all, true);
      MatrixProduct.multiply(
          scores.transposed(), chunk.both(chunk.keysQueries, keyWidth), all.rows(0, rows), true);
      normBackward(chunk.keyNorm, 0);
      normBackward(chunk.queryNorm, rows);
      Kernels.FASTEST.spreadRows(dStored, dMixed, chunk.keyRows());
      Kernels.FASTEST.spreadRows(chunk.storedQueries(dStored), dMixed, chunk.queryRows());
    }

    private void normBackward(Floats weight, int from) {
      Kernels.FASTEST.rmsNormBackward(
          dKeysQueries,
          chunk.stored,
          weight,
          EPSILON / keyWidth,
          null,
          dStored,
          null,
          unused,
          keyWidth,
          from,
          from + chunk.rows);
    }
  }

  // ---------------------------------------------------------------- few tokens

  /// The definition of steps: the rule, with states that are left.
  ///
  /// @param operations whose rule it is
  static Tensor composedSteps(
      Operations operations,
      Tensor mixedBTC,
      Tensor decaysBTN,
      Tensor ratesBTN,
      List<Tensor> states,
      @Nullable List<Tensor> beforeLast,
      DeltaHeads heads) {
    var before = states.size() == 1 ? states.getFirst() : Tensor.concatenate(states, 0);
    var result = operations.deltaRule(mixedBTC, decaysBTN, ratesBTN, before, heads);
    try (var _ = Scope.withoutGradient()) {
      if (beforeLast != null) {
        long rest = mixedBTC.size(1) - 1;
        leave(
            beforeLast,
            rest == 0
                ? before
                : operations
                    .deltaRule(
                        mixedBTC.narrow(1, 0, rest),
                        decaysBTN.narrow(1, 0, rest),
                        ratesBTN.narrow(1, 0, rest),
                        before,
                        heads)
                    .state());
      }
      leave(states, result.state());
    }
    return result.yBTNV();
  }

  private static void leave(List<Tensor> states, Tensor batch) {
    for (int row = 0; row < states.size(); row++) {
      states.get(row).copyFrom(row(batch, row));
    }
  }

  /// Tokens after others, of each row, one after the other; without gradients.
  ///
  /// @param states of each row, `[1, N, K, V]`, changed in place
  /// @param beforeLast take what they are before the last token, or null
  static Tensor steps(
      Tensor mixedBTC,
      Tensor decaysBTN,
      Tensor ratesBTN,
      List<Tensor> states,
      @Nullable List<Tensor> beforeLast,
      DeltaHeads heads) {
    if (states.size() == 1) {
      return steps(
          mixedBTC,
          decaysBTN,
          ratesBTN,
          states.getFirst(),
          beforeLast == null ? null : beforeLast.getFirst(),
          heads);
    }
    var results = new ArrayList<Tensor>();
    for (int row = 0; row < states.size(); row++) {
      results.add(
          steps(
              row(mixedBTC, row),
              row(decaysBTN, row),
              row(ratesBTN, row),
              states.get(row),
              beforeLast == null ? null : beforeLast.get(row),
              heads));
    }
    return Tensor.concatenate(results, 0);
  }

  private static Tensor row(Tensor batch, int row) {
    return batch.size(0) == 1 ? batch : batch.narrow(0, row, 1);
  }

  /// Tokens after others, of each sequence, one after the other; without gradients. A head's state
  /// is changed in place, and from its second token on it is in the core's cache.
  ///
  /// @param decaysBTN g ≤ 0, float32; a positive one is refused
  /// @param ratesBTN β, float32
  /// @param state `[B, N, K, V]`, float32, contiguous and on the CPU
  /// @param beforeLast takes the state before the last token; like it, or null
  /// @return y `[B, T, N, V]` of the element type of the channels
  static Tensor steps(
      Tensor mixedBTC,
      Tensor decaysBTN,
      Tensor ratesBTN,
      Tensor state,
      @Nullable Tensor beforeLast,
      DeltaHeads heads) {
    expect(mixedBTC, decaysBTN, ratesBTN, state, heads);
    expectFloat32(decaysBTN, ratesBTN, state);
    if (FusedOp.recording(List.of(mixedBTC, decaysBTN, ratesBTN, state), List.of())) {
      throw new IllegalArgumentException("steps have no gradients");
    }
    var rule = new DeltaRule(mixedBTC, decaysBTN, ratesBTN, null, heads);
    var y =
        Tensor.uninitialized(
            mixedBTC,
            mixedBTC.type(),
            rule.batch,
            rule.tokens,
            heads.valueHeads(),
            heads.valueWidth());
    rule.steps(state.memory(), beforeLast == null ? null : beforeLast.memory(), y.numbers());
    return y;
  }

  private void steps(MemorySegment states, @Nullable MemorySegment beforeLast, Floats y) {
    Threads.split(
        batch * heads.valueHeads(),
        Math.max(1, GRAIN / (tokens * stateSize)),
        (from, to) -> {
          var chunk = new Chunk();
          for (long head = from; head < to; head++) {
            var state = slice(states, head);
            for (long token = 0; token < tokens; token++) {
              if (beforeLast != null && token == tokens - 1) {
                slice(beforeLast, head).copyFrom(state);
              }
              step(head, token, chunk, state, y);
            }
          }
        });
  }

  /// @param head counted through all sequences
  private void step(long head, long token, Chunk chunk, MemorySegment state, Floats y) {
    int valueHead = (int) (head % heads.valueHeads());
    chunk.takeToken(head / heads.valueHeads(), heads.keyHead(valueHead), token);
    long at = chunk.at(0, valueHead);
    float decay = g.getAtIndex(FLOAT, at);
    if (decay > 0) {
      throw new IllegalArgumentException(
          "a decay is the logarithm of a factor of at most 1, not " + decay);
    }
    Kernels.FASTEST.deltaStep(
        chunk.keysQueries.memory(),
        chunk.keysQueries.from(keyWidth).memory(),
        channels.from(chunk.valueRows(valueHead).start()),
        factor(decay),
        beta.getAtIndex(FLOAT, at),
        state,
        y.from(at * valueWidth),
        keyWidth,
        valueWidth);
  }
}
