package dev.sluice.kernel;

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

/// Writes the machine code of a product of packed weights, see [PackedStrips], with one to eight
/// inputs. Each number of a vector belongs to a row of its own, so that no sum goes across a
/// vector, a vector of scales is 16 rows' at once, and inputs are broadcast by the load ports: a
/// third of the operations of [ProductCode] for a weight. For several inputs the load ports are
/// then what bounds it, and two strips share the loads of inputs.
///
/// Whatever the number of inputs, an element of the result is computed by the same operations in
/// the same order, so it has the same bits.
final class PackedCode extends StripCode {
  /// Digits of inputs whose products are made in turn: a product of bytes waits four cycles for the
  /// one before of the same sum, while two others may begin in each cycle. With two strips that is
  /// eight sums, so that a processor need not look far ahead for them.
  private static final int DIGITS_SIDE_BY_SIDE = 4;

  private final int sideBySide; // inputs whose products are made in turn

  /// Vector registers of a sum of integers of each digit, of inputs side by side. With one strip,
  /// the sum of input i is register i; with two, sums are on the stack.
  private final int parts;

  private PackedCode(WeightFormat format, int digits, int inputs, int strips, int sideBySide) {
    int weights = strips == 1 ? inputs : 0;
    int parts = weights + 8 * strips;
    super(format, digits, inputs, strips, weights, parts + digits * strips * sideBySide);
    this.sideBySide = sideBySide;
    this.parts = parts;
  }

  /// A function `(weights, arranged, y, strips, bytes, yStride)`.
  ///
  /// `arranged` are inputs in the layout of the format in strips; `strips` is not zero, and a
  /// multiple of how many are multiplied at once; `bytes` are those of a strip; `yStride` is in
  /// bytes.
  ///
  /// @param digits of an input
  /// @param strips at once, one or two
  static byte[] product(WeightFormat format, int digits, int inputs, int strips) {
    int sideBySide = Math.min(inputs, DIGITS_SIDE_BY_SIDE / digits);
    var code = new PackedCode(format, digits, inputs, strips, sideBySide);
    return strips == 1 ? code.oneStrip() : code.twoStrips();
  }

  private byte[] oneStrip() {
    loadConstants();
    stripByStrip();
    code.vzeroupper();
    code.ret();
    return code.assemble(0);
  }

  /// Two strips side by side: an input that has been loaded is multiplied with both, as loads are
  /// what bounds one strip. Inputs are taken by a few, in a loop, or the code would be larger than
  /// the cache of instructions.
  private byte[] twoStrips() {
    int[] kept = {RBX, RBP, R12, R13, R14, R15};
    for (int register : kept) {
      code.push(register);
    }
    code.mov(RBP, RSP);
    code.alignDown(RSP, LINE);
    code.increase(RSP, -ofBlock(0, 2));
    loadConstants();
    int nextStrips = code.here();
    code.mov(RAX, RSI);
    code.mov(R11, R8);
    code.mov(RBX, RDI);
    code.add(RBX, R8);
    code.mov(R12, RDI);
    code.zero(spare);
    for (int i = 0; i < 2 * inputs; i++) {
      code.store(Store.VMOVUPS, RSP, i * LINE, spare);
    }
    int nextGroup = code.here();
    group();
    code.increase(RDI, groupBytes);
    code.increase(RBX, groupBytes);
    code.increase(R12, 2 * groupBytes);
    code.increase(RAX, inputs * layout.bytes());
    code.increase(R11, -groupBytes);
    code.jumpBackIfNotZero(nextGroup);

    code.mov(RDI, RBX);
    code.mov(RAX, RDX);
    for (int input = 0; input < inputs; input++) {
      for (int strip = 0; strip < 2; strip++) {
        code.load(Vector.VMOVUPS, spare, RSP, (2 * input + strip) * LINE);
        code.store(Store.VMOVUPS, RAX, strip * LINE, spare);
      }
      code.add(RAX, R9);
    }
    code.increase(RDX, 2 * LINE);
    code.increase(RCX, -2);
    code.jumpBackIfNotZero(nextStrips);
    code.mov(RSP, RBP);
    for (int i = kept.length - 1; i >= 0; i--) {
      code.pop(kept[i]);
    }
    code.vzeroupper();
    code.ret();
    return code.assemble(0);
  }

  @Override
  void part(int step, int lane, int first, int fours) {
    int begin = step * layout.stepBytes();
    if (strips == 1) {
      for (int input = 0; input < inputs; input += sideBySide) {
        int count = Math.min(sideBySide, inputs - input);
        sums(RAX, begin + input * layout.bytes(), lane, count, first, fours, input);
      }
      return;
    }
    code.lea(R13, RAX, begin);
    code.lea(R14, RSP, 0);
    if (inputs >= 2 * sideBySide) {
      code.set(R15, inputs / sideBySide);
    }
    int next = code.here();
    sums(R13, 0, lane, sideBySide, first, fours, 0);
    if (inputs > sideBySide) {
      code.increase(R13, sideBySide * layout.bytes());
      code.increase(R14, sideBySide * 2 * LINE);
    }
    if (inputs >= 2 * sideBySide) {
      code.increase(R15, -1);
      code.jumpBackIfNotZero(next);
    }
    int rest = inputs % sideBySide;
    if (inputs > sideBySide && rest > 0) {
      sums(R13, 0, lane, rest, first, fours, 0);
    }
  }

  /// The same of a few inputs.
  ///
  /// @param base register that points to the inputs
  /// @param begin of the first's part
  /// @param firstSum register of the first's sum, where sums are in registers
  private void sums(int base, int begin, int lane, int count, int first, int fours, int firstSum) {
    boolean minimum = layout.zero() == InputLayout.MINIMUM;
    for (int input = 0; input < count; input++) {
      int sums = begin + input * layout.bytes() + layout.sums(lane);
      for (int strip = 0; strip < strips; strip++) {
        int last = layout.digits() - 1;
        for (int digit = 0; digit < last || (minimum && digit == last); digit++) {
          code.zero(integers(input, strip, digit));
        }
        if (!minimum && strip == 0) {
          code.load(Vector.VPBROADCASTD, integers(input, 0, last), base, sums);
        } else if (!minimum) {
          code.op(Vector.VMOVUPS, integers(input, strip, last), integers(input, 0, last));
        }
      }
    }
    for (int i = 0; i < fours; i++) {
      for (int input = 0; input < count; input++) {
        for (int digit = 0; digit < layout.digits(); digit++) {
          int at = begin + input * layout.bytes() + layout.digit(digit, i / 4, lane) + 4 * (i % 4);
          if (strips == 1) {
            code.loadOne(Vector.VPDPBUSD, integers(input, 0, digit), weights + first + i, base, at);
          } else {
            int both = digit == 0 ? spare : other;
            code.load(Vector.VPBROADCASTD, both, base, at);
            for (int strip = 0; strip < strips; strip++) {
              int from = weights(strip) + first + i;
              code.op(Vector.VPDPBUSD, integers(input, strip, digit), from, both);
            }
          }
        }
      }
    }
    for (int input = 0; input < count; input++) {
      int at = begin + input * layout.bytes();
      for (int strip = 0; strip < strips; strip++) {
        int sum = integers(input, strip, 0);
        if (layout.digits() == 2) {
          code.shift(Shift.VPSLLD, sum, sum, 8);
          code.op(Vector.VPADDD, sum, sum, integers(input, strip, 1));
        }
        code.op(Vector.VCVTDQ2PS, sum, sum);
        code.loadOne(Vector.VMULPS, sum, sum, base, at + layout.scales(lane));
        int to = strips == 1 ? firstSum + input : sum;
        int place = (2 * input + strip) * LINE;
        if (strips == 1) {
          code.op(Vector.VFMADD231PS, to, sum, scales);
        } else {
          code.load(Vector.VFMADD213PS, to, scales + strip, R14, place);
        }
        if (minimum) {
          code.loadOne(Vector.VFNMADD231PS, to, minima + strip, base, at + layout.sums(lane));
        }
        if (strips > 1) {
          code.store(Store.VMOVUPS, R14, place, to);
        }
      }
    }
  }

  /// The register of a sum of integers, of those that are made side by side.
  private int integers(int input, int strip, int digit) {
    return parts + (input * strips + strip) * layout.digits() + digit;
  }
}
