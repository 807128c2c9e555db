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

  private final Assembler code = new Assembler();
  private final int rowBytes;

  private PackingCode(int rowBytes) {
    this.rowBytes = rowBytes;
  }

  /// A function `(rows, strip, blocks)`.
  ///
  /// @param flipped the bits that four numbers differ by
  static byte[] of(WeightFormat format, int rowBytes, int flipped) {
    return new PackingCode(rowBytes).function(format, flipped);
  }

  private byte[] function(WeightFormat format, int flipped) {
    int numbers = format.blockBytes() - Short.BYTES;
    byte[] flips = new byte[64];
    Arrays.fill(flips, (byte) flipped);
    code.pointToConstants(R10);
    code.load(Vector.VMOVUPS, FLIPPED, R10, code.constant(flips));
    int nextBlock = code.here();
    for (int row = 0; row < PackedStrips.ROWS; row++) {
      code.load16(RAX, RDI, row * rowBytes);
      code.store16(RSI, Short.BYTES * row, RAX);
    }
    if (numbers == 32) {
      halves(0, 0);
      halves(FOUR, 8);
      for (int i = 0; i < FOUR; i++) {
        write(i, shuffled(i, LANES_0_2));
        write(FOUR + i, shuffled(i, LANES_1_3));
      }
    } else {
      for (int row = 0; row < FOUR; row++) {
        code.load(Vector.VBROADCASTI32X4, row, RDI, at(row));
        for (int lane = 1; lane < 4; lane++) {
          code.load(Vector.VINSERTI32X4, row, row, RDI, at(row + FOUR * lane), lane);
        }
      }
      transpose(0);
      for (int i = 0; i < FOUR; i++) {
        write(i, i);
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
    return row * rowBytes + Short.BYTES;
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

  /// The numbers of sixteen rows with an index.
  private void write(int index, int from) {
    code.op(Vector.VPXORD, from, from, FLIPPED);
    code.store(Store.VMOVUPS, RSI, Short.BYTES * PackedStrips.ROWS + 64 * index, from);
  }
}
