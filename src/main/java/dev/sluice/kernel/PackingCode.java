package dev.sluice.kernel;

import static dev.sluice.kernel.Assembler.R10;
import static dev.sluice.kernel.Assembler.RAX;
import static dev.sluice.kernel.Assembler.RDI;
import static dev.sluice.kernel.Assembler.RDX;
import static dev.sluice.kernel.Assembler.RSI;

import dev.sluice.kernel.Assembler.Store;
import dev.sluice.kernel.Assembler.Vector;
import java.util.Arrays;

/// Writes the machine code that brings sixteen rows of blocks into a strip, see [PackedStrips]:
/// files are of gigabytes, and whoever opens one waits for it.
///
/// A lane of 16 bytes holds four numbers of four bytes of a row. Lanes of rows 0 to 3 are
/// transposed together, and those of the other rows beside them.
final class PackingCode {
  private static final int LANES_0_2 = 0x88;
  private static final int LANES_1_3 = 0xDD;

  /// Rows of a transposition.
  private static final int FOUR = 4;

  // Vector registers. The first eight hold rows, the next eight what they become.
  private static final int BETWEEN = 16;
  private static final int FLIPPED = 20;

  private static final int LANE = 16;

  private final Assembler code = new Assembler();
  private final WeightFormat format;
  private final PackedStrips.Blocks blocks;
  private final int rowBytes;

  private PackingCode(WeightFormat format, int rowBytes) {
    this.format = format;
    this.blocks = PackedStrips.Blocks.required(format);
    this.rowBytes = rowBytes;
  }

  /// A function `(rows, strip, blocks)`.
  static byte[] of(WeightFormat format, int rowBytes) {
    return new PackingCode(format, rowBytes).function();
  }

  private byte[] function() {
    int numbers = blocks.end() - blocks.begin();
    byte[] flips = new byte[64];
    Arrays.fill(flips, (byte) blocks.flipped());
    code.pointToConstants(R10);
    code.load(Vector.VMOVUPS, FLIPPED, R10, code.constant(flips));
    int nextBlock = code.here();
    for (int half = 0; half < blocks.halves().length; half++) {
      for (int row = 0; row < PackedStrips.ROWS; row++) {
        code.load16(RAX, RDI, row * rowBytes + blocks.halves()[half]);
        code.store16(RSI, Short.BYTES * (PackedStrips.ROWS * half + row), RAX);
      }
    }
    if (numbers == 2 * LANE) {
      halves(0, 0);
      halves(FOUR, 8);
      for (int i = 0; i < FOUR; i++) {
        write(i, shuffled(i, LANES_0_2));
        write(FOUR + i, shuffled(i, LANES_1_3));
      }
    } else {
      // A first lane that is not whole begins with bytes before the numbers.
      for (int from = blocks.end() - Math.ceilDiv(numbers, LANE) * LANE;
          from < blocks.end();
          from += LANE) {
        for (int row = 0; row < FOUR; row++) {
          code.load(Vector.VBROADCASTI32X4, row, RDI, row * rowBytes + from);
          for (int lane = 1; lane < 4; lane++) {
            int of = (row + FOUR * lane) * rowBytes + from;
            code.load(Vector.VINSERTI32X4, row, row, RDI, of, lane);
          }
        }
        transpose(0);
        for (int i = 0; i < FOUR; i++) {
          int index = (from - blocks.begin()) / 4 + i;
          if (index >= 0) {
            write(index, i);
          }
        }
      }
    }
    code.increase(RDI, format.blockBytes());
    code.increase(RSI, PackedStrips.ROWS * format.blockBytes());
    code.increase(RDX, -1);
    code.jumpBackIfNotZero(nextBlock);
    code.vzeroupper();
    code.ret();
    return code.assemble(0);
  }

  /// Where a row's numbers begin.
  private int at(int row) {
    return row * rowBytes + blocks.begin();
  }

  /// Eight rows of 32 bytes: a register has the lanes 0 and 1 of one row and then those of the
  /// fourth one after it, and afterwards of all eight rows number i, in lanes 0 and 2, and number 4
  /// + i, in lanes 1 and 3.
  private void halves(int to, int firstRow) {
    for (int row = 0; row < FOUR; row++) {
      code.load(Vector.VBROADCASTI64X4, to + row, RDI, at(firstRow + row));
      code.load(Vector.VINSERTI64X4, to + row, to + row, RDI, at(firstRow + row + FOUR), 1);
    }
    transpose(to);
  }

  /// Each lane of four registers, as a matrix of four rows.
  private void transpose(int first) {
    code.op(Vector.VUNPCKLPS, BETWEEN, first, first + 1);
    code.op(Vector.VUNPCKHPS, BETWEEN + 1, first, first + 1);
    code.op(Vector.VUNPCKLPS, BETWEEN + 2, first + 2, first + 3);
    code.op(Vector.VUNPCKHPS, BETWEEN + 3, first + 2, first + 3);
    code.op(Vector.VUNPCKLPD, first, BETWEEN, BETWEEN + 2);
    code.op(Vector.VUNPCKHPD, first + 1, BETWEEN, BETWEEN + 2);
    code.op(Vector.VUNPCKLPD, first + 2, BETWEEN + 1, BETWEEN + 3);
    code.op(Vector.VUNPCKHPD, first + 3, BETWEEN + 1, BETWEEN + 3);
  }

  /// Two lanes of the lower eight rows, then two of the upper.
  private int shuffled(int number, int lanes) {
    code.op(Vector.VSHUFI64X2, BETWEEN, number, FOUR + number, lanes);
    return BETWEEN;
  }

  /// Four numbers of each of sixteen rows, with their index.
  private void write(int index, int from) {
    code.op(Vector.VPXORD, from, from, FLIPPED);
    code.store(Store.VMOVUPS, RSI, blocks.four(index), from);
  }
}
