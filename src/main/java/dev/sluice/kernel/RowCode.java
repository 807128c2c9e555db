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

import dev.sluice.kernel.Assembler.Store;
import dev.sluice.kernel.Assembler.Vector;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/// Writes the machine code of norms, rotation and gates, with the operations of [VectorNorm],
/// [VectorKernels] and [Lanes] in their order, so that every bit is theirs where a vector of the
/// Vector API has 64 bytes.
///
/// The numbers that its functions take are `rows`, `vectors`, `pairBytes`, `rest`, `width` and
/// `epsilon`.
final class RowCode extends LanesCode {
  // What is behind the return address.
  private static final int VECTORS = 8;
  private static final int PAIR_BYTES = 16;
  private static final int REST = 24;
  private static final int WIDTH = 32;
  private static final int EPSILON = 40;

  private static final int COSINE = 4;
  private static final int SINE = 5;
  private static final int SQUARES = 6;
  private static final int FACTOR = 7;
  private static final int DOUBLE_ONE = FREE;

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
    sumLanes(FACTOR, SQUARES);
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
    int pushed = push(kept);
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
    pop(kept);
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
    loadNumbers(R10);
    elements(tail -> gateVector(swiGlu, tail));
  }

  /// What a vector of numbers, or a part of one, becomes.
  private interface OfVector {
    void write(boolean tail);
  }

  private void elements(OfVector its) {
    code.mov(RAX, RSP, VECTORS);
    code.test(RAX);
    int noVectors = code.jumpIfZero();
    int next = code.here();
    its.write(false);
    code.increase(RDI, VECTOR);
    code.increase(RSI, VECTOR);
    code.increase(R8, VECTOR);
    countDown(RAX, next);
    code.arrive(noVectors);
    code.mov(RAX, RSP, REST);
    code.test(RAX);
    int noTail = code.jumpIfZero();
    code.mask(TAIL, RAX);
    its.write(true);
    code.arrive(noTail);
    end();
  }

  private void gateVector(boolean swiGlu, boolean tail) {
    load(tail, X, RDI);
    load(tail, Y, RSI);
    gate(swiGlu);
    store(tail, R8, X);
  }

  /// x ← x σ(x) y, or x σ(y).
  private void gate(boolean swiGlu) {
    sigmoid(swiGlu ? X : Y);
    code.op(Vector.VMULPS, X, X, SCORE);
    if (swiGlu) {
      code.op(Vector.VMULPS, X, X, Y);
    }
  }

  /// [Kernels#weightedSum] of `(x, y, _, _, out)`, taken as [#swiGlu] takes them; the bits of the
  /// weights stand for `width` and `epsilon`.
  static byte[] weightedSum() {
    var its = new RowCode();
    its.writeWeightedSum();
    return its.code.assemble(0);
  }

  private void writeWeightedSum() {
    code.load(Vector.VBROADCASTSS, FIRST, RSP, WIDTH);
    code.load(Vector.VBROADCASTSS, SECOND, RSP, EPSILON);
    elements(this::weightedVector);
  }

  private void weightedVector(boolean tail) {
    load(tail, X, RDI);
    load(tail, Y, RSI);
    code.op(Vector.VMULPS, X, X, FIRST);
    code.op(Vector.VMULPS, Y, Y, SECOND);
    code.op(Vector.VADDPS, X, X, Y);
    store(tail, R8, X);
  }

  /// [Kernels#sigmoidGate] of `(y, z, _, _, out)`: `rows` of `vectors`, each with one score.
  static byte[] gateRows() {
    var its = new RowCode();
    its.writeGateRows();
    return its.code.assemble(0);
  }

  private void writeGateRows() {
    loadNumbers(R10);
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
}
