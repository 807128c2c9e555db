package dev.sluice.kernel;

import dev.sluice.kernel.Assembler.Comparison;
import dev.sluice.kernel.Assembler.Shift;
import dev.sluice.kernel.Assembler.Store;
import dev.sluice.kernel.Assembler.Vector;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/// What the machine code of rows has in common: the arithmetic of [Lanes], operation for operation,
/// so that every bit is its where a vector of the Vector API has 64 bytes.
///
/// All functions take the same arguments, of which each uses some: five addresses and a number in
/// registers, and five more numbers behind the return address. They read and write float32.
abstract class LanesCode {
  static final int VECTOR = 64;

  private static final int SWAP_HALVES = 0x4E;
  private static final int SWAP_NEIGHBOURS = 0xB1;

  /// The quarters of a vector but the first, each in all four places.
  private static final int[] QUARTERS = {0x55, 0xAA, 0xFF};

  // Masks.
  private static final int IN_RANGE = 1;
  private static final int POSITIVE = 2;
  static final int TAIL = 3;

  // Vector registers.
  static final int X = 0;
  static final int Y = 1;
  static final int FIRST = 2;
  static final int SECOND = 3;
  private static final int EXPONENT = 8;
  private static final int SMALL = 9;
  static final int SCORE = 10;
  static final int ZERO = 15;
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

  /// The first register that [#loadNumbers] leaves alone.
  static final int FREE = CONSTANTS + NUMBERS.length;

  final Assembler code = new Assembler();

  /// The numbers of [#sigmoid], by way of a register that is free.
  final void loadNumbers(int register) {
    code.pointToConstants(register);
    for (int i = 0; i < NUMBERS.length; i++) {
      var bytes = ByteBuffer.allocate(VECTOR).order(ByteOrder.LITTLE_ENDIAN);
      while (bytes.hasRemaining()) {
        bytes.putFloat(NUMBERS[i]);
      }
      code.load(Vector.VMOVUPS, CONSTANTS + i, register, code.constant(bytes.array()));
    }
    code.zero(ZERO);
  }

  /// The lowest of `to` ← the sum of the lanes, as [Lanes#sum], but for the sign of a zero. Changes
  /// [#X] and what it adds up.
  final void sumLanes(int to, int lanes) {
    for (int swap : new int[] {SWAP_NEIGHBOURS, SWAP_HALVES}) {
      code.op(Vector.VPERMILPS, X, 0, lanes, swap);
      code.op(Vector.VADDPS, lanes, lanes, X);
    }
    code.op(Vector.VMOVUPS, to, lanes);
    for (int quarter : QUARTERS) {
      code.op(Vector.VSHUFI64X2, X, lanes, lanes, quarter);
      code.op(Vector.VADDPS, to, to, X);
    }
  }

  /// [#SCORE] ← σ(z), as [Lanes#sigmoid].
  final void sigmoid(int z) {
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

  /// A vector, or what is ones in the mask [#TAIL] of it.
  final void load(boolean tail, int to, int address) {
    if (tail) {
      code.loadMasked(Vector.VMOVUPS, TAIL, to, address, 0);
    } else {
      code.load(Vector.VMOVUPS, to, address, 0);
    }
  }

  /// A vector, or what is ones in the mask [#TAIL] of it.
  final void store(boolean tail, int address, int from) {
    if (tail) {
      code.storeMasked(Store.VMOVUPS, TAIL, address, 0, from);
    } else {
      code.store(Store.VMOVUPS, address, 0, from);
    }
  }

  final void countDown(int register, int place) {
    code.increase(register, -1);
    code.jumpBackIfNotZero(place);
  }

  /// Keeps what the caller has in registers.
  ///
  /// @return bytes on the stack
  final int push(int... registers) {
    for (int register : registers) {
      code.push(register);
    }
    return registers.length * Long.BYTES;
  }

  /// Gives back what [#push] kept.
  final void pop(int... registers) {
    for (int i = registers.length - 1; i >= 0; i--) {
      code.pop(registers[i]);
    }
  }

  final void end() {
    code.vzeroupper();
    code.ret();
  }
}
