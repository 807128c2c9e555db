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

/// Writes the machine code of a product of packed weights, see [PackedStrips], with one to eight
/// inputs. Each number of a vector belongs to a row of its own, so that no sum goes across a
/// vector, a vector of scales is 16 rows' at once, and inputs are broadcast by the load ports: a
/// third of the operations of [ProductCode] for a weight. For several inputs the load ports are
/// then what bounds it, and two strips share the loads of inputs.
///
/// Whatever the number of inputs, an element of the result is computed by the same operations in
/// the same order, so it has the same bits.
final class PackedCode {
  /// How far ahead of their use weights are asked for, into the innermost cache, and a first time,
  /// into the second.
  private static final int AHEAD = 2048;

  private static final int FAR = 31 << 10;

  private static final int LINE = 64;

  /// Digits of inputs whose products are made in turn: a product of bytes waits four cycles for the
  /// one before of the same sum, while two others may begin in each cycle. With two strips that is
  /// eight sums, so that a processor need not look far ahead for them.
  private static final int DIGITS_SIDE_BY_SIDE = 4;

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
  private final int strips; // at once
  private final int sideBySide; // inputs whose products are made in turn
  private final int groupBytes; // of a strip
  private int asked; // bytes of a group

  // Vector registers. One strip: the sum of input i is register i. Two strips: sums are on the
  // stack.
  private final int weights; // eight of each strip
  private final int parts; // a sum of integers of each digit, of inputs side by side
  private final int scales; // of each strip
  private final int minima;
  private final int spare;
  private final int other;
  private final int nibbles;
  private final int upper;
  private final int ofBlock; // scales and minima of a block, of one strip

  private PackedCode(WeightFormat format, int digits, int inputs, int strips) {
    this.format = format;
    this.layout = InputLayout.of(format, StoredMatrix.Order.STRIPS, digits);
    this.blocks = PackedStrips.Blocks.required(format);
    this.inputs = inputs;
    this.strips = strips;
    this.groupBytes = PackedStrips.ROWS * Math.toIntExact(format.bytes(layout.columns()));
    this.sideBySide = Math.min(inputs, DIGITS_SIDE_BY_SIDE / layout.digits());
    weights = strips == 1 ? inputs : 0;
    parts = weights + 8 * strips;
    scales = parts + layout.digits() * strips * sideBySide;
    minima = scales + strips;
    spare = minima + strips;
    other = spare + 1;
    nibbles = spare + 2;
    upper = spare + 3;
    ofBlock = spare + 4;
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
    var code = new PackedCode(format, digits, inputs, strips);
    return strips == 1 ? code.oneStrip() : code.twoStrips();
  }

  private byte[] oneStrip() {
    loadConstants();
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

  private void loadConstants() {
    code.pointToConstants(R10);
    code.load(Vector.VMOVUPS, nibbles, R10, constant(0x0F0F_0F0F));
    int bits = format == WeightFormat.Q6_K ? 0x3030_3030 : 0x30;
    code.load(Vector.VMOVUPS, upper, R10, constant(bits));
  }

  private void group() {
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
  private int weights(int strip) {
    return weights + 8 * strip;
  }

  /// A block of 32 columns of `Q8_0` or `Q4_0`.
  private void block(int block) {
    int p = block * PackedStrips.ROWS * format.blockBytes();
    ask(p + PackedStrips.ROWS * format.blockBytes());
    for (int strip = 0; strip < strips; strip++) {
      int to = weights(strip);
      for (int i = 0; i < (format == WeightFormat.Q8_0 ? 8 : 4); i++) {
        if (format == WeightFormat.Q8_0) {
          code.load(Vector.VMOVUPS, to + i, at(strip), p + blocks.four(i));
        } else {
          lowerNibbles(to + i, strip, p + blocks.four(i));
          upperNibbles(to + 4 + i, strip, p + blocks.four(i));
        }
      }
      code.load(Vector.VCVTPH2PS, scales + strip, at(strip), p);
    }
    part(0, block, 0, 8);
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
  private int ofBlock(int strip, int kind) {
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

  /// A part of the columns, of which all have one scale, of each input: its digits are multiplied
  /// with the weights, and the sums become float32, times the scales of input and weights.
  ///
  /// @param step of the inputs' layout
  /// @param lane likewise
  /// @param first of a strip's weights
  /// @param fours columns, by fours
  private void part(int step, int lane, int first, int fours) {
    int begin = step * layout.stepBytes() + 16 * lane;
    if (strips == 1) {
      for (int input = 0; input < inputs; input += sideBySide) {
        int count = Math.min(sideBySide, inputs - input);
        sums(RAX, begin + input * layout.bytes(), count, first, fours, input);
      }
      return;
    }
    code.lea(R13, RAX, begin);
    code.lea(R14, RSP, 0);
    if (inputs >= 2 * sideBySide) {
      code.set(R15, inputs / sideBySide);
    }
    int next = code.here();
    sums(R13, 0, sideBySide, first, fours, 0);
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
      sums(R13, 0, rest, first, fours, 0);
    }
  }

  /// The same of a few inputs.
  ///
  /// @param base register that points to the inputs
  /// @param begin of the first's part
  /// @param firstSum register of the first's sum, where sums are in registers
  private void sums(int base, int begin, int count, int first, int fours, int firstSum) {
    boolean minimum = layout.zero() == InputLayout.MINIMUM;
    for (int input = 0; input < count; input++) {
      int sums = begin + input * layout.bytes() + layout.sums();
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
          int at = begin + input * layout.bytes() + layout.digit(digit, i / 4) + 4 * (i % 4);
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
        code.loadOne(Vector.VMULPS, sum, sum, base, at + layout.scales());
        int to = strips == 1 ? firstSum + input : sum;
        int place = (2 * input + strip) * LINE;
        if (strips == 1) {
          code.op(Vector.VFMADD231PS, to, sum, scales);
        } else {
          code.load(Vector.VFMADD213PS, to, scales + strip, R14, place);
        }
        if (minimum) {
          code.loadOne(Vector.VFNMADD231PS, to, minima + strip, base, at + layout.sums());
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
