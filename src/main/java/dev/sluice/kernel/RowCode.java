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

import dev.sluice.kernel.Assembler.Comparison;
import dev.sluice.kernel.Assembler.Shift;
import dev.sluice.kernel.Assembler.Store;
import dev.sluice.kernel.Assembler.Vector;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/// Writes the machine code of norms, rotation and gates, with the operations of [VectorNorm],
/// [VectorKernels] and [Lanes] in their order, so that every bit is theirs where a vector of the
/// Vector API has 64 bytes.
///
/// All functions take the same arguments, of which each uses some: five addresses, then `rows`,
/// `vectors`, `pairBytes`, `rest`, `width` and `epsilon`. They read and write float32.
final class RowCode {
  private static final int VECTOR = 64;

  // What is behind the return address.
  private static final int VECTORS = 8;
  private static final int PAIR_BYTES = 16;
  private static final int REST = 24;
  private static final int WIDTH = 32;
  private static final int EPSILON = 40;

  private static final int SWAP_HALVES = 0x4E;
  private static final int SWAP_NEIGHBOURS = 0xB1;

  /// The quarters of a vector but the first, each in all four places.
  private static final int[] QUARTERS = {0x55, 0xAA, 0xFF};

  // Masks.
  private static final int IN_RANGE = 1;
  private static final int POSITIVE = 2;
  private static final int TAIL = 3;

  // Vector registers.
  private static final int X = 0;
  private static final int Y = 1;
  private static final int FIRST = 2;
  private static final int SECOND = 3;
  private static final int COSINE = 4;
  private static final int SINE = 5;
  private static final int SQUARES = 6;
  private static final int FACTOR = 7;
  private static final int EXPONENT = 8;
  private static final int SMALL = 9;
  private static final int SCORE = 10;
  private static final int ZERO = 15;
  private static final int CONSTANTS = 16;

  /// Those of [Lanes#exp], the polynomial's highest power first.
  private static final float[] NUMBERS = {
    -87.33654f,
    12_582_912f,
    1.442695f,
    -0x1.63p-1f,
    2.1219444e-4f,
    1.9875691e-4f,
    1.3981999e-3f,
    8.333452e-3f,
    4.1665796e-2f,
    0.16666666f,
    0.5f,
    1f,
    -0f
  };

  private static final int LOWEST = CONSTANTS;
  private static final int ROUNDER = CONSTANTS + 1;
  private static final int LOG2_E = CONSTANTS + 2;
  private static final int LN2_HIGH = CONSTANTS + 3;
  private static final int LN2_LOW = CONSTANTS + 4;
  private static final int POLYNOMIAL = CONSTANTS + 5;
  private static final int ONE = CONSTANTS + 11;
  private static final int SIGN = CONSTANTS + 12;
  private static final int DOUBLE_ONE = CONSTANTS + 13;

  private final Assembler code = new Assembler();

  private RowCode() {}

  // ---------------------------------------------------------------- norms

  /// [Kernels#rmsNorm] of `(x, added, weight, sum, out)`: `rows` of `vectors` each.
  ///
  /// @param plus whether something is added; if not, neither `added` nor `sum` is touched
  static byte[] norm(boolean plus) {
    var its = new RowCode();
    its.writeNorm(plus);
    return its.code.assemble(0);
  }

  private void writeNorm(boolean plus) {
    loadDoubleOne();
    int nextRow = code.here();
    code.mov(R10, plus ? RCX : RDI); // where the sum stands, once it is made
    code.mov(R11, RDX);
    code.zero(SQUARES);
    code.mov(RAX, RSP, VECTORS);
    int nextTerm = code.here();
    code.load(Vector.VMOVUPS, X, RDI, 0);
    if (plus) {
      code.load(Vector.VADDPS, X, X, RSI, 0);
      code.store(Store.VMOVUPS, RCX, 0, X);
      code.increase(RSI, VECTOR);
      code.increase(RCX, VECTOR);
    }
    code.op(Vector.VFMADD231PS, SQUARES, X, X);
    code.increase(RDI, VECTOR);
    countDown(RAX, nextTerm);
    inverseRoot(0);
    code.mov(RAX, RSP, VECTORS);
    int next = code.here();
    code.load(Vector.VMULPS, X, FACTOR, R10, 0);
    code.load(Vector.VMULPS, X, X, R11, 0);
    code.store(Store.VMOVUPS, R8, 0, X);
    code.increase(R10, VECTOR);
    code.increase(R11, VECTOR);
    code.increase(R8, VECTOR);
    countDown(RAX, next);
    countDown(R9, nextRow);
    end();
  }

  private void loadDoubleOne() {
    code.pointToConstants(R10);
    var one = ByteBuffer.allocate(VECTOR).order(ByteOrder.LITTLE_ENDIAN).putDouble(1);
    code.load(Vector.VMOVUPS, DOUBLE_ONE, R10, code.constant(one.array()));
  }

  /// All of [#FACTOR] ← `(mean of the squares + ε)^(−1/2)`, computed in float64 from the sum of
  /// [Lanes#sum].
  ///
  /// @param pushed bytes on the stack
  private void inverseRoot(int pushed) {
    for (int swap : new int[] {SWAP_NEIGHBOURS, SWAP_HALVES}) {
      code.op(Vector.VPERMILPS, X, 0, SQUARES, swap);
      code.op(Vector.VADDPS, SQUARES, SQUARES, X);
    }
    code.op(Vector.VMOVUPS, FACTOR, SQUARES);
    for (int quarter : QUARTERS) {
      code.op(Vector.VSHUFI64X2, X, SQUARES, SQUARES, quarter);
      code.op(Vector.VADDPS, FACTOR, FACTOR, X);
    }
    code.op(Vector.VCVTSS2SD, FACTOR, FACTOR, FACTOR);
    code.load(Vector.VDIVSD, FACTOR, FACTOR, RSP, pushed + WIDTH);
    code.load(Vector.VADDSD, FACTOR, FACTOR, RSP, pushed + EPSILON);
    code.op(Vector.VSQRTSD, FACTOR, FACTOR, FACTOR);
    code.op(Vector.VDIVSD, FACTOR, DOUBLE_ONE, FACTOR);
    code.op(Vector.VCVTSD2SS, FACTOR, FACTOR, FACTOR);
    code.op(Vector.VBROADCASTSS, FACTOR, FACTOR);
  }

  /// [Kernels#normRotate] of `(x, weight, cosines, sines, out)`: `rows` tokens of `vectors` heads,
  /// at positions that follow one another. `pairBytes` are half of what turns in a head, `rest` are
  /// the vectors that do not.
  ///
  /// @param normed whether there is a weight
  static byte[] normRotate(boolean normed) {
    var its = new RowCode();
    its.writeNormRotate(normed);
    return its.code.assemble(0);
  }

  private void writeNormRotate(boolean normed) {
    int[] kept = {RBX, RBP, R12, R13, R14, R15};
    int pushed = kept.length * Long.BYTES;
    for (int register : kept) {
      code.push(register);
    }
    loadDoubleOne();
    code.mov(RBP, RSP, pushed + PAIR_BYTES);
    int nextToken = code.here();
    code.mov(RBX, RSP, pushed + VECTORS);
    int nextHead = code.here();
    if (normed) {
      addSquares(pushed);
      inverseRoot(pushed);
    }
    code.mov(R12, RSI);
    code.test(RBP);
    int noPairs = code.jumpIfZero();
    turn(normed);
    code.arrive(noPairs);
    code.mov(RAX, RSP, pushed + REST);
    code.test(RAX);
    int noRest = code.jumpIfZero();
    int next = code.here();
    scaled(X, RDI, R12, normed);
    code.store(Store.VMOVUPS, R8, 0, X);
    code.increase(RDI, VECTOR);
    code.increase(R12, VECTOR);
    code.increase(R8, VECTOR);
    countDown(RAX, next);
    code.arrive(noRest);
    countDown(RBX, nextHead);
    code.add(RDX, RBP);
    code.add(RCX, RBP);
    countDown(R9, nextToken);
    for (int i = kept.length - 1; i >= 0; i--) {
      code.pop(kept[i]);
    }
    end();
  }

  private void addSquares(int pushed) {
    code.zero(SQUARES);
    code.mov(R10, RDI);
    for (int half = 0; half < 2; half++) {
      code.mov(RAX, RBP);
      addSquaresOf(VECTOR);
    }
    code.mov(RAX, RSP, pushed + REST);
    addSquaresOf(1);
  }

  /// Of as many vectors as RAX says.
  ///
  /// @param each what one counts
  private void addSquaresOf(int each) {
    code.test(RAX);
    int none = code.jumpIfZero();
    int next = code.here();
    code.load(Vector.VMOVUPS, X, R10, 0);
    code.op(Vector.VFMADD231PS, SQUARES, X, X);
    code.increase(R10, VECTOR);
    code.increase(RAX, -each);
    code.jumpBackIfNotZero(next);
    code.arrive(none);
  }

  /// Turns what turns of a head, and moves to what does not.
  private void turn(boolean normed) {
    code.mov(R10, RDI);
    code.add(R10, RBP);
    code.mov(R11, R8);
    code.add(R11, RBP);
    code.mov(R13, R12);
    code.add(R13, RBP);
    code.mov(R14, RDX);
    code.mov(R15, RCX);
    code.mov(RAX, RBP);
    int next = code.here();
    scaled(X, RDI, R12, normed);
    scaled(Y, R10, R13, normed);
    code.load(Vector.VMOVUPS, COSINE, R14, 0);
    code.load(Vector.VMOVUPS, SINE, R15, 0);
    code.op(Vector.VMULPS, FIRST, X, COSINE);
    code.op(Vector.VMULPS, SECOND, Y, SINE);
    code.op(Vector.VSUBPS, FIRST, FIRST, SECOND);
    code.store(Store.VMOVUPS, R8, 0, FIRST);
    code.op(Vector.VMULPS, FIRST, Y, COSINE);
    code.op(Vector.VMULPS, SECOND, X, SINE);
    code.op(Vector.VADDPS, FIRST, FIRST, SECOND);
    code.store(Store.VMOVUPS, R11, 0, FIRST);
    for (int address : new int[] {RDI, R8, R10, R11, R12, R13, R14, R15}) {
      code.increase(address, VECTOR);
    }
    code.increase(RAX, -VECTOR);
    code.jumpBackIfNotZero(next);
    code.mov(RDI, R10);
    code.mov(R8, R11);
    code.mov(R12, R13);
  }

  private void scaled(int to, int from, int weight, boolean normed) {
    if (normed) {
      code.load(Vector.VMULPS, to, FACTOR, from, 0);
      code.load(Vector.VMULPS, to, to, weight, 0);
    } else {
      code.load(Vector.VMOVUPS, to, from, 0);
    }
  }

  // ---------------------------------------------------------------- gates

  /// [Kernels#swiGlu] of `(gate, up, _, _, out)`: so many `vectors`, and then those numbers that
  /// are ones in `rest`.
  static byte[] swiGlu() {
    var its = new RowCode();
    its.writeElements(true);
    return its.code.assemble(0);
  }

  /// [Kernels#sigmoidGate] of `(y, z, _, _, out)` with a score for each number, taken as [#swiGlu]
  /// takes them.
  static byte[] gate() {
    var its = new RowCode();
    its.writeElements(false);
    return its.code.assemble(0);
  }

  private void writeElements(boolean swiGlu) {
    loadNumbers();
    code.mov(RAX, RSP, VECTORS);
    code.test(RAX);
    int noVectors = code.jumpIfZero();
    int next = code.here();
    code.load(Vector.VMOVUPS, X, RDI, 0);
    code.load(Vector.VMOVUPS, Y, RSI, 0);
    gate(swiGlu);
    code.store(Store.VMOVUPS, R8, 0, X);
    code.increase(RDI, VECTOR);
    code.increase(RSI, VECTOR);
    code.increase(R8, VECTOR);
    countDown(RAX, next);
    code.arrive(noVectors);
    code.mov(RAX, RSP, REST);
    code.test(RAX);
    int noTail = code.jumpIfZero();
    code.mask(TAIL, RAX);
    code.loadMasked(Vector.VMOVUPS, TAIL, X, RDI, 0);
    code.loadMasked(Vector.VMOVUPS, TAIL, Y, RSI, 0);
    gate(swiGlu);
    code.storeMasked(Store.VMOVUPS, TAIL, R8, 0, X);
    code.arrive(noTail);
    end();
  }

  /// x ← x σ(x) y, or x σ(y).
  private void gate(boolean swiGlu) {
    sigmoid(swiGlu ? X : Y);
    code.op(Vector.VMULPS, X, X, SCORE);
    if (swiGlu) {
      code.op(Vector.VMULPS, X, X, Y);
    }
  }

  /// [Kernels#sigmoidGate] of `(y, z, _, _, out)`: `rows` of `vectors`, each with one score.
  static byte[] gateRows() {
    var its = new RowCode();
    its.writeGateRows();
    return its.code.assemble(0);
  }

  private void writeGateRows() {
    loadNumbers();
    int nextRow = code.here();
    code.load(Vector.VBROADCASTSS, Y, RSI, 0);
    code.increase(RSI, Float.BYTES);
    sigmoid(Y);
    code.mov(RAX, RSP, VECTORS);
    int next = code.here();
    code.load(Vector.VMULPS, X, SCORE, RDI, 0);
    code.store(Store.VMOVUPS, R8, 0, X);
    code.increase(RDI, VECTOR);
    code.increase(R8, VECTOR);
    countDown(RAX, next);
    countDown(R9, nextRow);
    end();
  }

  private void loadNumbers() {
    code.pointToConstants(R10);
    for (int i = 0; i < NUMBERS.length; i++) {
      var bytes = ByteBuffer.allocate(VECTOR).order(ByteOrder.LITTLE_ENDIAN);
      while (bytes.hasRemaining()) {
        bytes.putFloat(NUMBERS[i]);
      }
      code.load(Vector.VMOVUPS, CONSTANTS + i, R10, code.constant(bytes.array()));
    }
    code.zero(ZERO);
  }

  /// [#SCORE] ← σ(z), as [Lanes#sigmoid].
  private void sigmoid(int z) {
    int divisor = EXPONENT;
    code.op(Vector.VPORD, SMALL, z, SIGN); // −|z|
    exponential();
    code.op(Vector.VADDPS, divisor, SMALL, ONE);
    code.op(Vector.VDIVPS, divisor, ONE, divisor);
    code.compare(Comparison.AT_LEAST, POSITIVE, z, ZERO);
    code.blend(POSITIVE, SCORE, SMALL, ONE);
    code.op(Vector.VMULPS, SCORE, SCORE, divisor);
  }

  /// [#SMALL] ← its power of e, as [Lanes#exp].
  private void exponential() {
    int r = SMALL;
    int shifted = EXPONENT;
    int n = FIRST;
    int tail = FIRST;
    int square = SECOND;
    code.compare(Comparison.NOT_LESS, IN_RANGE, SMALL, LOWEST);
    code.op(Vector.VMOVUPS, shifted, ROUNDER);
    code.op(Vector.VFMADD231PS, shifted, SMALL, LOG2_E);
    code.op(Vector.VSUBPS, n, shifted, ROUNDER);
    code.op(Vector.VFMADD231PS, r, n, LN2_HIGH);
    code.op(Vector.VFMADD231PS, r, n, LN2_LOW);
    code.op(Vector.VMOVUPS, tail, POLYNOMIAL);
    for (int power = 1; power < 6; power++) {
      code.op(Vector.VFMADD213PS, tail, r, POLYNOMIAL + power);
    }
    code.shift(Shift.VPSLLD, shifted, shifted, 23);
    code.op(Vector.VPADDD, shifted, shifted, ONE); // the exponent of a one grows by n
    code.op(Vector.VMULPS, square, r, r);
    code.op(Vector.VFMADD213PS, tail, square, r);
    code.op(Vector.VADDPS, tail, tail, ONE);
    code.masked(Vector.VMULPS, IN_RANGE, SMALL, tail, shifted);
  }

  private void countDown(int register, int place) {
    code.increase(register, -1);
    code.jumpBackIfNotZero(place);
  }

  private void end() {
    code.vzeroupper();
    code.ret();
  }
}
