package dev.sluice.kernel;

import static dev.sluice.kernel.Assembler.R10;
import static dev.sluice.kernel.Assembler.R12;
import static dev.sluice.kernel.Assembler.RAX;
import static dev.sluice.kernel.Assembler.RBP;
import static dev.sluice.kernel.Assembler.RBX;
import static dev.sluice.kernel.Assembler.RDI;
import static dev.sluice.kernel.Assembler.RSP;

import dev.sluice.kernel.Assembler.Shift;
import dev.sluice.kernel.Assembler.Store;
import dev.sluice.kernel.Assembler.Vector;
import java.util.ArrayDeque;
import java.util.Queue;

/// Writes the machine code of a product of packed weights, see [PackedStrips], with up to sixteen
/// inputs on a processor with tiles (AMX). One instruction multiplies a part of the columns of all
/// inputs with that of sixteen rows. Its sums of integers are those of [PackedCode], and what
/// becomes of them is too, so that results have the same bits.
///
/// What goes into a tile, or comes out of one, goes through memory, and is there for the next
/// instruction only once it is in the cache. So a part is multiplied after the next one has been
/// decoded, and its sums are taken up two parts later.
final class TileCode extends StripCode {
  /// So many inputs at once, at most: the rows of a tile.
  static final int MOST_INPUTS = 16;

  /// Places on the stack for parts on their way: one that is decoded, one that is multiplied
  /// meanwhile, and one whose sums are taken up.
  private static final int SLOTS = 3;

  /// The bytes of weights in a tile, and of scales and minima.
  private static final int WEIGHT_BYTES = 8 * LINE;

  private static final int SCALE_BYTES = 2 * LINE;

  // Tiles; sums have one of each digit, and all have one for every other part.
  private static final int SUMS = 0;
  private static final int INPUTS = 4;
  private static final int WEIGHTS = 6;

  /// A part on its way.
  ///
  /// @param number of parts before it, in its group
  /// @param columns of it
  /// @param at where its weights stand behind RDI, or −1 where they are on the stack
  private record Part(int number, int step, int lane, int columns, int at) {}

  private final Queue<Part> decoded = new ArrayDeque<>();
  private final Queue<Part> multiplied = new ArrayDeque<>();
  private int number;
  private int asTheyStand = -1;

  private TileCode(WeightFormat format, int digits, int inputs) {
    super(format, digits, inputs, 1, MOST_INPUTS, MOST_INPUTS + 8);
  }

  /// Whether weights of a format need no decoding, and go into a tile from where they are.
  static boolean takesAsTheyStand(WeightFormat format) {
    return format == WeightFormat.Q8_0;
  }

  /// A function as those of [PackedCode#product], for one strip at a time.
  static byte[] product(WeightFormat format, int digits, int inputs) {
    return new TileCode(format, digits, inputs).product();
  }

  private byte[] product() {
    int[] kept = {RBX, RBP, R12};
    for (int register : kept) {
      code.push(register);
    }
    code.mov(RBP, RSP);
    code.alignDown(RSP, LINE);
    code.increase(RSP, -SLOTS * slotBytes());
    loadConstants();
    code.loadTileShapes(R10, code.constant(shapes()));
    code.set(RBX, LINE);
    code.set(R12, layout.bytes());
    stripByStrip();
    code.releaseTiles();
    code.mov(RSP, RBP);
    for (int i = kept.length - 1; i >= 0; i--) {
      code.pop(kept[i]);
    }
    code.vzeroupper();
    code.ret();
    return code.assemble(0);
  }

  /// The rows of each tile, and the bytes of a row: those of Intel's manual, palette 1.
  private byte[] shapes() {
    byte[] shapes = new byte[LINE];
    shapes[0] = 1;
    int columns = format == WeightFormat.Q6_K ? 16 : 32;
    for (int tile = 0; tile < 8; tile++) {
      boolean ofWeights = tile >= WEIGHTS;
      boolean ofInputs = tile >= INPUTS && !ofWeights;
      shapes[16 + 2 * tile] = (byte) (ofInputs ? columns : LINE);
      shapes[48 + tile] = (byte) (ofWeights ? columns / 4 : inputs);
    }
    return shapes;
  }

  private int sumBytes() {
    return inputs * LINE * layout.digits();
  }

  private int slotBytes() {
    return sumBytes() + WEIGHT_BYTES + SCALE_BYTES;
  }

  /// Where a part's sums stand on the stack, then its weights, then its scales and minima.
  private int sums(Part part) {
    return part.number % SLOTS * slotBytes();
  }

  private int weights(Part part) {
    return sums(part) + sumBytes();
  }

  private int scales(Part part) {
    return weights(part) + WEIGHT_BYTES;
  }

  private boolean hasMinima() {
    return layout.zero() == InputLayout.MINIMUM;
  }

  @Override
  void group() {
    number = 0;
    super.group();
    while (!decoded.isEmpty()) {
      multiply(decoded.remove());
    }
    while (!multiplied.isEmpty()) {
      sumUp(multiplied.remove());
    }
  }

  @Override
  void bytes(int to, int strip, int at) {
    asTheyStand = at;
  }

  @Override
  void part(int step, int lane, int first, int fours) {
    var part = new Part(number++, step, lane, 4 * fours, asTheyStand);
    for (int i = 0; i < fours && part.at < 0; i++) {
      code.store(Store.VMOVUPS, RSP, weights(part) + LINE * i, weights + first + i);
    }
    code.store(Store.VMOVUPS, RSP, scales(part), scales);
    if (hasMinima()) {
      code.store(Store.VMOVUPS, RSP, scales(part) + LINE, minima);
    }
    decoded.add(part);
    if (decoded.size() > (part.at < 0 ? 1 : 0)) {
      multiply(decoded.remove());
    }
    if (multiplied.size() > 1) {
      sumUp(multiplied.remove());
    }
  }

  private void multiply(Part part) {
    int odd = part.number % 2;
    if (part.at < 0) {
      code.loadTile(WEIGHTS + odd, RSP, RBX, weights(part));
    } else {
      code.loadTile(WEIGHTS + odd, RDI, RBX, part.at);
    }
    for (int digit = 0; digit < layout.digits(); digit++) {
      int to = SUMS + 2 * odd + digit;
      code.zeroTile(to);
      int from = part.step * layout.stepBytes() + layout.digit(digit, 0, part.lane);
      code.loadTile(INPUTS + odd, RAX, R12, from);
      code.multiplyTiles(to, INPUTS + odd, WEIGHTS + odd);
      code.storeTile(RSP, RBX, sums(part) + digit * inputs * LINE, to);
    }
    multiplied.add(part);
  }

  /// The sums of integers become float32, times the scales of input and weights.
  private void sumUp(Part part) {
    code.load(Vector.VMOVUPS, scales, RSP, scales(part));
    if (hasMinima()) {
      code.load(Vector.VMOVUPS, minima, RSP, scales(part) + LINE);
    }
    for (int input = 0; input < inputs; input++) {
      int sum = input % 2 == 0 ? spare : other;
      int from = sums(part) + input * LINE;
      int at = part.step * layout.stepBytes() + input * layout.bytes();
      code.load(Vector.VMOVUPS, sum, RSP, from);
      if (layout.digits() == 2) {
        code.shift(Shift.VPSLLD, sum, sum, 8);
        code.load(Vector.VPADDD, sum, sum, RSP, from + inputs * LINE);
      }
      if (!hasMinima()) {
        code.loadOne(Vector.VPADDD, sum, sum, RAX, at + layout.sums(part.lane));
      }
      code.op(Vector.VCVTDQ2PS, sum, sum);
      code.loadOne(Vector.VMULPS, sum, sum, RAX, at + layout.scales(part.lane));
      code.op(Vector.VFMADD231PS, input, sum, scales);
      if (hasMinima()) {
        code.loadOne(Vector.VFNMADD231PS, input, minima, RAX, at + layout.sums(part.lane));
      }
    }
  }
}
