package dev.sluice.kernel;

import java.lang.foreign.AddressLayout;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// The kernels with those that a model runs beside its products and its attention in the machine
/// code of [RowCode], which is fast from its first call on: the Vector API's code takes a second to
/// be compiled. Everything else is left to the kernels that there are without.
///
/// Float32 numbers outside the heap and rows of whole vectors are taken, else the others compute.
/// Where the Vector API has vectors of 64 bytes, both give the same bits. See
/// `docs/decisions/0035-row-kernels-in-machine-code.md`.
public final class MachineKernels extends DeferredKernels {
  private static final int VECTOR = 16;

  /// Numbers of a call: some 50 microseconds, since nobody can stop a thread in it.
  private static final long CALL = 1 << 16;

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

  private MachineKernels(List<MemorySegment> functions) {
    this.norm = functions.get(0);
    this.normOfSum = functions.get(1);
    this.rotation = functions.get(2);
    this.normAndRotation = functions.get(3);
    this.swiGlu = functions.get(4);
    this.gate = functions.get(5);
    this.gateRows = functions.get(6);
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
                RowCode.gateRows()));
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
          width,
          epsilon);
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
          width,
          epsilon);
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
    elements(swiGlu, gate, up, out, from, to);
  }

  @Override
  public void sigmoidGate(Floats y, Floats z, Floats out, int width, long from, long to) {
    if (!isTaken(y) || !isTaken(z) || !isTaken(out) || (width != 1 && !isOfVectors(width))) {
      super.sigmoidGate(y, z, out, width, from, to);
      return;
    }
    if (width == 1) {
      elements(gate, y, z, out, from, to);
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

  private static void elements(
      MemorySegment function, Floats one, Floats other, Floats out, long from, long to) {
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
          (1 << count % VECTOR) - 1,
          0,
          0);
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
    if ((to - from) * w.columns() <= FEW) {
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

  private static void call(
      MemorySegment function,
      MemorySegment first,
      MemorySegment second,
      MemorySegment third,
      MemorySegment fourth,
      MemorySegment out,
      long rows,
      long vectors,
      long pairBytes,
      long rest,
      int width,
      double epsilon) {
    try {
      FUNCTION.invokeExact(
          function,
          first,
          second,
          third,
          fourth,
          out,
          rows,
          vectors,
          pairBytes,
          rest,
          Double.doubleToRawLongBits(width),
          Double.doubleToRawLongBits(epsilon));
    } catch (Throwable e) {
      throw MachineCode.unexpected(e);
    }
  }
}
