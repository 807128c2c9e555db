package dev.sluice.kernel;

import java.lang.foreign.AddressLayout;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// The kernels with those that a model runs beside its products and its attention in the machine
/// code of [RowCode], [DeltaCode] and [ConvolutionCode], which is fast from its first call on: the
/// Vector API's code takes a second to be compiled. Everything else is left to the kernels that
/// there are without.
///
/// Float32 numbers outside the heap and rows of whole vectors are taken, else the others compute.
/// Where the Vector API has vectors of 64 bytes, both give the same bits. See
/// `docs/decisions/0035-row-kernels-in-machine-code.md`.
public final class MachineKernels extends DeferredKernels {
  private static final int VECTOR = 16;

  /// Numbers of a call: some 50 microseconds, since nobody can stop a thread in it.
  private static final long CALL = 1 << 16;

  /// Products of a call that convolves.
  private static final int PRODUCTS = 1 << 17;

  /// A result of a convolution is made of so many tokens at most.
  private static final int MOST_TAPS = 64;

  private static final int BLOCK = ConvolutionCode.BLOCK;

  /// So many stored numbers are brought by the definition. They are rows of a table of tokens: what
  /// is slower there is little, and no code is compiled for it.
  private static final long FEW = 1 << 14;

  private static final AddressLayout POINTER = ValueLayout.ADDRESS;
  private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG;

  /// One for all functions: each kind of call costs the start of the process some milliseconds.
  private static final MethodHandle FUNCTION =
      MachineCode.shortCall(
          FunctionDescriptor.ofVoid(
              POINTER, POINTER, POINTER, POINTER, POINTER, LONG, LONG, LONG, LONG, LONG, LONG));

  private static final Kernels DEFINITION = new ScalarKernels();

  private final MemorySegment norm;
  private final MemorySegment normOfSum;
  private final MemorySegment rotation;
  private final MemorySegment normAndRotation;
  private final MemorySegment swiGlu;
  private final MemorySegment gate;
  private final MemorySegment gateRows;
  private final MemorySegment weightedSum;
  private final MemorySegment deltaStep;
  private final MemorySegment convolutionStep;
  private final MemorySegment convolutionFactors;
  private final MemorySegment convolution;

  private MachineKernels(List<MemorySegment> functions) {
    this.norm = functions.get(0);
    this.normOfSum = functions.get(1);
    this.rotation = functions.get(2);
    this.normAndRotation = functions.get(3);
    this.swiGlu = functions.get(4);
    this.gate = functions.get(5);
    this.gateRows = functions.get(6);
    this.weightedSum = functions.get(7);
    this.deltaStep = functions.get(8);
    this.convolutionStep = functions.get(9);
    this.convolutionFactors = functions.get(10);
    this.convolution = functions.get(11);
  }

  /// The kernels, or null where the processor has no AVX-512, or the system does not let code run
  /// that was made here.
  static @Nullable MachineKernels make() {
    if (!MachineCode.hasVectors512()) {
      return null;
    }
    var functions =
        MachineCode.install(
            List.of(
                RowCode.norm(false),
                RowCode.norm(true),
                RowCode.normRotate(false),
                RowCode.normRotate(true),
                RowCode.swiGlu(),
                RowCode.gate(),
                RowCode.gateRows(),
                RowCode.weightedSum(),
                DeltaCode.step(),
                ConvolutionCode.step(),
                ConvolutionCode.factors(),
                ConvolutionCode.forward()));
    return functions == null ? null : new MachineKernels(functions);
  }

  // ---------------------------------------------------------------- norms and rotation

  @Override
  public void rmsNorm(
      Floats x,
      @Nullable Floats added,
      Floats weight,
      double epsilon,
      Floats sum,
      Floats out,
      int width,
      long from,
      long to) {
    if (!isOfVectors(width)
        || !isTaken(x)
        || !isTaken(weight)
        || !isTaken(out)
        || (added != null && !(isTaken(added) && isTaken(sum)))) {
      super.rmsNorm(x, added, weight, epsilon, sum, out, width, from, to);
      return;
    }
    var factors = read(weight, 0, width);
    long atOnce = CALL / width;
    for (long row = from; row < to; row += atOnce) {
      long rows = Math.min(atOnce, to - row);
      long start = row * width;
      long count = rows * width;
      call(
          added == null ? norm : normOfSum,
          read(x, start, count),
          added == null ? MemorySegment.NULL : read(added, start, count),
          factors,
          added == null ? MemorySegment.NULL : written(sum, start, count),
          written(out, start, count),
          rows,
          width / VECTOR,
          0,
          0,
          Double.doubleToRawLongBits(width),
          Double.doubleToRawLongBits(epsilon));
    }
  }

  @Override
  public void normRotate(
      Floats x,
      @Nullable Floats weight,
      double epsilon,
      Rotations rotations,
      Floats out,
      int heads,
      int width,
      long from,
      long to) {
    int pairs = rotations.pairs();
    if (!isOfVectors(width)
        || pairs % VECTOR != 0
        || 2L * pairs > width
        || !isTaken(x)
        || (weight != null && !isTaken(weight))
        || !isTaken(out)
        || !rotations.cosines().isNative()
        || !rotations.sines().isNative()) {
      super.normRotate(x, weight, epsilon, rotations, out, heads, width, from, to);
      return;
    }
    var factors = weight == null ? MemorySegment.NULL : read(weight, 0, width);
    var cosines = Floats.float32(rotations.cosines());
    var sines = Floats.float32(rotations.sines());
    long atOnce = CALL / width;
    for (long row = from; row < to; ) {
      long position = row / heads % rotations.positions();
      long before = row % heads;
      // Whole tokens while positions follow one another, or heads of one token.
      long tokens = Math.min(to - row, atOnce) / heads;
      if (pairs > 0) {
        tokens = Math.min(tokens, rotations.positions() - position);
      }
      boolean whole = before == 0 && tokens > 0;
      long count = whole ? tokens : 1;
      long ofOne = whole ? heads : Math.min(heads - before, Math.min(to - row, atOnce));
      long numbers = count * ofOne * width;
      call(
          weight == null ? rotation : normAndRotation,
          read(x, row * width, numbers),
          factors,
          read(cosines, position * pairs, count * pairs),
          read(sines, position * pairs, count * pairs),
          written(out, row * width, numbers),
          count,
          ofOne,
          (long) pairs * Float.BYTES,
          (width - 2L * pairs) / VECTOR,
          Double.doubleToRawLongBits(width),
          Double.doubleToRawLongBits(epsilon));
      row += count * ofOne;
    }
  }

  // ---------------------------------------------------------------- gates

  @Override
  public void swiGlu(Floats gate, Floats up, Floats out, long from, long to) {
    if (!isTaken(gate) || !isTaken(up) || !isTaken(out)) {
      super.swiGlu(gate, up, out, from, to);
      return;
    }
    elements(swiGlu, gate, up, out, 0, 0, from, to);
  }

  @Override
  public void sigmoidGate(Floats y, Floats z, Floats out, int width, long from, long to) {
    if (!isTaken(y) || !isTaken(z) || !isTaken(out) || (width != 1 && !isOfVectors(width))) {
      super.sigmoidGate(y, z, out, width, from, to);
      return;
    }
    if (width == 1) {
      elements(gate, y, z, out, 0, 0, from, to);
      return;
    }
    long atOnce = CALL / width;
    for (long row = from; row < to; row += atOnce) {
      long rows = Math.min(atOnce, to - row);
      call(
          gateRows,
          read(y, row * width, rows * width),
          read(z, row, rows),
          MemorySegment.NULL,
          MemorySegment.NULL,
          written(out, row * width, rows * width),
          rows,
          width / VECTOR,
          0,
          0,
          0,
          0);
    }
  }

  @Override
  public void weightedSum(Floats x, float a, Floats y, float b, Floats out, long from, long to) {
    if (!isTaken(x) || !isTaken(y) || !isTaken(out)) {
      super.weightedSum(x, a, y, b, out, from, to);
      return;
    }
    elements(weightedSum, x, y, out, a, b, from, to);
  }

  private static void elements(
      MemorySegment function,
      Floats one,
      Floats other,
      Floats out,
      float a,
      float b,
      long from,
      long to) {
    for (long start = from; start < to; start += CALL) {
      long count = Math.min(CALL, to - start);
      call(
          function,
          read(one, start, count),
          read(other, start, count),
          MemorySegment.NULL,
          MemorySegment.NULL,
          written(out, start, count),
          0,
          count / VECTOR,
          0,
          tail(count),
          Float.floatToRawIntBits(a),
          Float.floatToRawIntBits(b));
    }
  }

  // ---------------------------------------------------------------- Gated DeltaNet

  @Override
  public boolean isDeltaStepMachineCode(int keyWidth, int valueWidth) {
    return isOfVectors(keyWidth) && isOfVectors(valueWidth) && keyWidth <= CALL / VECTOR;
  }

  @Override
  public void deltaStep(
      MemorySegment key,
      MemorySegment query,
      Floats value,
      float decay,
      float rate,
      MemorySegment state,
      Floats out,
      int keyWidth,
      int valueWidth) {
    if (!isDeltaStepMachineCode(keyWidth, valueWidth)
        || !key.isNative()
        || !query.isNative()
        || !isTaken(value)
        || !state.isNative()
        || !isTaken(out)) {
      super.deltaStep(key, query, value, decay, rate, state, out, keyWidth, valueWidth);
      return;
    }
    int atOnce = (int) (CALL / keyWidth) / VECTOR * VECTOR;
    for (int first = 0; first < valueWidth; first += atOnce) {
      int columns = Math.min(atOnce, valueWidth - first);
      int vectors = columns / VECTOR;
      call(
          deltaStep,
          read(Floats.float32(key), 0, keyWidth),
          read(Floats.float32(query), 0, keyWidth),
          read(value, first, columns),
          written(Floats.float32(state), first, (keyWidth - 1L) * valueWidth + columns),
          written(out, first, columns),
          keyWidth,
          vectors / DeltaCode.TOGETHER,
          (long) valueWidth * Float.BYTES,
          vectors % DeltaCode.TOGETHER,
          Float.floatToRawIntBits(decay),
          Float.floatToRawIntBits(rate));
    }
  }

  @Override
  public void convolutionStep(
      MemorySegment x,
      MemorySegment history,
      MemorySegment weight,
      MemorySegment out,
      int channels,
      int width,
      int from,
      int to) {
    if (width > MOST_TAPS
        || !x.isNative()
        || !history.isNative()
        || !weight.isNative()
        || !out.isNative()) {
      super.convolutionStep(x, history, weight, out, channels, width, from, to);
      return;
    }
    int atOnce = PRODUCTS / width / VECTOR * VECTOR;
    for (int first = from; first < to; first += atOnce) {
      int count = Math.min(atOnce, to - first);
      call(
          convolutionStep,
          read(Floats.float32(x), first, count),
          width == 1
              ? MemorySegment.NULL
              : written(Floats.float32(history), first, (width - 2L) * channels + count),
          read(Floats.float32(weight), first, (width - 1L) * channels + count),
          MemorySegment.NULL,
          written(Floats.float32(out), first, count),
          width - 1,
          count / VECTOR,
          (long) channels * Float.BYTES,
          tail(count),
          0,
          0);
    }
  }

  @Override
  public void causalConvolution(
      Floats x,
      @Nullable Floats history,
      Floats weight,
      Floats out,
      Convolution sizes,
      int from,
      int to) {
    int taps = sizes.width();
    if (sizes.starts() != null
        || taps > MOST_TAPS
        || !isTaken(x)
        || (history != null && !isTaken(history))
        || !isTaken(weight)
        || !isTaken(out)) {
      super.causalConvolution(x, history, weight, out, sizes, from, to);
      return;
    }
    int earlier = taps - 1;
    int channels = sizes.channels();
    int firstTokens = (int) Math.min(earlier, sizes.tokens());
    try (var arena = Arena.ofConfined()) {
      // The first tokens of a sequence after those before it, which are not in x.
      var begin = blocks(arena, earlier + firstTokens);
      var factors = blocks(arena, taps);
      for (int first = from; first < to; first += BLOCK) {
        int count = Math.min(BLOCK, to - first);
        call(
            convolutionFactors,
            read(weight, (long) first * taps, (long) count * taps),
            MemorySegment.NULL,
            MemorySegment.NULL,
            MemorySegment.NULL,
            factors.memory(),
            count,
            taps,
            0,
            0,
            0,
            0);
        for (long b = 0; b < sizes.batch(); b++) {
          if (history != null) {
            long at = b * earlier * channels + first;
            copyRows(history, at, channels, begin, 0, earlier, count);
          }
          long at = b * sizes.tokens() * channels + first;
          copyRows(x, at, channels, begin, earlier, firstTokens, count);
          convolve(begin, 0, BLOCK, factors, out, at, sizes, firstTokens, count);
          long later = at + (long) firstTokens * channels;
          long tokens = sizes.tokens() - firstTokens;
          convolve(x, at, channels, factors, out, later, sizes, tokens, count);
        }
      }
    }
  }

  private static Floats blocks(Arena arena, int rows) {
    return Floats.float32(arena.allocate((long) rows * BLOCK * Float.BYTES, Float.BYTES * VECTOR));
  }

  private static void copyRows(
      Floats from, long at, int stride, Floats blocks, int firstRow, int rows, int count) {
    for (int i = 0; i < rows; i++) {
      MemorySegment.copy(
          from.memory(),
          (at + (long) i * stride) * Float.BYTES,
          blocks.memory(),
          (long) (firstRow + i) * BLOCK * Float.BYTES,
          (long) count * Float.BYTES);
    }
  }

  /// The results of some tokens, from `to` on, of the rows from `at` on.
  private void convolve(
      Floats rows,
      long at,
      int stride,
      Floats factors,
      Floats out,
      long to,
      Convolution sizes,
      long tokens,
      int count) {
    int taps = sizes.width();
    int channels = sizes.channels();
    long atOnce = PRODUCTS / BLOCK / taps;
    for (long t = 0; t < tokens; t += atOnce) {
      long its = Math.min(atOnce, tokens - t);
      call(
          convolution,
          read(rows, at + t * stride, (its + taps - 2) * stride + count),
          MemorySegment.NULL,
          factors.memory(),
          MemorySegment.NULL,
          written(out, to + t * channels, (its - 1) * channels + count),
          its,
          count / VECTOR,
          (long) stride * Float.BYTES,
          tail(count),
          taps,
          (long) channels * Float.BYTES);
    }
  }

  // ---------------------------------------------------------------- what needs no arithmetic

  @Override
  public void copy(Floats x, Floats out, long from, long to) {
    if (x.bfloat16() || out.bfloat16()) {
      super.copy(x, out, from, to);
    } else if (from < to) {
      long bytes = (to - from) * Float.BYTES;
      long at = from * Float.BYTES;
      MemorySegment.copy(x.memory(), at, out.memory(), at, bytes);
    }
  }

  @Override
  public void dequantize(StoredMatrix w, long from, long to, Floats out) {
    boolean isCopy = w.format() == WeightFormat.F32 && w.order() == StoredMatrix.Order.ROWS;
    if (isCopy && w.isWhole() && !out.bfloat16()) {
      MemorySegment.copy(w.data(), w.offset(from), out.memory(), 0, (to - from) * w.rowBytes());
    } else if ((to - from) * w.columns() <= FEW) {
      DEFINITION.dequantize(w, from, to, out);
    } else {
      super.dequantize(w, from, to, out);
    }
  }

  // ---------------------------------------------------------------- calls

  private static boolean isOfVectors(int width) {
    return width > 0 && width % VECTOR == 0 && width <= CALL;
  }

  private static boolean isTaken(Floats floats) {
    return !floats.bfloat16() && floats.memory().isNative();
  }

  private static MemorySegment read(Floats floats, long start, long count) {
    return floats.memory().asSlice(start * Float.BYTES, count * Float.BYTES);
  }

  private static MemorySegment written(Floats floats, long start, long count) {
    if (floats.memory().isReadOnly()) {
      throw new UnsupportedOperationException("memory that is only read");
    }
    return read(floats, start, count);
  }

  /// Which lanes of the last vector are numbers, where it is not whole.
  private static long tail(long count) {
    return (1L << count % VECTOR) - 1;
  }

  /// @param inR9 the first of the numbers, which is in that register; the others are so many bytes
  ///   behind the return address
  private static void call(
      MemorySegment function,
      MemorySegment first,
      MemorySegment second,
      MemorySegment third,
      MemorySegment fourth,
      MemorySegment out,
      long inR9,
      long at8,
      long at16,
      long at24,
      long at32,
      long at40) {
    try {
      FUNCTION.invokeExact(
          function, first, second, third, fourth, out, inR9, at8, at16, at24, at32, at40);
    } catch (Throwable e) {
      throw MachineCode.unexpected(e);
    }
  }
}
