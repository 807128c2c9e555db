package dev.sluice.kernel;

import static dev.sluice.kernel.Assembler.R10;
import static dev.sluice.kernel.Assembler.R11;
import static dev.sluice.kernel.Assembler.R8;
import static dev.sluice.kernel.Assembler.R9;
import static dev.sluice.kernel.Assembler.RAX;
import static dev.sluice.kernel.Assembler.RCX;
import static dev.sluice.kernel.Assembler.RDI;
import static dev.sluice.kernel.Assembler.RDX;
import static dev.sluice.kernel.Assembler.RSI;

import dev.sluice.kernel.Assembler.Shift;
import dev.sluice.kernel.Assembler.Store;
import dev.sluice.kernel.Assembler.Vector;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/// Writes the machine code of a product of packed weights, see [PackedStrips], with one to eight
/// inputs. Each number of a vector belongs to a row of its own, so that no sum goes across a
/// vector, a vector of scales is 16 rows' at once, and inputs are broadcast by the load ports: a
/// third of the operations of [ProductCode] for a weight.
///
/// Whatever the number of inputs, an element of the result is computed by the same operations in
/// the same order, so it has the same bits.
final class PackedCode {
  /// How far ahead of their use weights are asked for, into the innermost cache, and a first time,
  /// into the second.
  private static final int AHEAD = 2048;

  private static final int FAR = 31 << 10;

  private static final int LINE = 64;

  private static final int A_OR_B_AND_C = 0xF8;

  /// Of `Q4_K`: where the scales and minima of a block are, and where its numbers begin, by fours.
  private static final int SCALES = 0;

  private static final int MINIMA = 1;
  private static final int LOWER_BITS = 2;
  private static final int NIBBLES = 3;

  /// Of `Q6_K`: where the upper two bits of its numbers begin, and its scales.
  private static final int UPPER_BITS = 32;

  private static final int BYTE_SCALES = 48;

  private final Assembler code = new Assembler();
  private final WeightFormat format;
  private final InputLayout layout;
  private final PackedStrips.Blocks blocks;
  private final int inputs;
  private int asked; // bytes of a group

  // Vector registers. The sum of input i is register i; eight of weights follow.
  private final int weights;
  private final int scales;
  private final int minima;
  private final int high;
  private final int low;
  private final int spare;
  private final int blockScales;
  private final int blockMinima;

  // Those that hold an integer sixteen times.
  private final int nibbles;
  private final int four;
  private final int six;
  private final int upper;

  private PackedCode(WeightFormat format, int inputs) {
    this.format = format;
    this.layout = InputLayout.of(format, StoredMatrix.Order.STRIPS);
    this.blocks = PackedStrips.Blocks.required(format);
    this.inputs = inputs;
    weights = inputs;
    scales = weights + 8;
    minima = scales + 1;
    high = scales + 2;
    low = scales + 3;
    spare = scales + 4;
    blockScales = scales + 5;
    blockMinima = scales + 6;
    nibbles = scales + 7;
    four = scales + 8;
    six = scales + 9;
    upper = scales + 10;
  }

  /// A function `(weights, arranged, y, strips, groups, yStride)`.
  ///
  /// `arranged` are inputs in the layout of the format in strips; `strips` is not zero; `yStride`
  /// is in bytes.
  static byte[] product(WeightFormat format, int inputs) {
    return new PackedCode(format, inputs).product();
  }

  private byte[] product() {
    code.pointToConstants(R10);
    constant(nibbles, 0x0F0F_0F0F);
    constant(four, 15);
    constant(six, 63);
    constant(upper, format == WeightFormat.Q6_K ? 0x3030_3030 : 0x30);
    int nextStrip = code.here();
    code.mov(RAX, RSI);
    code.mov(R11, R8);
    for (int i = 0; i < inputs; i++) {
      code.zero(i);
    }
    int nextGroup = code.here();
    asked = 0;
    switch (format) {
      case Q4_K -> q4kGroup();
      case Q6_K -> q6kGroup();
      default -> {
        for (int block = 0; block < 4; block++) {
          block(block);
        }
      }
    }
    code.increase(RDI, PackedStrips.ROWS * Math.toIntExact(format.bytes(layout.columns())));
    code.increase(RAX, inputs * layout.bytes());
    code.increase(R11, -1);
    code.jumpBackIfNotZero(nextGroup);

    code.mov(RAX, RDX);
    for (int input = 0; input < inputs; input++) {
      code.store(Store.VMOVUPS, RAX, 0, input);
      code.add(RAX, R9);
    }
    code.increase(RDX, Float.BYTES * PackedStrips.ROWS);
    code.increase(RCX, -1);
    code.jumpBackIfNotZero(nextStrip);
    code.vzeroupper();
    code.ret();
    return code.assemble(0);
  }

  /// A block of 32 columns of `Q8_0` or `Q4_0`.
  private void block(int block) {
    int p = block * PackedStrips.ROWS * format.blockBytes();
    ask(p + PackedStrips.ROWS * format.blockBytes());
    for (int i = 0; i < (format == WeightFormat.Q8_0 ? 8 : 4); i++) {
      if (format == WeightFormat.Q8_0) {
        code.load(Vector.VMOVUPS, weights + i, RDI, p + blocks.four(i));
      } else {
        lowerNibbles(weights + i, p + blocks.four(i));
        upperNibbles(weights + 4 + i, p + blocks.four(i));
      }
    }
    code.load(Vector.VCVTPH2PS, scales, RDI, p);
    part(0, block, weights, 8);
  }

  /// A block of 256 columns: eight parts of 32.
  private void q4kGroup() {
    code.load(Vector.VCVTPH2PS, blockScales, RDI, 0);
    code.load(Vector.VCVTPH2PS, blockMinima, RDI, Short.BYTES * PackedStrips.ROWS);
    for (int part = 0; part < 8; part++) {
      int pair = part / 2;
      ask(blocks.four(NIBBLES + 8 * (pair + 1)));
      sixBits(scales, SCALES, 0, part);
      sixBits(minima, MINIMA, 4, part);
      code.op(Vector.VMULPS, scales, scales, blockScales);
      code.op(Vector.VMULPS, minima, minima, blockMinima);
      for (int i = 0; i < 8; i++) {
        int at = blocks.four(NIBBLES + 8 * pair + i);
        if (part % 2 == 0) {
          lowerNibbles(weights + i, at);
        } else {
          upperNibbles(weights + i, at);
        }
      }
      part(part % 2, pair, weights, 8);
    }
  }

  /// The scales or minima of a part, whose six bits stand together for the first four parts and
  /// apart for the others.
  ///
  /// @param first which four bytes have those of the first four parts, and the upper bits of others
  /// @param lower at which bit of [#LOWER_BITS] the lower four of others begin
  private void sixBits(int to, int first, int lower, int part) {
    int at = 8 * (part % 4);
    if (part < 4) {
      code.load(Vector.VMOVUPS, to, RDI, blocks.four(first));
      right(to, at);
      code.op(Vector.VPANDD, to, to, six);
    } else {
      code.load(Vector.VMOVUPS, to, RDI, blocks.four(LOWER_BITS));
      right(to, at + lower);
      code.op(Vector.VPANDD, to, to, four);
      code.load(Vector.VMOVUPS, spare, RDI, blocks.four(first));
      right(spare, at + 2); // bits 6 and 7 of the byte become 4 and 5
      code.op(Vector.VPTERNLOGD, to, spare, upper, A_OR_B_AND_C);
    }
    code.op(Vector.VCVTDQ2PS, to, to);
  }

  /// A block of 256 columns: sixteen parts of 16.
  private void q6kGroup() {
    code.load(Vector.VCVTPH2PS, blockScales, RDI, 0);
    for (int quarter = 0; quarter < 8; quarter++) { // of 32 columns
      int half = quarter / 4;
      int shift = 2 * (quarter % 4);
      ask(PackedStrips.ROWS * format.blockBytes() * (quarter + 1) / 8);
      for (int i = 0; i < 8; i++) {
        int at = blocks.four(16 * half + 8 * (quarter % 2) + i);
        if (quarter % 4 < 2) {
          lowerNibbles(weights + i, at);
        } else {
          upperNibbles(weights + i, at);
        }
        code.load(Vector.VMOVUPS, spare, RDI, blocks.four(UPPER_BITS + 8 * half + i));
        if (shift < 4) { // two bits become the fifth and the sixth
          code.shift(Shift.VPSLLD, spare, spare, 4 - shift);
        } else {
          right(spare, shift - 4);
        }
        code.op(Vector.VPTERNLOGD, weights + i, spare, upper, A_OR_B_AND_C);
      }
      for (int i = 0; i < 2; i++) {
        int part = 2 * quarter + i;
        int left = 24 - 8 * (part % 4);
        code.load(Vector.VMOVUPS, scales, RDI, blocks.four(BYTE_SCALES + part / 4));
        if (left > 0) {
          code.shift(Shift.VPSLLD, scales, scales, left);
        }
        code.shift(Shift.VPSRAD, scales, scales, 24);
        code.op(Vector.VCVTDQ2PS, scales, scales);
        code.op(Vector.VMULPS, scales, scales, blockScales);
        part(part / 4, part % 4, weights + 4 * i, 4);
      }
    }
  }

  private void lowerNibbles(int to, int at) {
    code.load(Vector.VPANDD, to, nibbles, RDI, at);
  }

  private void upperNibbles(int to, int at) {
    code.load(Vector.VMOVUPS, to, RDI, at);
    code.shift(Shift.VPSRLD, to, to, 4);
    code.op(Vector.VPANDD, to, to, nibbles);
  }

  private void right(int numbers, int bits) {
    if (bits > 0) {
      code.shift(Shift.VPSRLD, numbers, numbers, bits);
    }
  }

  /// A part of the columns, of which all have one scale, of each input: its digits are multiplied
  /// with the weights, and the sums become float32, times the scales of input and weights.
  ///
  /// @param step of the inputs' layout
  /// @param lane likewise
  /// @param first register of weights
  /// @param fours columns, by fours
  private void part(int step, int lane, int first, int fours) {
    boolean minimum = layout.zero() == InputLayout.MINIMUM;
    for (int input = 0; input < inputs; input++) {
      int at = input * layout.bytes() + step * layout.stepBytes() + 16 * lane;
      code.zero(high);
      if (minimum) {
        code.zero(low);
      } else {
        code.load(Vector.VPBROADCASTD, low, RAX, at + layout.sums());
      }
      for (int i = 0; i < fours; i++) {
        int column = 4 * (i % 4);
        int from = first + i;
        code.loadOne(Vector.VPDPBUSD, high, from, RAX, at + layout.digits(0, i / 4) + column);
        code.loadOne(Vector.VPDPBUSD, low, from, RAX, at + layout.digits(1, i / 4) + column);
      }
      code.shift(Shift.VPSLLD, high, high, 8);
      code.op(Vector.VPADDD, high, high, low);
      code.op(Vector.VCVTDQ2PS, high, high);
      code.loadOne(Vector.VMULPS, high, high, RAX, at + layout.scales());
      code.op(Vector.VFMADD231PS, input, high, scales);
      if (minimum) {
        code.loadOne(Vector.VFNMADD231PS, input, minima, RAX, at + layout.sums());
      }
    }
  }

  /// Asks for the weights of a group up to here, once each.
  private void ask(int end) {
    for (; asked < end; asked += LINE) {
      code.prefetchT0(RDI, asked + AHEAD);
      code.prefetchT2(RDI, asked + FAR);
    }
  }

  /// Loads the same integer sixteen times.
  private void constant(int to, int value) {
    var bytes = ByteBuffer.allocate(64).order(ByteOrder.LITTLE_ENDIAN);
    while (bytes.hasRemaining()) {
      bytes.putInt(value);
    }
    code.load(Vector.VMOVUPS, to, R10, code.constant(bytes.array()));
  }
}
