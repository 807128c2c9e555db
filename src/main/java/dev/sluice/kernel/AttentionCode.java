package dev.sluice.kernel;

import static dev.sluice.kernel.Assembler.R10;
import static dev.sluice.kernel.Assembler.R11;
import static dev.sluice.kernel.Assembler.R12;
import static dev.sluice.kernel.Assembler.R13;
import static dev.sluice.kernel.Assembler.R14;
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
/// Sixteen keys and their values are worked on at a time, by one query after the other, while they
/// are in the core's first cache. The products of each are added up in a register of its
/// own, and the sixteen registers are then summed together, which takes a quarter of the operations
/// of sixteen sums. The last keys, fewer than sixteen, are summed one by one, by the same additions
/// in the same order.
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

  // Vector registers. The first sixteen are for scores, or for sums of values.
  private static final int QUERY = 16;
  private static final int FIRST = 17;
  private static final int SECOND = 18;
  private static final int SCALE = 19;
  private static final int CONSTANTS = 20;

  /// e^x = 2ⁿ · e^r with n = round(x · log₂ e) and r = x − n · ln 2, of which the parts are exact;
  /// e^r is the polynomial of [Lanes#exp], the highest power first. What is below the least
  /// exponent gives zero.
  private static final float[] NUMBERS = {
    -120,
    1.442695f,
    -0x1.63p-1f,
    2.1219444e-4f,
    1.9875691e-4f,
    1.3981999e-3f,
    8.333452e-3f,
    4.1665796e-2f,
    0.16666666f,
    0.5f,
    1
  };

  private static final int LEAST = CONSTANTS;
  private static final int LOG2_E = CONSTANTS + 1;
  private static final int LN2_HIGH = CONSTANTS + 2;
  private static final int LN2_LOW = CONSTANTS + 3;
  private static final int POLYNOMIAL = CONSTANTS + 4;
  private static final int ONE = CONSTANTS + 10;

  /// Numbers of a key or a value that were bfloat16.
  private static final int WIDENED = CONSTANTS + 11;

  private static final int BITS_BELOW = 16;

  private final Assembler code = new Assembler();
  private final int vectors;
  private final boolean bfloat16;
  private final int rowBytes;

  /// Bytes of sixteen numbers of a key or a value, and of all of them.
  private final int keptVector;

  private final int keptRow;

  private AttentionCode(int vectors, boolean bfloat16) {
    this.vectors = vectors;
    this.bfloat16 = bfloat16;
    this.rowBytes = VECTOR * vectors;
    this.keptVector = bfloat16 ? VECTOR / 2 : VECTOR;
    this.keptRow = keptVector * vectors;
  }

  /// A function `(queries, keys, values, blocks, rest, states, group, scale)`, which takes `16 ·
  /// blocks + rest` keys and values up into the state of each of the group's queries: the sum of the
  /// weighted values, then a vector with the largest score in each number, then one whose numbers
  /// add up to the sum of the weights `e^(score − largest)`.
  ///
  /// @param vectors of 16 numbers of a query, a key and a value
  /// @param bfloat16 whether keys and values are; all else is float32
  static byte[] of(int vectors, boolean bfloat16) {
    return new AttentionCode(vectors, bfloat16).function();
  }

  private byte[] function() {
    int[] kept = {RBX, RBP, R12, R13, R14};
    for (int register : kept) {
      code.push(register);
    }
    code.mov(RBX, RDI);
    code.mov(RBP, R9);
    code.mov(R13, RSP, (kept.length + 1) * Long.BYTES);
    code.op(Vector.VBROADCASTSS, SCALE, 0);
    code.pointToConstants(R10);
    for (int i = 0; i < NUMBERS.length; i++) {
      code.load(Vector.VMOVUPS, CONSTANTS + i, R10, constant(NUMBERS[i]));
    }
    code.increase(RSP, -VECTOR);
    code.test(RCX);
    int noBlocks = code.jumpIfZero();
    code.lea(R11, RSP, 0);
    int nextBlock = code.here();
    block(true);
    code.mov(R14, R13);
    code.increase(R14, -1);
    int noOthers = code.jumpIfZero();
    int nextOther = code.here();
    nextQuery();
    block(false);
    code.increase(R14, -1);
    code.jumpBackIfNotZero(nextOther);
    code.mov(RDI, RBX);
    code.mov(R9, RBP);
    code.arrive(noOthers);
    code.increase(RSI, KEYS * keptRow);
    code.increase(RDX, KEYS * keptRow);
    code.increase(RCX, -1);
    code.jumpBackIfNotZero(nextBlock);
    code.arrive(noBlocks);
    code.test(R8);
    int noRest = code.jumpIfZero();
    code.mov(R12, RSI);
    int nextOfRest = code.here();
    code.mov(RSI, R12);
    scoresOfRest();
    weigh();
    sumValues(1, false);
    nextQuery();
    code.increase(R13, -1);
    code.jumpBackIfNotZero(nextOfRest);
    code.arrive(noRest);
    code.increase(RSP, VECTOR);
    for (int i = kept.length - 1; i >= 0; i--) {
      code.pop(kept[i]);
    }
    code.vzeroupper();
    code.ret();
    return code.assemble(0);
  }

  private void nextQuery() {
    code.increase(RDI, rowBytes);
    code.increase(R9, rowBytes + 2 * VECTOR);
  }

  /// @param first whether it is the first query's, which brings what follows into the cache
  private void block(boolean first) {
    scoresOfBlock(first);
    weigh();
    sumValues(KEYS, first);
  }

  private int constant(float value) {
    var bytes = ByteBuffer.allocate(VECTOR).order(ByteOrder.LITTLE_ENDIAN);
    for (int i = 0; i < KEYS; i++) {
      bytes.putFloat(value);
    }
    return code.constant(bytes.array());
  }

  /// Register 0 ← the scores of sixteen keys, without the scale.
  private void scoresOfBlock(boolean ahead) {
    for (int key = 0; key < KEYS; key++) {
      code.zero(key);
    }
    for (int vector = 0; vector < vectors; vector++) {
      code.load(Vector.VMOVUPS, QUERY, RDI, VECTOR * vector);
      for (int key = 0; key < KEYS; key++) {
        addProduct(key, QUERY, RSI, key * keptRow + keptVector * vector);
        // In the order of memory, and not in that of the use.
        prefetch(ahead, RSI, keptVector * (vector * KEYS + key));
      }
    }
    for (int pair = 0; pair < 8; pair++) {
      addPair(Vector.VUNPCKLPS, Vector.VUNPCKHPS, pair);
    }
    for (int pair = 0; pair < 4; pair++) {
      addPair(Vector.VUNPCKLPD, Vector.VUNPCKHPD, pair);
    }
    for (int pairs = 2; pairs > 0; pairs--) {
      for (int pair = 0; pair < pairs; pair++) {
        code.op(Vector.VSHUFI64X2, FIRST, 2 * pair, 2 * pair + 1, EVEN_LANES);
        code.op(Vector.VSHUFI64X2, SECOND, 2 * pair, 2 * pair + 1, ODD_LANES);
        code.op(Vector.VADDPS, pair, FIRST, SECOND);
      }
    }
  }

  /// Adds sixteen numbers of a key or a value, times a factor.
  private void addProduct(int sum, int factor, int base, int at) {
    if (bfloat16) {
      code.load(Vector.VPMOVZXWD, WIDENED, base, at);
      code.shift(Shift.VPSLLD, WIDENED, WIDENED, BITS_BELOW);
      code.op(Vector.VFMADD231PS, sum, factor, WIDENED);
    } else {
      code.load(Vector.VFMADD231PS, sum, factor, base, at);
    }
  }

  /// Asks for what is as far ahead, once for each 64 bytes.
  private void prefetch(boolean ahead, int base, int at) {
    if (ahead && at % VECTOR == 0) {
      code.prefetchT0(base, at + AHEAD * KEYS * keptRow);
    }
  }

  /// Register `pair` ← the sums of neighbours in the registers `2 · pair` and `2 · pair + 1`.
  private void addPair(Vector lower, Vector upper, int pair) {
    code.op(lower, FIRST, 2 * pair, 2 * pair + 1);
    code.op(upper, SECOND, 2 * pair, 2 * pair + 1);
    code.op(Vector.VADDPS, pair, FIRST, SECOND);
  }

  /// The same of fewer keys; the scores that are not there are −∞.
  private void scoresOfRest() {
    code.load(Vector.VMOVUPS, 0, R10, constant(Float.NEGATIVE_INFINITY));
    code.store(Store.VMOVUPS, RSP, 0, 0);
    code.lea(R11, RSP, 0);
    code.mov(RAX, R8);
    int nextKey = code.here();
    code.zero(0);
    for (int vector = 0; vector < vectors; vector++) {
      code.load(Vector.VMOVUPS, QUERY, RDI, VECTOR * vector);
      addProduct(0, QUERY, RSI, keptVector * vector);
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

  /// Stores the weights of the keys whose scores are in register 0, and brings the state to the
  /// largest score so far; register 3 ← what the sums before have to be multiplied with.
  private void weigh() {
    int state = rowBytes;
    code.op(Vector.VMULPS, 0, 0, SCALE);
    code.load(Vector.VMOVUPS, 3, R9, state);
    code.op(Vector.VMAXPS, 1, 3, 0);
    acrossLanes(Vector.VMAXPS, 1);
    code.store(Store.VMOVUPS, R9, state, 1);
    code.op(Vector.VSUBPS, 0, 0, 1);
    code.op(Vector.VSUBPS, 3, 3, 1);
    exponential(0);
    exponential(3);
    code.store(Store.VMOVUPS, RSP, 0, 0);
    code.load(Vector.VMOVUPS, 2, R9, state + VECTOR);
    code.op(Vector.VFMADD213PS, 2, 3, 0);
    code.store(Store.VMOVUPS, R9, state + VECTOR, 2);
  }

  /// x ← e^x for x ≤ 0.
  private void exponential(int x) {
    int n = FIRST;
    int sum = SECOND;
    code.op(Vector.VMAXPS, x, LEAST, x); // NaN, if x is
    code.op(Vector.VMULPS, n, x, LOG2_E);
    code.op(Vector.VRNDSCALEPS, n, 0, n, TO_NEAREST);
    code.op(Vector.VFMADD231PS, x, n, LN2_HIGH);
    code.op(Vector.VFMADD231PS, x, n, LN2_LOW);
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

  /// Adds values, times the weights that are stored, to those before, times register 3.
  ///
  /// @param keys of a block; 1 to go through those that are left one by one
  /// @param ahead whether those of a later block are asked for
  private void sumValues(int keys, boolean ahead) {
    int factor = QUERY;
    int weight = FIRST;
    code.op(Vector.VMULPS, factor, 3, ONE);
    for (int first = 0; first < vectors; first += SUMS) {
      int count = Math.min(SUMS, vectors - first);
      for (int i = 0; i < count; i++) {
        code.load(Vector.VMULPS, i, factor, R9, VECTOR * (first + i));
      }
      int nextKey = 0;
      if (keys == 1) {
        code.lea(R11, RSP, 0);
        code.mov(RAX, R8);
        code.mov(RSI, RDX);
        nextKey = code.here();
      }
      for (int key = 0; key < keys; key++) {
        code.load(Vector.VBROADCASTSS, weight, R11, Float.BYTES * key);
        for (int i = 0; i < count; i++) {
          int at = key * keptRow + keptVector * (first + i);
          addProduct(i, weight, keys == 1 ? RSI : RDX, at);
          prefetch(ahead, RDX, at);
        }
      }
      if (keys == 1) {
        code.increase(R11, Float.BYTES);
        code.increase(RSI, keptRow);
        code.increase(RAX, -1);
        code.jumpBackIfNotZero(nextKey);
      }
      for (int i = 0; i < count; i++) {
        code.store(Store.VMOVUPS, R9, VECTOR * (first + i), i);
      }
    }
  }
}
