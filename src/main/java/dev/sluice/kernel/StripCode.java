package dev.sluice.kernel;

import static dev.sluice.kernel.Assembler.R10;
import static dev.sluice.kernel.Assembler.R11;
import static dev.sluice.kernel.Assembler.R12;
import static dev.sluice.kernel.Assembler.R8;
import static dev.sluice.kernel.Assembler.R9;
import static dev.sluice.kernel.Assembler.RAX;
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

/// Writes the machine code that decodes packed weights, see [PackedStrips]: eight vectors of four
/// columns of sixteen rows, then the scales of these rows, for one part of the columns after the
/// other. What is done with a part is [#part].
abstract class StripCode {
  /// How far ahead of their use weights are asked for, into the innermost cache, and a first time,
  /// into the second.
  private static final int AHEAD = 2048;

  private static final int FAR = 31 << 10;

  static final int LINE = 64;

  private static final int A_OR_B_AND_C = 0xF8;

  /// Of `Q4_K`: where the scales and minima of a block are, and where its numbers begin, by fours.
  private static final int SCALES = 0;

  private static final int MINIMA = 1;
  private static final int LOWER_BITS = 2;
  private static final int NIBBLES = 3;

  /// Of `Q6_K`: where the upper two bits of its numbers begin, and its scales.
  private static final int UPPER_BITS = 32;

  private static final int BYTE_SCALES = 48;

  final Assembler code = new Assembler();
  final WeightFormat format;
  final InputLayout layout;
  final PackedStrips.Blocks blocks;
  final int inputs;
  final int strips; // at once
  final int groupBytes; // of a strip
  private int asked; // bytes of a group

  // Vector registers.
  final int weights; // eight of each strip
  final int scales; // of each strip
  final int minima;
  final int spare;
  final int other;
  private final int nibbles;
  private final int upper;
  private final int ofBlock; // scales and minima of a block, of one strip

  /// @param digits of an input
  /// @param strips at once, one or two
  /// @param weights the first of the registers that they are decoded into
  /// @param scales the first of those that their scales come into, and all others from it on
  StripCode(WeightFormat format, int digits, int inputs, int strips, int weights, int scales) {
    this.format = format;
    this.layout = InputLayout.of(format, StoredMatrix.Order.STRIPS, digits);
    this.blocks = PackedStrips.Blocks.required(format);
    this.inputs = inputs;
    this.strips = strips;
    this.groupBytes = PackedStrips.ROWS * Math.toIntExact(format.bytes(layout.columns()));
    this.weights = weights;
    this.scales = scales;
    minima = scales + strips;
    spare = minima + strips;
    other = spare + 1;
    nibbles = spare + 2;
    upper = spare + 3;
    ofBlock = spare + 4;
  }

  /// What is done with a part of the columns, of which all have one scale, once its weights and
  /// scales are in their registers.
  ///
  /// @param step of the inputs' layout
  /// @param lane likewise
  /// @param first of a strip's weights
  /// @param fours columns, by fours
  abstract void part(int step, int lane, int first, int fours);

  final void loadConstants() {
    code.pointToConstants(R10);
    code.load(Vector.VMOVUPS, nibbles, R10, constant(0x0F0F_0F0F));
    int bits = format == WeightFormat.Q6_K ? 0x3030_3030 : 0x30;
    code.load(Vector.VMOVUPS, upper, R10, constant(bits));
  }

  /// The products of all strips, one strip at a time, where the sum of input i is vector register
  /// i: RDI points to the weights, RSI to the inputs and RDX to the results; RCX strips are R8
  /// bytes each, and results of an input R9 bytes behind those of the one before.
  final void stripByStrip() {
    int nextStrip = code.here();
    code.mov(RAX, RSI);
    code.mov(R11, R8);
    for (int i = 0; i < inputs; i++) {
      code.zero(i);
    }
    int nextGroup = code.here();
    group();
    code.increase(RDI, groupBytes);
    code.increase(RAX, inputs * layout.bytes());
    code.increase(R11, -groupBytes);
    code.jumpBackIfNotZero(nextGroup);

    code.mov(RAX, RDX);
    for (int input = 0; input < inputs; input++) {
      code.store(Store.VMOVUPS, RAX, 0, input);
      code.add(RAX, R9);
    }
    code.increase(RDX, LINE);
    code.increase(RCX, -1);
    code.jumpBackIfNotZero(nextStrip);
  }

  /// A group of columns, from where the weights' register points to.
  void group() {
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
  }

  /// The register that points to the weights of a strip.
  private static int at(int strip) {
    return strip == 0 ? RDI : RBX;
  }

  /// Eight vectors of weights of a strip.
  final int weights(int strip) {
    return weights + 8 * strip;
  }

  /// A block of 32 columns of `Q8_0` or `Q4_0`.
  private void block(int block) {
    int p = block * PackedStrips.ROWS * format.blockBytes();
    ask(p + PackedStrips.ROWS * format.blockBytes());
    for (int strip = 0; strip < strips; strip++) {
      int to = weights(strip);
      if (format == WeightFormat.Q8_0) {
        bytes(to, strip, p + blocks.four(0));
      } else {
        for (int i = 0; i < 4; i++) {
          lowerNibbles(to + i, strip, p + blocks.four(i));
          upperNibbles(to + 4 + i, strip, p + blocks.four(i));
        }
      }
      code.load(Vector.VCVTPH2PS, scales + strip, at(strip), p);
    }
    part(0, block, 0, 8);
  }

  /// Eight vectors of weights that are as they stand.
  void bytes(int to, int strip, int at) {
    for (int i = 0; i < 8; i++) {
      code.load(Vector.VMOVUPS, to + i, at(strip), at + LINE * i);
    }
  }

  /// A block of 256 columns: eight parts of 32.
  private void q4kGroup() {
    blockScales(SCALES);
    blockScales(MINIMA);
    for (int part = 0; part < 8; part++) {
      int pair = part / 2;
      ask(blocks.four(NIBBLES + 8 * (pair + 1)));
      for (int strip = 0; strip < strips; strip++) {
        sixBits(scales + strip, strip, SCALES, 0, part);
        sixBits(minima + strip, strip, MINIMA, 4, part);
        for (int i = 0; i < 8; i++) {
          int at = blocks.four(NIBBLES + 8 * pair + i);
          if (part % 2 == 0) {
            lowerNibbles(weights(strip) + i, strip, at);
          } else {
            upperNibbles(weights(strip) + i, strip, at);
          }
        }
      }
      part(part % 2, pair, 0, 8);
    }
  }

  /// The scales or minima of a part, whose six bits stand together for the first four parts and
  /// apart for the others, times those of the block.
  ///
  /// @param first which four bytes have those of the first four parts, and the upper bits of others
  /// @param lower at which bit of [#LOWER_BITS] the lower four of others begin
  private void sixBits(int to, int strip, int first, int lower, int part) {
    int at = 8 * (part % 4);
    if (part < 4) {
      code.load(Vector.VMOVUPS, to, at(strip), blocks.four(first));
      right(to, at);
      code.load(Vector.VPANDD, to, to, R10, constant(63));
    } else {
      code.load(Vector.VMOVUPS, to, at(strip), blocks.four(LOWER_BITS));
      right(to, at + lower);
      code.load(Vector.VPANDD, to, to, R10, constant(15));
      code.load(Vector.VMOVUPS, spare, at(strip), blocks.four(first));
      right(spare, at + 2); // bits 6 and 7 of the byte become 4 and 5
      code.op(Vector.VPTERNLOGD, to, spare, upper, A_OR_B_AND_C);
    }
    timesBlock(to, strip, first);
  }

  /// Brings the scales of a block, or its minima, to where [#timesBlock] finds them.
  private void blockScales(int kind) {
    for (int strip = 0; strip < strips; strip++) {
      int to = strips == 1 ? ofBlock + kind : spare;
      code.load(Vector.VCVTPH2PS, to, at(strip), kind * Short.BYTES * PackedStrips.ROWS);
      if (strips > 1) {
        code.store(Store.VMOVUPS, RSP, ofBlock(strip, kind), to);
      }
    }
  }

  /// Integers become float32, times the scales of their block, or its minima.
  private void timesBlock(int to, int strip, int kind) {
    code.op(Vector.VCVTDQ2PS, to, to);
    if (strips == 1) {
      code.op(Vector.VMULPS, to, to, ofBlock + kind);
    } else {
      code.load(Vector.VMULPS, to, to, RSP, ofBlock(strip, kind));
    }
  }

  /// Where those of a block are on the stack.
  final int ofBlock(int strip, int kind) {
    return (2 * (inputs + kind) + strip) * LINE;
  }

  /// A block of 256 columns: sixteen parts of 16.
  private void q6kGroup() {
    blockScales(SCALES);
    for (int quarter = 0; quarter < 8; quarter++) { // of 32 columns
      ask(PackedStrips.ROWS * format.blockBytes() * (quarter + 1) / 8);
      for (int strip = 0; strip < strips; strip++) {
        sixBitWeights(strip, quarter);
      }
      for (int i = 0; i < 2; i++) {
        int part = 2 * quarter + i;
        for (int strip = 0; strip < strips; strip++) {
          byteScales(strip, part);
        }
        part(part / 4, part % 4, 4 * i, 4);
      }
    }
  }

  private void sixBitWeights(int strip, int quarter) {
    int half = quarter / 4;
    int shift = 2 * (quarter % 4);
    for (int i = 0; i < 8; i++) {
      int to = weights(strip) + i;
      int at = blocks.four(16 * half + 8 * (quarter % 2) + i);
      if (quarter % 4 < 2) {
        lowerNibbles(to, strip, at);
      } else {
        upperNibbles(to, strip, at);
      }
      code.load(Vector.VMOVUPS, spare, at(strip), blocks.four(UPPER_BITS + 8 * half + i));
      if (shift < 4) { // two bits become the fifth and the sixth
        code.shift(Shift.VPSLLD, spare, spare, 4 - shift);
      } else {
        right(spare, shift - 4);
      }
      code.op(Vector.VPTERNLOGD, to, spare, upper, A_OR_B_AND_C);
    }
  }

  private void byteScales(int strip, int part) {
    int to = scales + strip;
    int left = 24 - 8 * (part % 4);
    code.load(Vector.VMOVUPS, to, at(strip), blocks.four(BYTE_SCALES + part / 4));
    if (left > 0) {
      code.shift(Shift.VPSLLD, to, to, left);
    }
    code.shift(Shift.VPSRAD, to, to, 24);
    timesBlock(to, strip, SCALES);
  }

  private void lowerNibbles(int to, int strip, int at) {
    code.load(Vector.VPANDD, to, nibbles, at(strip), at);
  }

  private void upperNibbles(int to, int strip, int at) {
    code.load(Vector.VMOVUPS, to, at(strip), at);
    code.shift(Shift.VPSRLD, to, to, 4);
    code.op(Vector.VPANDD, to, to, nibbles);
  }

  private void right(int numbers, int bits) {
    if (bits > 0) {
      code.shift(Shift.VPSRLD, numbers, numbers, bits);
    }
  }

  /// Asks for the weights of a group up to here, once each.
  private void ask(int end) {
    for (; asked < end; asked += LINE) {
      for (int strip = 0; strip < strips; strip++) {
        code.prefetchT0(at(strip), asked + AHEAD);
        code.prefetchT2(strips == 1 ? RDI : R12, strips * asked + strip * LINE + FAR);
      }
    }
  }

  /// The same integer sixteen times.
  private int constant(int value) {
    var bytes = ByteBuffer.allocate(64).order(ByteOrder.LITTLE_ENDIAN);
    while (bytes.hasRemaining()) {
      bytes.putInt(value);
    }
    return code.constant(bytes.array());
  }
}
