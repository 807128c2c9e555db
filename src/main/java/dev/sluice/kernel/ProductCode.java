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
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.function.IntUnaryOperator;

/// Writes the machine code of a product of stored weights with one to eight inputs, for one or two
/// rows at a time.
///
/// Whatever the number of inputs and rows, an element of the result is computed by the same
/// operations in the same order, so it has the same bits: 16 sums, to which each step adds one
/// product, and their sum as a tree at the end.
final class ProductCode {
  /// Where each row is being read.
  private static final int[] ROW = {RAX, RBX};

  /// Bytes of a row's last columns, which are fewer than a group: at most 63 float32 numbers.
  private static final int TAIL = 256;

  /// How much further weights are asked for a first time, in bytes. What is on its way into the
  /// innermost cache takes one of the few places that a core has for that; on the way into the
  /// second cache it does not take it for long.
  private static final int FAR = 31 << 10;

  private static final int REGISTERS = 32;

  private static final int A_OR_B_AND_C = 0xF8;
  private static final int EVEN_LANES = 0x88;
  private static final int ODD_LANES = 0xDD;
  private static final int SWAP_HALVES = 0x4E;
  private static final int SWAP_NEIGHBOURS = 0xB1;

  private final Assembler code = new Assembler();
  private final WeightFormat format;
  private final InputLayout layout;
  private final int inputs;
  private final int rows;

  // Vector registers: the sum of input i and row r is `i · rows + r`; then the first of those that
  // each row has one or two of.
  private final int firstWeights;
  private final int firstScales; // of a step
  private final int firstMinima;
  private final int firstTerms; // the sum of a step
  private final int firstBlockScales; // of a group
  private final int firstBlockMinima;
  private final int scratch;
  private final int spare;

  /// The first register of what two steps have in common, or −1 where none are left for it.
  private final int firstShared;

  /// The first register of constants; those that no register is left for stay in memory.
  private final int held;

  private ProductCode(WeightFormat format, InputLayout layout, int inputs, int rows) {
    this.format = format;
    this.layout = layout;
    this.inputs = inputs;
    this.rows = rows;
    firstWeights = inputs * rows;
    firstScales = firstWeights + 2 * rows;
    firstTerms = firstScales + rows;
    scratch = firstTerms + rows;
    spare = scratch + 1;
    firstMinima = spare + 1;
    firstBlockScales = firstMinima + (layout.zero() == InputLayout.MINIMUM ? rows : 0);
    firstBlockMinima = firstBlockScales + (layout.steps() > 1 ? rows : 0);
    int next = firstBlockMinima + (format == WeightFormat.Q2_K ? rows : 0);
    boolean hasRoom = layout.steps() > 1 && next + 2 * rows <= REGISTERS;
    firstShared = hasRoom ? next : -1;
    held = hasRoom ? next + 2 * rows : next;
  }

  /// A function `(weights, arranged, y, rows, rowBytes, groups, tailBytes, yStride, ahead)`: `y[i,
  /// r] = Σ_c W[r, c] · x[i, c]`.
  ///
  /// `rows` is a multiple of the rows at a time and not zero; a row is so many whole groups and
  /// then a tail; `yStride` is in bytes; `ahead` says how far ahead of their use weights are asked
  /// for.
  static byte[] product(WeightFormat format, int digits, int inputs, int rows) {
    var layout = InputLayout.of(format, StoredMatrix.Order.ROWS, digits);
    return new ProductCode(format, layout, inputs, rows).product();
  }

  /// A function `(x, arranged, groups, tailBytes, stride)`, which brings one input into its layout.
  ///
  /// `stride` is the distance of its groups, in bytes.
  static byte[] arrangement(WeightFormat format, StoredMatrix.Order order, int digits) {
    return new ProductCode(format, InputLayout.of(format, order, digits), 1, 1).arrangement();
  }

  private byte[] product() {
    int[] saved = {RBX, RBP, R12, R13, R14, R15};
    for (int register : saved) {
      code.push(register);
    }
    int arguments = 8 * (saved.length + 1);
    code.mov(R13, RSP, arguments); // bytes of the tail
    code.mov(R14, RSP, arguments + 8); // stride of y
    code.mov(R11, RSP, arguments + 16); // how far ahead
    code.increase(RSP, -TAIL * rows);
    clear(TAIL * rows);
    loadConstants();

    int nextRows = code.here();
    code.mov(RAX, RDI);
    code.mov(RBX, RDI);
    code.add(RBX, R8);
    code.mov(RBP, RSI);
    code.mov(R12, R9);
    for (int i = 0; i < inputs * rows; i++) {
      code.zero(i);
    }
    code.test(R12);
    int noGroups = code.jumpIfZero();
    int groupBytes = Math.toIntExact(format.bytes(layout.columns()));
    int nextGroup = code.here();
    // About as often as there are lines: to ask twice for one costs more than to miss a few.
    for (int row = 0; row < rows; row++) {
      for (int line = 0; line < (groupBytes + 32) / 64; line++) {
        code.prefetchT0(ROW[row], R11, 64 * line);
        code.prefetchT2(ROW[row], R11, 64 * line + FAR);
      }
    }
    group();
    for (int row = 0; row < rows; row++) {
      code.increase(ROW[row], groupBytes);
    }
    code.increase(RBP, inputs * layout.bytes());
    code.increase(R12, -1);
    code.jumpBackIfNotZero(nextGroup);
    code.arrive(noGroups);
    if (layout.columns() > format.blockLength()) {
      tail();
    }

    code.mov(RAX, RDX);
    for (int input = 0; input < inputs; input++) {
      for (int row = 0; row < rows; row++) {
        sumUp(input * rows + row);
        code.store(Store.VMOVSS, RAX, 4 * row, input * rows + row);
      }
      code.add(RAX, R14);
    }
    for (int row = 0; row < rows; row++) {
      code.add(RDI, R8);
    }
    code.increase(RDX, 4 * rows);
    code.increase(RCX, -rows);
    code.jumpBackIfNotZero(nextRows);

    code.increase(RSP, TAIL * rows);
    for (int i = saved.length - 1; i >= 0; i--) {
      code.pop(saved[i]);
    }
    code.vzeroupper();
    code.ret();
    return code.assemble(REGISTERS - held);
  }

  /// Clears the lowest bytes of the stack.
  private void clear(int bytes) {
    code.zero(0);
    for (int at = 0; at < bytes; at += 64) {
      code.store(Store.VMOVUPS, RSP, at, 0);
    }
  }

  /// The last columns, fewer than a group: a group of zeros takes their place, so that no byte
  /// after a row is read. All rows have as many, so that the zeros stay.
  private void tail() {
    code.test(R13);
    int noTail = code.jumpIfZero();
    code.mov(R12, RDI);
    code.mov(R15, RSI);
    code.push(RCX);
    for (int row = 0; row < rows; row++) {
      code.lea(RDI, RSP, 8 + TAIL * row);
      code.mov(RSI, ROW[row]);
      code.mov(RCX, R13);
      code.repMovsb();
    }
    code.pop(RCX);
    code.mov(RSI, R15);
    code.mov(RDI, R12);
    for (int row = 0; row < rows; row++) {
      code.lea(ROW[row], RSP, TAIL * row);
    }
    group();
    code.arrive(noTail);
  }

  /// The sum of a vector, in all of its numbers.
  private void sumUp(int vector) {
    for (int swap : new int[] {SWAP_HALVES, SWAP_NEIGHBOURS}) {
      code.op(Vector.VSHUFI64X2, scratch, vector, vector, swap);
      code.op(Vector.VADDPS, vector, vector, scratch);
    }
    for (int swap : new int[] {SWAP_HALVES, SWAP_NEIGHBOURS}) {
      code.op(Vector.VPERMILPS, scratch, 0, vector, swap);
      code.op(Vector.VADDPS, vector, vector, scratch);
    }
  }

  /// Multiplies a group of each row with that of each input.
  private void group() {
    if (format == WeightFormat.E4M3) {
      e4m3Group();
      return;
    }
    if (layout.vectors() == 0) {
      plainGroup();
      return;
    }
    for (int row = 0; row < rows; row++) {
      blockScales(row);
    }
    for (int step = 0; step < layout.steps(); step++) {
      for (int row = 0; row < rows; row++) {
        decode(step, row);
      }
      for (int input = 0; input < inputs; input++) {
        multiply(input * layout.bytes() + step * layout.stepBytes(), input);
      }
    }
  }

  /// `sums += w · x` for 16 columns at a time.
  private void plainGroup() {
    for (int column = 0; column < layout.columns(); column += 16) {
      for (int row = 0; row < rows; row++) {
        int weights = firstWeights + row;
        int at = column * format.blockBytes();
        switch (format) {
          case F32 -> code.load(Vector.VMOVUPS, weights, ROW[row], at);
          case F16 -> code.load(Vector.VCVTPH2PS, weights, ROW[row], at);
          default -> {
            code.load(Vector.VPMOVZXWD, weights, ROW[row], at);
            code.shift(Shift.VPSLLD, weights, weights, 16);
          }
        }
      }
      multiplyPlain(column, firstWeights, 1);
    }
  }

  /// `sums += w · x` for 16 columns, whose weights are floats.
  ///
  /// @param weights the register of the first row's
  /// @param apart from the register of a row to that of the next
  private void multiplyPlain(int column, int weights, int apart) {
    for (int input = 0; input < inputs; input++) {
      int at = input * layout.bytes() + column * Float.BYTES;
      if (rows == 1) {
        code.load(Vector.VFMADD231PS, input, weights, RBP, at);
      } else {
        code.load(Vector.VMOVUPS, scratch, RBP, at);
        for (int row = 0; row < rows; row++) {
          code.op(Vector.VFMADD231PS, input * rows + row, weights + apart * row, scratch);
        }
      }
    }
  }

  /// A block of each row, 32 columns at a time. The bits of E4M3 are those of a number of half
  /// precision, times 2⁻⁸; where that would be 480, it is to be NaN, whose exponent is all ones.
  private void e4m3Group() {
    for (int row = 0; row < rows; row++) {
      code.load(Vector.VBROADCASTSS, firstScales + row, ROW[row], 0);
      constant(Vector.VMULPS, firstScales + row, firstScales + row, floats(256));
    }
    for (int column = 0; column < layout.columns(); column += 32) {
      for (int row = 0; row < rows; row++) {
        int weights = firstWeights + 2 * row;
        code.load(Vector.VPMOVSXBW, weights, ROW[row], Float.BYTES + column);
        code.shift(Shift.VPSLLD, weights, weights, 7);
        constant(Vector.VPANDD, weights, weights, words(_ -> 0xBF80));
        constant(Vector.VPADDD, spare, weights, words(_ -> 0x80)); // 0x3F80 becomes 0x4000
        constant(Vector.VPTERNLOGD, weights, spare, words(_ -> 0x4000), A_OR_B_AND_C);
        code.op(Vector.VSHUFI64X2, weights + 1, weights, weights, SWAP_HALVES);
        for (int half = 0; half < 2; half++) {
          code.op(Vector.VCVTPH2PS, weights + half, weights + half);
          code.op(Vector.VMULPS, weights + half, weights + half, firstScales + row);
        }
      }
      multiplyPlain(column, firstWeights, 2);
      multiplyPlain(column + 16, firstWeights + 1, 2);
    }
  }

  /// A step of one input: the digits of the inputs are multiplied with the weights from the highest
  /// to the lowest, times 256 from one to the next. What was added to the weights is taken away,
  /// and the sums become float32, times the scales of input and weights.
  private void multiply(int at, int input) {
    for (int row = 0; row < rows; row++) {
      code.zero(firstTerms + row);
    }
    for (int digit = 0; digit < layout.digits(); digit++) {
      for (int row = 0; digit > 0 && row < rows; row++) {
        code.shift(Shift.VPSLLD, firstTerms + row, firstTerms + row, 8);
      }
      for (int vector = 0; vector < layout.vectors(); vector++) {
        int from = at + layout.digit(digit, vector);
        if (rows == 1) {
          code.load(Vector.VPDPBUSD, firstTerms, firstWeights + vector, RBP, from);
        } else {
          code.load(Vector.VMOVUPS, scratch, RBP, from);
          for (int row = 0; row < rows; row++) {
            code.op(Vector.VPDPBUSD, firstTerms + row, firstWeights + 2 * row + vector, scratch);
          }
        }
      }
    }
    boolean minimum = layout.zero() == InputLayout.MINIMUM;
    for (int row = 0; row < rows; row++) {
      int sum = input * rows + row;
      int terms = firstTerms + row;
      if (!minimum) {
        code.load(Vector.VPADDD, terms, terms, RBP, at + layout.sums());
      }
      code.op(Vector.VCVTDQ2PS, terms, terms);
      code.load(Vector.VMULPS, terms, terms, RBP, at + layout.scales());
      code.op(Vector.VFMADD231PS, sum, terms, firstScales + row);
      if (minimum) {
        boolean added = format == WeightFormat.Q4_1 || format == WeightFormat.Q5_1;
        var times = added ? Vector.VFMADD231PS : Vector.VFNMADD231PS;
        code.load(times, sum, firstMinima + row, RBP, at + layout.sums());
      }
    }
  }

  /// What all steps of a group need: 16 scales of a row.
  private void blockScales(int row) {
    int p = ROW[row];
    int scales = firstBlockScales + row;
    switch (format) {
      case Q4_K, Q5_K -> { // d · scale of 8 parts, then m · minimum of them
        // Of each number: the byte with its lower bits, and the one with its upper two, if any.
        int pairs =
            bytes(
                i -> {
                  int part = i / 4 % 8;
                  int lower = 4 + (i < 32 && part < 4 ? part : part + 4);
                  int upper = i < 32 ? part : part + 4;
                  return i % 4 == 0 ? lower : i % 4 == 1 && part >= 4 ? upper : 0x80;
                });
        code.load(Vector.VBROADCASTI32X4, spare, p, 0);
        constant(Vector.VPSHUFB, scales, spare, pairs);
        code.shift(Shift.VPSRLD, scratch, scales, 10);
        constant(Vector.VPSRLVD, scales, scales, numbers(i -> i < 12 ? 0 : 4));
        constant(Vector.VPANDD, scales, scales, numbers(i -> i % 8 < 4 ? 63 : 15));
        constant(Vector.VPTERNLOGD, scales, scratch, numbers(_ -> 0x30), A_OR_B_AND_C);
        code.op(Vector.VCVTDQ2PS, scales, scales);
        int halves = bytes(i -> i / 16 * 2 + i % 2); // d eight times, then m eight times
        constant(Vector.VPSHUFB, spare, spare, halves);
        code.op(Vector.VCVTPH2PS, spare, spare);
        code.op(Vector.VMULPS, scales, scales, spare);
      }
      case Q6_K -> { // d · scale of 16 parts
        code.load(Vector.VPMOVSXBD, scales, p, 192);
        timesHalf(scales, p, 208);
      }
      case Q2_K -> { // d · scale of 16 parts, and m · minimum
        int minima = firstBlockMinima + row;
        code.load(Vector.VPMOVZXBD, scales, p, 0);
        code.shift(Shift.VPSRLD, minima, scales, 4);
        constant(Vector.VPANDD, scales, scales, numbers(_ -> 15));
        timesHalf(scales, p, 80);
        timesHalf(minima, p, 82);
      }
      case Q3_K -> { // d · scale of 16 parts, from the 12 bytes before d
        int pairs = bytes(i -> i % 4 == 0 ? 2 + i / 4 % 8 : i % 4 == 1 ? 10 + i / 4 % 4 : 0x80);
        code.load(Vector.VBROADCASTI32X4, spare, p, 94);
        constant(Vector.VPSHUFB, scales, spare, pairs);
        sixBits(scales, numbers(i -> i < 8 ? 0 : 4), numbers(i -> 4 + i / 4 * 2));
        timesHalf(scales, p, 108);
      }
      case IQ4_XS -> { // d · scale of 8 parts, twice
        int triples = bytes(i -> i % 4 == 0 ? 4 + i / 8 % 4 : i % 4 == 3 ? 0x80 : i % 4 + 1);
        code.load(Vector.VBROADCASTI32X4, spare, p, 0);
        constant(Vector.VPSHUFB, scales, spare, triples);
        sixBits(scales, numbers(i -> i % 2 * 4), numbers(i -> 4 + i % 8 * 2));
        timesHalf(scales, p, 0);
      }
      default -> {}
    }
  }

  /// Puts integers together from four lower bits and two upper ones, and takes 32 away.
  ///
  /// @param lower how far to shift so that the lower ones are the lowest
  /// @param upper how far to shift so that the upper ones are the fifth and sixth
  private void sixBits(int numbers, int lower, int upper) {
    constant(Vector.VPSRLVD, scratch, numbers, upper);
    constant(Vector.VPSRLVD, numbers, numbers, lower);
    constant(Vector.VPANDD, numbers, numbers, numbers(_ -> 15));
    constant(Vector.VPTERNLOGD, numbers, scratch, numbers(_ -> 0x30), A_OR_B_AND_C);
    constant(Vector.VPADDD, numbers, numbers, numbers(_ -> -32));
  }

  /// Integers times a number of half precision.
  private void timesHalf(int numbers, int base, int distance) {
    code.op(Vector.VCVTDQ2PS, numbers, numbers);
    code.load(Vector.VPBROADCASTW, spare, base, distance);
    code.op(Vector.VCVTPH2PS, spare, spare);
    code.op(Vector.VMULPS, numbers, numbers, spare);
  }

  /// Brings the weights of a step into unsigned bytes, and their scales, four times each, and
  /// minima beside them.
  private void decode(int step, int row) {
    int p = ROW[row];
    int weights = firstWeights + 2 * row;
    int scales = firstScales + row;
    int minima = firstMinima + row;
    switch (format) {
      case Q8_0 -> {
        // Blocks 0 and 1, then 2 and 3; then the first halves of all four, and the second ones.
        for (int vector = 0; vector < 2; vector++) {
          int to = vector == 0 ? spare : weights + 1;
          code.load(Vector.VBROADCASTI64X4, to, p, 2 + 68 * vector);
          code.load(Vector.VINSERTI64X4, to, to, p, 36 + 68 * vector, 1);
        }
        code.op(Vector.VSHUFI64X2, weights, spare, weights + 1, EVEN_LANES);
        code.op(Vector.VSHUFI64X2, weights + 1, spare, weights + 1, ODD_LANES);
        for (int vector = 0; vector < 2; vector++) {
          constant(Vector.VPXORD, weights + vector, weights + vector, bytes(_ -> 0x80));
        }
        int pair = words(i -> i / 4 * 17); // the scales of two blocks
        code.load(Vector.VPERMW, scales, inRegister(pair, scales), p, 0);
        code.load(Vector.VPERMW, spare, inRegister(pair, spare), p, 68);
        code.op(Vector.VINSERTI32X4, scales, scales, spare, 1);
        code.op(Vector.VCVTPH2PS, scales, scales);
      }
      case Q4_0, IQ4_NL -> {
        code.load(Vector.VMOVUPS, spare, p, 0);
        halves(scales, i -> 9 * i);
        permuteWords(weights, words(i -> i / 8 * 9 + 1 + i % 8), spare);
        code.load(Vector.VINSERTI32X4, weights, weights, p, 56, 3);
        nibbles(weights);
        if (format == WeightFormat.IQ4_NL) {
          lookUp(weights, format, new byte[] {0, 0x3C}, 128);
        }
      }
      case Q4_1 -> {
        code.load(Vector.VMOVUPS, spare, p, 0);
        halves(scales, i -> 10 * i);
        halves(minima, i -> 10 * i + 1);
        permuteWords(weights, words(i -> i / 8 * 10 + 2 + i % 8), spare);
        code.load(Vector.VINSERTI32X4, weights, weights, p, 64, 3);
        nibbles(weights);
      }
      case Q5_0, Q5_1 -> {
        int bytes = format.blockBytes();
        int high = bytes - 20;
        lanes(weights, p, bytes - 16, bytes);
        nibbles(weights);
        lanes(spare, p, 0, bytes);
        halves(scales, i -> 8 * i);
        if (format == WeightFormat.Q5_1) {
          halves(minima, i -> 8 * i + 1);
        }
        for (int vector = 0; vector < 2; vector++) { // of each byte, one bit becomes the fifth
          int first = high + 2 * vector;
          constant(Vector.VPSHUFB, scratch, spare, bytes(i -> first + i / 8 % 2));
          constant(Vector.VPANDD, scratch, scratch, bytes(i -> 1 << i % 8));
          constant(Vector.VPMINUB, scratch, scratch, bytes(_ -> 1));
          code.shift(Shift.VPSLLD, scratch, scratch, 4);
          int to = weights + vector;
          constant(Vector.VPTERNLOGD, to, scratch, bytes(_ -> 16), A_OR_B_AND_C);
        }
      }
      case MXFP4 -> { // the scale is 2^(e − 128), since the numbers are doubled
        lanes(weights, p, 1, 17);
        lanes(scales, p, 0, 17);
        constant(Vector.VPSHUFB, scales, scales, bytes(i -> i % 4 == 0 ? 0 : 0x80));
        code.op(Vector.VCVTDQ2PS, scales, scales);
        constant(Vector.VADDPS, scales, scales, floats(-128));
        code.op(Vector.VSCALEFPS, scales, inRegister(floats(1), spare), scales);
        nibbles(weights);
        lookUp(weights, format, new byte[] {(byte) 128}, 16);
      }
      case I4_32, I4_64, I4_128 -> {
        int bytes = format.blockBytes();
        switch (format.blockLength()) {
          case 32 -> lanes(weights, p, 5, bytes);
          case 64 -> {
            code.load(Vector.VBROADCASTI64X4, weights, p, 5);
            code.load(Vector.VINSERTI64X4, weights, weights, p, bytes + 5, 1);
          }
          default -> code.load(Vector.VMOVUPS, weights, p, 5);
        }
        nibbles(weights);
        code.load(Vector.VBROADCASTI32X4, spare, p, 0); // the beginning of each lane's block
        for (int lane = 1; lane < 4; lane++) {
          int block = 32 * lane / format.blockLength();
          if (block > 0) {
            code.load(Vector.VINSERTI32X4, spare, spare, p, block * bytes, lane);
          }
        }
        constant(Vector.VPSHUFB, scales, spare, bytes(i -> i % 4));
        constant(Vector.VPSHUFB, spare, spare, bytes(_ -> 4));
        for (int vector = 0; vector < 2; vector++) { // no byte is more than 31
          code.op(Vector.VPADDD, weights + vector, weights + vector, spare);
        }
      }
      case Q4_K, Q5_K -> { // lane k holds part 2k + step
        int quants = format == WeightFormat.Q4_K ? 16 : 48;
        for (int vector = 0; vector < 2; vector++) {
          int to = weights + vector;
          int from = firstShared < 0 ? to : firstShared + 2 * row + vector;
          if (step == 0 || firstShared < 0) {
            code.load(Vector.VMOVUPS, from, p, quants);
            code.load(
                Vector.VSHUFI64X2,
                from,
                from,
                p,
                quants + 64,
                vector == 0 ? EVEN_LANES : ODD_LANES);
          }
          nibble(to, from, step);
          if (format == WeightFormat.Q5_K) { // bit 2k + step becomes the fifth
            code.load(Vector.VBROADCASTI32X4, spare, p, 16 + 16 * vector);
            constant(Vector.VPROLVD, spare, spare, numbers(i -> 4 - (i / 4 * 2 + step) & 31));
            constant(Vector.VPTERNLOGD, to, spare, bytes(_ -> 16), A_OR_B_AND_C);
          }
        }
        permuteFloats(scales, numbers(i -> i / 4 * 2 + step), firstBlockScales + row);
        permuteFloats(minima, numbers(i -> i / 4 * 2 + step + 8), firstBlockScales + row);
      }
      case IQ4_XS -> { // lane k holds part 2k + step
        lanes(weights, p, 8 + 16 * step, 32);
        nibbles(weights);
        lookUp(weights, WeightFormat.IQ4_NL, new byte[] {0, 0x3C}, 128);
        permuteFloats(scales, numbers(i -> i / 4 * 2 + step), firstBlockScales + row);
      }
      case Q2_K, Q3_K, TQ2_0 -> { // lane k holds part 4 · step + k
        int quants = format == WeightFormat.Q2_K ? 16 : format == WeightFormat.Q3_K ? 32 : 0;
        code.load(Vector.VBROADCASTI64X4, weights, p, quants + step / 2 * 32);
        constant(Vector.VPSRLVD, weights, weights, numbers(i -> step % 2 * 4 + i / 8 * 2));
        constant(Vector.VPANDD, weights, weights, bytes(_ -> 3));
        if (format == WeightFormat.TQ2_0) {
          code.load(Vector.VPBROADCASTW, scales, p, 64);
          code.op(Vector.VCVTPH2PS, scales, scales);
          return;
        }
        if (format == WeightFormat.Q3_K) { // bit 2 · step, or the next, becomes the third
          code.load(Vector.VBROADCASTI64X4, spare, p, 0);
          constant(Vector.VPROLVD, spare, spare, numbers(i -> 2 - (2 * step + i / 8) & 31));
          constant(Vector.VPTERNLOGD, weights, spare, bytes(_ -> 4), A_OR_B_AND_C);
        } else {
          permuteFloats(minima, numbers(i -> i / 4 + 4 * step), firstBlockMinima + row);
        }
        permuteFloats(scales, numbers(i -> i / 4 + 4 * step), firstBlockScales + row);
      }
      default -> { // Q6_K: lane k holds part 4 · step + k
        int half = step / 2;
        boolean upper = step % 2 == 1;
        int from = firstShared < 0 ? weights : firstShared + row;
        if (!upper || firstShared < 0) {
          code.load(Vector.VMOVUPS, from, p, 64 * half);
        }
        nibble(weights, from, step % 2);
        code.load(Vector.VBROADCASTI64X4, spare, p, 128 + 32 * half);
        // Bits 0 and 1, 2 and 3, 4 and 5, or 6 and 7 become the fifth and the sixth.
        constant(
            upper ? Vector.VPSRLVD : Vector.VPSLLVD,
            spare,
            spare,
            upper ? numbers(i -> i < 8 ? 0 : 2) : numbers(i -> i < 8 ? 4 : 2));
        constant(Vector.VPTERNLOGD, weights, spare, bytes(_ -> 0x30), A_OR_B_AND_C);
        permuteFloats(scales, numbers(i -> i / 4 + 4 * step), firstBlockScales + row);
      }
    }
  }

  /// Brings 16 bytes of each of four blocks into the lanes.
  private void lanes(int to, int base, int distance, int blockBytes) {
    code.load(Vector.VBROADCASTI32X4, to, base, distance);
    for (int lane = 1; lane < 4; lane++) {
      code.load(Vector.VINSERTI32X4, to, to, base, distance + lane * blockBytes, lane);
    }
  }

  /// The numbers of half precision of four blocks, four times each.
  ///
  /// @param word gives where that of a block is among the words in `spare`
  private void halves(int to, IntUnaryOperator word) {
    permuteWords(to, words(i -> word.applyAsInt(i / 4)), spare);
    code.op(Vector.VCVTPH2PS, to, to);
  }

  /// The lower halves of bytes, or the upper ones.
  private void nibble(int to, int from, int upper) {
    if (upper == 1) {
      code.shift(Shift.VPSRLD, to, from, 4);
    }
    constant(Vector.VPANDD, to, upper == 1 ? to : from, bytes(_ -> 15));
  }

  /// Takes the bytes of the first vector apart: the upper halves go into the second.
  private void nibbles(int weights) {
    nibble(weights + 1, weights, 1);
    nibble(weights, weights, 0);
  }

  /// Puts the numbers that a format means in the place of those that point to them.
  ///
  /// @param one the bytes of a scale that makes them integers
  /// @param added to each, so that none is negative
  private void lookUp(int weights, WeightFormat of, byte[] one, int added) {
    byte[] block = Arrays.copyOf(one, of.blockBytes());
    for (int i = 0; i < 16; i++) {
      block[one.length + i] = (byte) i; // numbers 0 to 15, whose upper halves are 0
    }
    float[] table = new float[32];
    of.dequantize(MemorySegment.ofArray(block), 0, 32, table, 0);
    int from = inRegister(bytes(i -> (int) table[i % 16] + added), spare);
    for (int vector = 0; vector < 2; vector++) {
      code.op(Vector.VPSHUFB, weights + vector, from, weights + vector);
    }
  }

  private void permuteWords(int to, int index, int from) {
    code.op(Vector.VPERMW, to, inRegister(index, to), from);
  }

  private void permuteFloats(int to, int index, int from) {
    code.op(Vector.VPERMPS, to, inRegister(index, to), from);
  }

  /// Brings as many constants into registers as there is room for.
  private void loadConstants() {
    code.pointToConstants(R10);
    for (int register = held; register < REGISTERS; register++) {
      code.load(Vector.VMOVUPS, register, R10, 64 * (register - held));
    }
  }

  /// The register that holds a constant: its own, or one that it is loaded into.
  private int inRegister(int constant, int otherwise) {
    int register = held + constant / 64;
    if (register < REGISTERS) {
      return register;
    }
    code.load(Vector.VMOVUPS, otherwise, R10, constant);
    return otherwise;
  }

  private void constant(Vector op, int to, int first, int constant) {
    int register = held + constant / 64;
    if (register < REGISTERS) {
      code.op(op, to, first, register);
    } else {
      code.load(op, to, first, R10, constant);
    }
  }

  private void constant(Vector op, int to, int first, int constant, int immediate) {
    int register = held + constant / 64;
    if (register < REGISTERS) {
      code.op(op, to, first, register, immediate);
    } else {
      code.load(op, to, first, R10, constant, immediate);
    }
  }

  private byte[] arrangement() {
    int bytes = layout.columns() * Float.BYTES;
    code.increase(RSP, -bytes);
    clear(bytes);
    loadConstants();
    code.mov(RAX, RDI);
    code.mov(R11, RSI);
    code.test(RDX);
    int noGroups = code.jumpIfZero();
    int nextGroup = code.here();
    arrangeGroup();
    code.increase(RAX, bytes);
    code.add(R11, R8);
    code.increase(RDX, -1);
    code.jumpBackIfNotZero(nextGroup);
    code.arrive(noGroups);
    code.test(RCX);
    int noTail = code.jumpIfZero();
    code.lea(RDI, RSP, 0);
    code.mov(RSI, RAX);
    code.repMovsb();
    code.lea(RAX, RSP, 0);
    arrangeGroup();
    code.arrive(noTail);
    code.increase(RSP, bytes);
    code.vzeroupper();
    code.ret();
    return code.assemble(REGISTERS - held);
  }

  /// Arranges the group at RAX into that at R11.
  private void arrangeGroup() {
    if (layout.vectors() == 0) {
      for (int at = 0; at < layout.bytes(); at += 64) {
        code.load(Vector.VMOVUPS, 0, RAX, at);
        code.store(Store.VMOVUPS, R11, at, 0);
      }
      return;
    }
    for (int step = 0; step < layout.steps(); step++) {
      int at = step * layout.stepBytes();
      for (int lane = 0; lane < 4; lane++) {
        arrangeLane(step, lane, at);
      }
      // Σ k of each four bytes, by the operation that multiplies them.
      int ones = inRegister(bytes(_ -> 1), 1);
      int second = layout.byParts() && layout.vectors() == 2 ? 2 : 0;
      code.zero(0);
      code.zero(second);
      for (int digit = 0; digit < layout.digits(); digit++) {
        for (int sum = 0; digit > 0 && sum <= second; sum += 2) {
          code.shift(Shift.VPSLLD, sum, sum, 8);
        }
        for (int vector = 0; vector < layout.vectors(); vector++) {
          int sum = vector == 0 ? 0 : second;
          code.load(Vector.VPDPBUSD, sum, ones, R11, at + layout.digit(digit, vector));
        }
      }
      if (second > 0) { // of a part, two lanes, which stand side by side
        code.op(Vector.VSHUFI64X2, 1, 0, second, ODD_LANES);
        code.op(Vector.VSHUFI64X2, 0, 0, second, EVEN_LANES);
        code.op(Vector.VPADDD, 0, 0, 1);
      }
      for (int swap : layout.byParts() ? new int[] {SWAP_HALVES, SWAP_NEIGHBOURS} : new int[0]) {
        code.op(Vector.VPERMILPS, 1, 0, 0, swap);
        code.op(Vector.VPADDD, 0, 0, 1);
      }
      if (layout.zero() == InputLayout.MINIMUM) {
        code.op(Vector.VCVTDQ2PS, 0, 0);
        code.load(Vector.VMULPS, 0, 0, R11, at + layout.scales());
      } else {
        code.shift(Shift.VPSLLD, 0, 0, layout.zero());
        code.zero(1);
        code.op(Vector.VPSUBD, 0, 1, 0);
      }
      code.store(Store.VMOVUPS, R11, at + layout.sums(), 0);
    }
  }

  /// Arranges the columns of a part, which share a scale, into one lane of each vector.
  private void arrangeLane(int step, int lane, int at) {
    int magnitude = 4;
    int scale = 5;
    int other = 6;
    // The largest magnitude, as bits, among which NaN is above infinity.
    for (int vector = 0; vector < layout.vectors(); vector++) {
      code.load(Vector.VMOVUPS, vector, RAX, 4 * layout.column(step, lane, vector));
      int to = vector == 0 ? magnitude : other;
      constant(Vector.VPANDD, to, vector, numbers(_ -> 0x7FFF_FFFF));
      if (vector > 0) {
        code.op(Vector.VPMAXUD, magnitude, magnitude, other);
      }
    }
    for (int swap : new int[] {SWAP_HALVES, SWAP_NEIGHBOURS}) {
      code.op(Vector.VSHUFI64X2, other, magnitude, magnitude, swap);
      code.op(Vector.VPMAXUD, magnitude, magnitude, other);
    }
    for (int swap : new int[] {SWAP_HALVES, SWAP_NEIGHBOURS}) {
      code.op(Vector.VPERMILPS, other, 0, magnitude, swap);
      code.op(Vector.VPMAXUD, magnitude, magnitude, other);
    }
    constant(Vector.VMULPS, scale, magnitude, floats(1f / layout.largest()));
    // The second operand is what a comparison with NaN gives.
    code.op(Vector.VMAXPS, scale, inRegister(floats(Float.MIN_NORMAL), other), scale);
    code.zero(other);
    code.op(Vector.VFMADD231PS, scale, magnitude, other); // 0 · ∞ is NaN
    code.store(Store.VMOVUPS_16, R11, at + layout.scales(lane), scale);
    code.op(Vector.VDIVPS, scale, inRegister(floats(1), other), scale);
    // The digits of k + 128 or k + 128 · (256 + 1) are 0 to 255; 128 less, they are signed.
    int digits = numbers(_ -> layout.unsigned());
    for (int vector = 0; vector < layout.vectors(); vector++) {
      code.op(Vector.VMULPS, vector, vector, scale);
      code.op(Vector.VCVTPS2DQ, vector, vector);
      constant(Vector.VPADDD, vector, vector, digits);
      constant(Vector.VPXORD, vector, vector, digits);
      for (int digit = layout.digits() - 1; digit >= 0; digit--) {
        code.store(Store.VPMOVDB, R11, at + layout.digit(digit, vector, lane), vector);
        code.shift(Shift.VPSRLD, vector, vector, 8);
      }
    }
  }

  private int bytes(IntUnaryOperator value) {
    byte[] bytes = new byte[64];
    for (int i = 0; i < 64; i++) {
      bytes[i] = (byte) value.applyAsInt(i);
    }
    return code.constant(bytes);
  }

  /// 32 indices of two bytes.
  private int words(IntUnaryOperator value) {
    var bytes = ByteBuffer.allocate(64).order(ByteOrder.LITTLE_ENDIAN);
    for (int i = 0; i < 32; i++) {
      bytes.putShort((short) value.applyAsInt(i));
    }
    return code.constant(bytes.array());
  }

  private int numbers(IntUnaryOperator value) {
    var bytes = ByteBuffer.allocate(64).order(ByteOrder.LITTLE_ENDIAN);
    for (int i = 0; i < 16; i++) {
      bytes.putInt(value.applyAsInt(i));
    }
    return code.constant(bytes.array());
  }

  private int floats(float value) {
    return numbers(_ -> Float.floatToRawIntBits(value));
  }
}
