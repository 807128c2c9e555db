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
import java.util.Arrays;

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

  private PackedCode() {}

  /// A function `(weights, arranged, y, strips, groups, yStride)`.
  ///
  /// `arranged` are inputs in the layout of the format in strips; `strips` is not zero; `yStride`
  /// is in bytes.
  static byte[] product(WeightFormat format, int inputs) {
    var code = new Assembler();
    var layout = InputLayout.of(format, StoredMatrix.Order.STRIPS);
    int weights = inputs; // the first of eight
    int scales = weights + 8;
    int high = scales + 1;
    int low = scales + 2;
    int fifteen = scales + 3;
    byte[] lowerHalves = new byte[64];
    Arrays.fill(lowerHalves, (byte) 15);
    code.pointToConstants(R10);
    code.load(Vector.VMOVUPS, fifteen, R10, code.constant(lowerHalves));
    int blockBytes = PackedStrips.ROWS * format.blockBytes();
    int groupBytes = 4 * blockBytes;

    int nextStrip = code.here();
    code.mov(RAX, RSI);
    code.mov(R11, R8);
    for (int i = 0; i < inputs; i++) {
      code.zero(i);
    }
    int nextGroup = code.here();
    int asked = 0;
    for (int block = 0; block < 4; block++) {
      int p = block * blockBytes;
      for (; asked < p + blockBytes; asked += LINE) {
        code.prefetchT0(RDI, asked + AHEAD);
        code.prefetchT2(RDI, asked + FAR);
      }
      int from = p + 2 * PackedStrips.ROWS;
      if (format == WeightFormat.Q8_0) {
        for (int i = 0; i < 8; i++) {
          code.load(Vector.VMOVUPS, weights + i, RDI, from + 64 * i);
        }
      } else {
        for (int i = 0; i < 4; i++) {
          code.load(Vector.VPANDD, weights + i, fifteen, RDI, from + 64 * i);
          code.load(Vector.VMOVUPS, weights + 4 + i, RDI, from + 64 * i);
          code.shift(Shift.VPSRLD, weights + 4 + i, weights + 4 + i, 4);
          code.op(Vector.VPANDD, weights + 4 + i, weights + 4 + i, fifteen);
        }
      }
      code.load(Vector.VCVTPH2PS, scales, RDI, p);
      for (int input = 0; input < inputs; input++) {
        int at = input * layout.bytes() + 16 * block;
        code.zero(high);
        code.load(Vector.VPBROADCASTD, low, RAX, at + layout.sums());
        for (int i = 0; i < 8; i++) {
          int column = 4 * (i % 4);
          code.loadOne(
              Vector.VPDPBUSD, high, weights + i, RAX, at + layout.digits(0, i / 4) + column);
          code.loadOne(
              Vector.VPDPBUSD, low, weights + i, RAX, at + layout.digits(1, i / 4) + column);
        }
        code.shift(Shift.VPSLLD, high, high, 8);
        code.op(Vector.VPADDD, high, high, low);
        code.op(Vector.VCVTDQ2PS, high, high);
        code.loadOne(Vector.VMULPS, high, high, RAX, at + layout.scales());
        code.op(Vector.VFMADD231PS, input, high, scales);
      }
    }
    code.increase(RDI, groupBytes);
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
}
