package dev.sluice.kernel;

import static dev.sluice.kernel.Assembler.R10;
import static dev.sluice.kernel.Assembler.R11;
import static dev.sluice.kernel.Assembler.R12;
import static dev.sluice.kernel.Assembler.R13;
import static dev.sluice.kernel.Assembler.R14;
import static dev.sluice.kernel.Assembler.R15;
import static dev.sluice.kernel.Assembler.R8;
import static dev.sluice.kernel.Assembler.R9;
import static dev.sluice.kernel.Assembler.RAX;
import static dev.sluice.kernel.Assembler.RBP;
import static dev.sluice.kernel.Assembler.RBX;
import static dev.sluice.kernel.Assembler.RCX;
import static dev.sluice.kernel.Assembler.RDI;
import static dev.sluice.kernel.Assembler.RDX;
import static dev.sluice.kernel.Assembler.RSI;
import static dev.sluice.kernel.Assembler.RSP;

import dev.sluice.kernel.Assembler.Shift;
import dev.sluice.kernel.Assembler.Store;
import dev.sluice.kernel.Assembler.Vector;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/// Writes the machine code of the attention of queries that share keys and values, over a run of
/// them.
///
/// Sixteen keys and their values are worked on at a time, by two queries after the other two, while
/// they are in the core's first cache: what is read for one of two queries, and widened, is there
/// for the other. The products of each key are added up in a register of its own, and these
/// registers are then summed together, which takes a quarter of the operations of a sum for each.
/// The last keys, fewer than sixteen, are summed one by one, by the same additions in the same
/// order. So a query's bits are the same, whichever other it goes with.
final class AttentionCode {
  /// Keys at a time: as many as a vector has numbers.
  static final int KEYS = 16;

  private static final int VECTOR = 64;

  /// How far ahead of their use keys and values are asked for, in blocks.
  private static final int AHEAD = 2;

  /// Vectors of a value that are summed at a time.
  private static final int SUMS = 8;

  private static final int SWAP_HALVES = 0x4E;
  private static final int SWAP_NEIGHBOURS = 0xB1;
  private static final int EVEN_LANES = 0x88;
  private static final int ODD_LANES = 0xDD;
  private static final int TO_NEAREST = 8;
  private static final int BITS_BELOW = 16;

  // Vector registers. The first sixteen are for scores, or for sums of values. Of two queries each
  // has one of the next two, and of those for scores, before its last eight keys are there.
  private static final int QUERY = 16;
  private static final int FACTOR = QUERY;
  private static final int FIRST = 18;
  private static final int WEIGHT = FIRST;
  private static final int SECOND = 19;
  private static final int SCALE = 20;

  /// Sixteen numbers of a key or a value.
  private static final int KEPT = 21;

  private static final int HALF = 22;
  private static final int CONSTANTS = 24;

  /// e^x = 2ⁿ · e^r with n = round(x · log₂ e) and r = x − n · ln 2, of which the parts are exact;
  /// e^r is the polynomial of [Lanes#exp], the highest power first. What is below the least
  /// exponent gives zero.
  private static final float[] NUMBERS = {
    -120, 1.9875691e-4f, 1.3981999e-3f, 8.333452e-3f, 4.1665796e-2f, 0.16666666f, 0.5f, 1
  };

  private static final float LOG2_E = 1.442695f;
  private static final float LN2_HIGH = -0x1.63p-1f;
  private static final float LN2_LOW = 2.1219444e-4f;
  private static final int LEAST = CONSTANTS;
  private static final int POLYNOMIAL = CONSTANTS + 1;
  private static final int ONE = CONSTANTS + 7;

  // What is behind the return address.
  private static final int PAIRS = 8;
  private static final int SINGLES = 16;

  private final Assembler code = new Assembler();
  private final int vectors;
  private final boolean bfloat16;
  private final int rowBytes;
  private final int stateBytes;

  /// Bytes of sixteen numbers of a key or a value, and of all of them.
  private final int keptVector;

  private final int keptRow;

  private AttentionCode(int vectors, boolean bfloat16) {
    this.vectors = vectors;
    this.bfloat16 = bfloat16;
    this.rowBytes = VECTOR * vectors;
    this.stateBytes = rowBytes + 2 * VECTOR;
    this.keptVector = bfloat16 ? VECTOR / 2 : VECTOR;
    this.keptRow = keptVector * vectors;
  }

  /// A function `(queries, keys, values, blocks, rest, states, pairs, singles, scale)`, which takes
  /// `16 · blocks + rest` keys and values up into the state of each of `2 · pairs + singles`
  /// queries: the sum of the weighted values, then a vector with the largest score in each number,
  /// then one whose numbers add up to the sum of the weights `e^(score − largest)`.
  ///
  /// @param vectors of 16 numbers of a query, a key and a value
  /// @param bfloat16 whether keys and values are; all else is float32
  static byte[] of(int vectors, boolean bfloat16) {
    return new AttentionCode(vectors, bfloat16).function();
  }

  private byte[] function() {
    int[] kept = {RBX, RBP, R12, R13, R14, R15};
    for (int register : kept) {
      code.push(register);
    }
    int pushed = kept.length * Long.BYTES;
    code.mov(RBX, RDI);
    code.mov(RBP, R9);
    code.mov(R13, RSP, pushed + PAIRS);
    code.mov(R15, RSP, pushed + SINGLES);
    code.op(Vector.VBROADCASTSS, SCALE, 0);
    code.pointToConstants(R10);
    for (int i = 0; i < NUMBERS.length; i++) {
      code.load(Vector.VMOVUPS, CONSTANTS + i, R10, constant(NUMBERS[i]));
    }
    code.increase(RSP, -2 * VECTOR);
    code.test(RCX);
    int noBlocks = code.jumpIfZero();
    code.lea(R11, RSP, 0);
    int nextBlock = code.here();
    block();
    code.mov(RDI, RBX);
    code.mov(R9, RBP);
    code.increase(RSI, KEYS * keptRow);
    code.increase(RDX, KEYS * keptRow);
    code.increase(RCX, -1);
    code.jumpBackIfNotZero(nextBlock);
    code.arrive(noBlocks);
    code.test(R8);
    int noRest = code.jumpIfZero();
    code.add(R15, R13);
    code.add(R15, R13);
    code.mov(R12, RSI);
    int nextQuery = code.here();
    code.mov(RSI, R12);
    scoresOfRest();
    weigh(0);
    sumValues(1, 1, false);
    next(1);
    code.increase(R15, -1);
    code.jumpBackIfNotZero(nextQuery);
    code.arrive(noRest);
    code.increase(RSP, 2 * VECTOR);
    for (int i = kept.length - 1; i >= 0; i--) {
      code.pop(kept[i]);
    }
    code.vzeroupper();
    code.ret();
    return code.assemble(0);
  }

  /// Sixteen keys and values, for all queries; the first ones bring what follows into the cache.
  private void block() {
    code.test(R13);
    int noPairs = code.jumpIfZero();
    block(2, true);
    code.mov(R14, R13);
    code.increase(R14, -1);
    int noOthers = code.jumpIfZero();
    int nextPair = code.here();
    block(2, false);
    code.increase(R14, -1);
    code.jumpBackIfNotZero(nextPair);
    code.arrive(noOthers);
    code.arrive(noPairs);
    code.test(R15);
    int noSingle = code.jumpIfZero();
    block(1, true);
    code.arrive(noSingle);
  }

  /// The same for one query, or two.
  private void block(int queries, boolean ahead) {
    scoresOfBlock(queries, ahead);
    for (int query = 0; query < queries; query++) {
      weigh(query);
    }
    sumValues(KEYS, queries, ahead);
    next(queries);
  }

  private void next(int queries) {
    code.increase(RDI, queries * rowBytes);
    code.increase(R9, queries * stateBytes);
  }

  private int constant(float value) {
    var bytes = ByteBuffer.allocate(VECTOR).order(ByteOrder.LITTLE_ENDIAN);
    for (int i = 0; i < KEYS; i++) {
      bytes.putFloat(value);
    }
    return code.constant(bytes.array());
  }

  /// The register of a query's scores.
  private static int scores(int query) {
    return KEYS / 2 * query;
  }

  /// [#scores] ← those of sixteen keys, without the scale.
  private void scoresOfBlock(int queries, boolean ahead) {
    int keys = KEYS / queries;
    for (int from = 0; from < KEYS; from += keys) {
      for (int sum = 0; sum < KEYS; sum++) {
        code.zero(sum);
      }
      for (int vector = 0; vector < vectors; vector++) {
        for (int query = 0; query < queries; query++) {
          code.load(Vector.VMOVUPS, QUERY + query, RDI, query * rowBytes + VECTOR * vector);
        }
        for (int key = 0; key < keys; key++) {
          int at = (from + key) * keptRow + keptVector * vector;
          addProducts(key, keys, QUERY, queries, RSI, at);
          // In the order of memory, and not in that of the use.
          prefetch(ahead, RSI, from * keptRow + keptVector * (vector * keys + key));
        }
      }
      for (int query = 0; query < queries; query++) {
        sum(query * keys, keys);
        if (queries > 1 && from == 0) {
          code.op(Vector.VMOVUPS, HALF + query, query * keys);
        } else if (queries > 1) {
          addLanes(query * keys, HALF + query, query * keys);
        }
      }
    }
  }

  /// Adds sixteen numbers of a key or a value, times the factor of each query.
  ///
  /// @param sum the register of the first query's sum, from which the next one is `distance` away
  private void addProducts(int sum, int distance, int factor, int queries, int base, int at) {
    if (queries == 1 && !bfloat16) {
      code.load(Vector.VFMADD231PS, sum, factor, base, at);
      return;
    }
    if (bfloat16) {
      code.load(Vector.VPMOVZXWD, KEPT, base, at);
      code.shift(Shift.VPSLLD, KEPT, KEPT, BITS_BELOW);
    } else {
      code.load(Vector.VMOVUPS, KEPT, base, at);
    }
    for (int query = 0; query < queries; query++) {
      code.op(Vector.VFMADD231PS, sum + query * distance, factor + query, KEPT);
    }
  }

  /// Asks for what is as far ahead, once for each 64 bytes.
  private void prefetch(boolean ahead, int base, int at) {
    if (ahead && at % VECTOR == 0) {
      code.prefetchT0(base, at + AHEAD * KEYS * keptRow);
    }
  }

  /// The first of some registers ← the sum of each of them: of sixteen a number each, of eight in
  /// the halves of quarters that [#addLanes] puts together.
  private void sum(int first, int count) {
    for (int pair = 0; pair < count / 2; pair++) {
      addPair(Vector.VUNPCKLPS, Vector.VUNPCKHPS, first, pair);
    }
    for (int pair = 0; pair < count / 4; pair++) {
      addPair(Vector.VUNPCKLPD, Vector.VUNPCKHPD, first, pair);
    }
    for (int pairs = count / 8; pairs > 0; pairs /= 2) {
      for (int pair = 0; pair < pairs; pair++) {
        addLanes(first + pair, first + 2 * pair, first + 2 * pair + 1);
      }
    }
  }

  /// Register `first + pair` ← the sums of neighbours in the registers `2 · pair` and `2 · pair +
  /// 1` after the first.
  private void addPair(Vector lower, Vector upper, int first, int pair) {
    int one = first + 2 * pair;
    code.op(lower, FIRST, one, one + 1);
    code.op(upper, SECOND, one, one + 1);
    code.op(Vector.VADDPS, first + pair, FIRST, SECOND);
  }

  private void addLanes(int to, int one, int other) {
    code.op(Vector.VSHUFI64X2, FIRST, one, other, EVEN_LANES);
    code.op(Vector.VSHUFI64X2, SECOND, one, other, ODD_LANES);
    code.op(Vector.VADDPS, to, FIRST, SECOND);
  }

  /// The scores of fewer keys, of one query; those that are not there are −∞.
  private void scoresOfRest() {
    code.load(Vector.VMOVUPS, 0, R10, constant(Float.NEGATIVE_INFINITY));
    code.store(Store.VMOVUPS, RSP, 0, 0);
    code.lea(R11, RSP, 0);
    code.mov(RAX, R8);
    int nextKey = code.here();
    code.zero(0);
    for (int vector = 0; vector < vectors; vector++) {
      code.load(Vector.VMOVUPS, QUERY, RDI, VECTOR * vector);
      addProducts(0, 0, QUERY, 1, RSI, keptVector * vector);
    }
    acrossLanes(Vector.VADDPS, 0);
    code.store(Store.VMOVSS, R11, 0, 0);
    code.increase(R11, Float.BYTES);
    code.increase(RSI, keptRow);
    code.increase(RAX, -1);
    code.jumpBackIfNotZero(nextKey);
    code.load(Vector.VMOVUPS, 0, RSP, 0);
  }

  /// The sum or the maximum of a vector, in all of its numbers.
  private void acrossLanes(Vector op, int vector) {
    for (int swap : new int[] {SWAP_HALVES, SWAP_NEIGHBOURS}) {
      code.op(Vector.VPERMILPS, FIRST, 0, vector, swap);
      code.op(op, vector, vector, FIRST);
    }
    for (int swap : new int[] {SWAP_NEIGHBOURS, SWAP_HALVES}) {
      code.op(Vector.VSHUFI64X2, FIRST, vector, vector, swap);
      code.op(op, vector, vector, FIRST);
    }
  }

  /// Stores the weights of the keys whose scores are there, and brings a query's state to the
  /// largest score so far; [#FACTOR] ← what the sums before have to be multiplied with.
  private void weigh(int query) {
    int state = query * stateBytes + rowBytes;
    int weights = scores(query);
    int largest = weights + 1;
    int total = weights + 2;
    int factor = FACTOR + query;
    code.op(Vector.VMULPS, weights, weights, SCALE);
    code.load(Vector.VMOVUPS, factor, R9, state);
    code.op(Vector.VMAXPS, largest, factor, weights);
    acrossLanes(Vector.VMAXPS, largest);
    code.store(Store.VMOVUPS, R9, state, largest);
    code.op(Vector.VSUBPS, weights, weights, largest);
    code.op(Vector.VSUBPS, factor, factor, largest);
    exponential(weights);
    exponential(factor);
    code.store(Store.VMOVUPS, RSP, query * VECTOR, weights);
    code.load(Vector.VMOVUPS, total, R9, state + VECTOR);
    code.op(Vector.VFMADD213PS, total, factor, weights);
    code.store(Store.VMOVUPS, R9, state + VECTOR, total);
  }

  /// x ← e^x for x ≤ 0.
  private void exponential(int x) {
    int n = FIRST;
    int sum = SECOND;
    code.op(Vector.VMAXPS, x, LEAST, x); // NaN, if x is
    code.load(Vector.VMULPS, n, x, R10, constant(LOG2_E));
    code.op(Vector.VRNDSCALEPS, n, 0, n, TO_NEAREST);
    code.load(Vector.VFMADD231PS, x, n, R10, constant(LN2_HIGH));
    code.load(Vector.VFMADD231PS, x, n, R10, constant(LN2_LOW));
    code.op(Vector.VMULPS, sum, x, POLYNOMIAL);
    code.op(Vector.VADDPS, sum, sum, POLYNOMIAL + 1);
    for (int power = 2; power < 6; power++) {
      code.op(Vector.VFMADD213PS, sum, x, POLYNOMIAL + power);
    }
    code.op(Vector.VMULPS, sum, sum, x);
    code.op(Vector.VFMADD213PS, sum, x, x);
    code.op(Vector.VADDPS, sum, sum, ONE);
    code.op(Vector.VSCALEFPS, x, sum, n);
  }

  /// Adds values, times the weights that are stored, to those before, times [#FACTOR].
  ///
  /// @param keys of a block; 1 to go through those that are left one by one
  /// @param ahead whether those of a later block are asked for
  private void sumValues(int keys, int queries, boolean ahead) {
    for (int first = 0; first < vectors; first += SUMS) {
      int count = Math.min(SUMS, vectors - first);
      for (int query = 0; query < queries; query++) {
        for (int i = 0; i < count; i++) {
          int at = query * stateBytes + VECTOR * (first + i);
          code.load(Vector.VMULPS, SUMS * query + i, FACTOR + query, R9, at);
        }
      }
      int nextKey = 0;
      if (keys == 1) {
        code.lea(R11, RSP, 0);
        code.mov(RAX, R8);
        code.mov(RSI, RDX);
        nextKey = code.here();
      }
      for (int key = 0; key < keys; key++) {
        for (int query = 0; query < queries; query++) {
          int at = VECTOR * query + Float.BYTES * key;
          code.load(Vector.VBROADCASTSS, WEIGHT + query, R11, at);
        }
        for (int i = 0; i < count; i++) {
          int at = key * keptRow + keptVector * (first + i);
          addProducts(i, SUMS, WEIGHT, queries, keys == 1 ? RSI : RDX, at);
          prefetch(ahead, RDX, at);
        }
      }
      if (keys == 1) {
        code.increase(R11, Float.BYTES);
        code.increase(RSI, keptRow);
        code.increase(RAX, -1);
        code.jumpBackIfNotZero(nextKey);
      }
      for (int query = 0; query < queries; query++) {
        for (int i = 0; i < count; i++) {
          int at = query * stateBytes + VECTOR * (first + i);
          code.store(Store.VMOVUPS, R9, at, SUMS * query + i);
        }
      }
    }
  }
}
