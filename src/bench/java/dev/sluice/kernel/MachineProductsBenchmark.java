package dev.sluice.kernel;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.SplittableRandom;
import java.util.concurrent.TimeUnit;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorOperators;
import org.jspecify.annotations.Nullable;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OperationsPerInvocation;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/// Stored weights that no cache holds, times a few vectors: machine code against the definition,
/// whose rows are dequantised and then multiplied with the Vector API. An operation is a byte of
/// weights, so that the score is in GB/s; times the inputs, it is in proportion to tokens. `F32` is
/// nearly a pure read.
@State(Scope.Benchmark)
@BenchmarkMode(Mode.Throughput)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Warmup(iterations = 2, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(1)
public class MachineProductsBenchmark {
  private static final int BYTES = 1 << 28;

  /// Inputs that are multiplied with rows at once.
  private static final int EIGHT = 8;

  @Param({"F32", "BF16", "F16", "Q8_0", "Q4_0", "Q4_K", "Q6_K", "MXFP4", "I4_64", "I4_128", "E4M3"})
  private WeightFormat format;

  @Param({"1", "4", "8", "16"})
  private int inputs;

  @Param({"1024", "3072"})
  private int columns;

  /// Bytes that an input keeps, where weights are in blocks.
  @Param({"2", "1"})
  private int digits;

  private final MachineProducts products = Objects.requireNonNull(MachineProducts.here());
  private Arena arena;
  private long rowBytes;
  private long rows;
  private MemorySegment weights;
  private float[][] x;
  private final List<MachineProducts.Inputs> arranged = new ArrayList<>();
  private @Nullable StoredMatrix strips;
  private MachineProducts.@Nullable Inputs inStrips;
  private MemorySegment y;

  @Setup
  public void setUp() {
    arena = Arena.ofShared();
    rowBytes = format.bytes(columns);
    rows = BYTES / rowBytes;
    var random = new SplittableRandom(1);
    float[] row = new float[columns];
    weights = arena.allocate(rows * rowBytes, 64);
    for (int r = 0; r < 16; r++) {
      fill(row, random);
      if (format.isMade()) {
        format.quantize(row, 0, columns, weights, r * rowBytes);
      } else { // any numbers of usual scales
        byte[] bytes = new byte[(int) rowBytes];
        random.nextBytes(bytes);
        for (int at = 0; at < bytes.length; at += format.blockBytes()) {
          if (format.isOfGguf()) {
            bytes[at] = 122; // the scale of MXFP4
          } else {
            MemorySegment.ofArray(bytes).set(ValueLayout.JAVA_FLOAT_UNALIGNED, at, 0x1p-5f);
          }
        }
        MemorySegment.copy(bytes, 0, weights, ValueLayout.JAVA_BYTE, r * rowBytes, bytes.length);
      }
    }
    for (long r = 16; r < rows; r++) {
      MemorySegment.copy(weights, r % 16 * rowBytes, weights, r * rowBytes, rowBytes);
    }
    x = new float[inputs][columns];
    var given = arena.allocate((long) inputs * columns * Float.BYTES);
    for (int i = 0; i < inputs; i++) {
      fill(x[i], random);
      long at = (long) i * columns * Float.BYTES;
      MemorySegment.copy(x[i], 0, given, ValueLayout.JAVA_FLOAT, at, columns);
    }
    var memory = arena.allocate(MachineProducts.arrangedBytes(format, columns, inputs), 64);
    var order = StoredMatrix.Order.ROWS;
    for (int first = 0; first < inputs; first += EIGHT) {
      int count = Math.min(EIGHT, inputs - first);
      var some = given.asSlice((long) first * columns * Float.BYTES);
      var its = memory.asSlice(MachineProducts.arrangedBytes(format, columns, first));
      arranged.add(products.arrange(format, order, digits, some, columns, columns, count, its));
    }
    var matrix = new StoredMatrix(format, weights, rows / 16 * 16, columns).withDigits(digits);
    if (matrix.isToBePacked()) {
      strips = matrix.packed(arena.allocate(matrix.bytes(), 64));
      if (products.atOnce(strips, inputs) == inputs) {
        var its = arena.allocate(memory.byteSize(), 64);
        inStrips =
            products.arrange(format, strips.order(), digits, given, columns, columns, inputs, its);
      }
    }
    y = arena.allocate(rows * inputs * Float.BYTES);
  }

  private static void fill(float[] numbers, SplittableRandom random) {
    for (int i = 0; i < numbers.length; i++) {
      numbers[i] = (float) random.nextGaussian();
    }
  }

  @TearDown
  public void tearDown() {
    arena.close();
  }

  @Benchmark
  @OperationsPerInvocation(BYTES)
  public void machineCode() {
    Threads.split(
        rows,
        64,
        (from, to) -> {
          for (int i = 0; i < arranged.size(); i++) {
            products.multiply(
                format,
                weights,
                from * rowBytes,
                rowBytes,
                to - from,
                arranged.get(i),
                y.asSlice((EIGHT * i * rows + from) * Float.BYTES),
                rows);
          }
        });
  }

  /// Fails for formats that have no strips, and with sixteen inputs where there are no tiles.
  @Benchmark
  @OperationsPerInvocation(BYTES)
  public void machineCodeInStrips() {
    var matrix = Objects.requireNonNull(strips, () -> format + " has no strips");
    var its = Objects.requireNonNull(inStrips);
    Threads.split(
        matrix.rows() / 16,
        4,
        (from, to) ->
            products.multiplyStrips(
                matrix, 16 * from, 16 * (to - from), its, y.asSlice(64 * from), rows));
  }

  @Benchmark
  @OperationsPerInvocation(BYTES)
  public void definition() {
    Threads.split(
        rows,
        64,
        (from, to) -> {
          float[] row = new float[columns];
          for (long r = from; r < to; r++) {
            format.dequantize(weights, r * rowBytes, columns, row, 0);
            for (int i = 0; i < inputs; i++) {
              y.setAtIndex(ValueLayout.JAVA_FLOAT, i * rows + r, dot(row, x[i]));
            }
          }
        });
  }

  private static float dot(float[] a, float[] b) {
    var species = FloatVector.SPECIES_PREFERRED;
    var sums = FloatVector.zero(species);
    for (int c = 0; c < a.length; c += species.length()) {
      sums = FloatVector.fromArray(species, a, c).fma(FloatVector.fromArray(species, b, c), sums);
    }
    return sums.reduceLanes(VectorOperators.ADD);
  }
}
