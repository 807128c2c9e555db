package dev.sluice.operations;

import dev.sluice.kernel.Floats;
import dev.sluice.kernel.Kernels;
import dev.sluice.kernel.MachineProducts;
import dev.sluice.kernel.StoredMatrix;
import dev.sluice.kernel.Threads;
import dev.sluice.kernel.WeightFormat;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.MatrixProduct;
import dev.sluice.tensor.MatrixProduct.Matrix;
import dev.sluice.tensor.Operation;
import dev.sluice.tensor.Scratch;
import dev.sluice.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.function.LongFunction;
import org.jspecify.annotations.Nullable;

/// Products with weights that stay as their file has them, without gradients.
///
/// A few rows, as in decoding, are multiplied with the weights as they are, in float32, or with 16
/// bits where [MachineProducts] has weights in blocks: the time is that of reading them once. Many
/// rows, as of a prompt, are multiplied by oneDNN with a panel of weights after the other, brought
/// into the product's element type; then a row's sum is rounded in another way than when it comes
/// alone.
final class StoredProduct {
  /// Rows up to which the weights are multiplied as they are.
  static final int FEW = 8;

  /// Weights below which a second thread costs more than it saves.
  private static final long GRAIN = 1 << 15;

  /// Products of a piece: some ten microseconds, in which memory is read in one stretch.
  private static final long PIECE = 1 << 18;

  /// Rows of which all threads' pieces are multiples.
  private static final long ALIGNED = 16;

  /// Rows of a panel.
  private static final long PANEL = 128;

  private StoredProduct() {}

  /// `x Wᵢᵀ` for several weights.
  ///
  /// @param x `[…, in]`
  /// @param type of many rows in the product, and of the weights there: float32 or bfloat16
  static List<Tensor> apply(
      Tensor x, List<StoredMatrix> weights, ElementType type, ElementType resultType) {
    if (FusedOp.recording(List.of(x), List.of())) {
      throw new IllegalArgumentException("products with stored weights have no gradients");
    }
    long rows = x.elements() / x.size(-1);
    boolean few = rows <= FEW;
    var ys = new ArrayList<Tensor>();
    for (var weight : weights) {
      long[] shape = x.shape();
      shape[shape.length - 1] = weight.rows();
      ys.add(Tensor.uninitialized(x, few ? ElementType.FLOAT32 : resultType, shape));
    }
    try (var _ = Operation.begin("stored product", Operation.FORWARD)) {
      if (few) {
        few(x.to(ElementType.FLOAT32).contiguous(), (int) rows, weights, ys);
        ys.replaceAll(y -> y.to(resultType));
      } else {
        var xs = Matrix.of(x.to(type).contiguous());
        for (int i = 0; i < ys.size(); i++) {
          many(xs, weights.get(i), Matrix.of(ys.get(i)));
        }
      }
      return ys;
    }
  }

  /// Products of a few vectors with several weights: first the vectors are arranged, then all rows
  /// of all weights are shared among the threads at once.
  static final class Few {
    private final @Nullable MachineProducts machine = MachineProducts.here();
    private final List<StoredMatrix> weights;
    private final MemorySegment x;
    private final int inputs;
    private final List<Threads.Part> parts = new ArrayList<>();
    private final List<Arranged> arranged = new ArrayList<>();
    private final long[] starts;
    private final long columns;

    /// The vectors in the order that some of the weights' formats ask for.
    private static final class Arranged {
      final StoredMatrix of;
      final MemorySegment memory;
      MachineProducts.@Nullable Inputs inputs;

      Arranged(StoredMatrix of, MemorySegment memory) {
        this.of = of;
        this.memory = memory;
      }
    }

    /// @param x float32 `[inputs, columns]`
    /// @param ys float32, `[inputs, rows]` of each weight
    /// @param memory gives so many bytes, where the vectors are arranged
    Few(
        List<StoredMatrix> weights,
        MemorySegment x,
        int inputs,
        List<MemorySegment> ys,
        LongFunction<MemorySegment> memory) {
      this.weights = weights;
      this.x = x;
      this.inputs = inputs;
      this.columns = weights.getFirst().columns();
      this.starts = new long[weights.size() + 1];
      for (int i = 0; i < weights.size(); i++) {
        starts[i + 1] = starts[i] + Math.ceilDiv(weights.get(i).rows(), ALIGNED) * ALIGNED;
        parts.add(part(weights.get(i), ys.get(i), memory));
      }
    }

    private Threads.Part part(
        StoredMatrix weight, MemorySegment y, LongFunction<MemorySegment> memory) {
      if (machine == null || !machine.takes(weight.format())) {
        return (first, last) ->
            Kernels.FASTEST.storedProduct(weight, x, inputs, y, weight.rows(), first, last);
      }
      var own = arranged(weight, memory);
      return (first, last) ->
          inMachineCode(machine, weight, Objects.requireNonNull(own.inputs), y, first, last);
    }

    /// Those of another weight where they are the same.
    private Arranged arranged(StoredMatrix weight, LongFunction<MemorySegment> memory) {
      for (var other : arranged) {
        if (MachineProducts.arrangedAlike(weight, other.of)) {
          return other;
        }
      }
      long bytes = MachineProducts.arrangedBytes(weight.format(), columns, inputs);
      arranged.add(new Arranged(weight, memory.apply(bytes)));
      return arranged.getLast();
    }

    /// Takes up what the vectors are now.
    void arrange() {
      for (var each : arranged) {
        each.inputs =
            Objects.requireNonNull(machine)
                .arrange(
                    each.of.format(), each.of.order(), x, columns, columns, inputs, each.memory);
      }
    }

    /// All rows of all weights, with those that are missing to a multiple of [#ALIGNED].
    long rows() {
      return starts[weights.size()];
    }

    /// Rows for which a thread is worth its start.
    long grain() {
      return Math.ceilDiv(GRAIN, columns);
    }

    /// Rows of a piece, which may begin at multiples of it.
    long piece() {
      return Math.ceilDiv(PIECE, columns * inputs * ALIGNED) * ALIGNED;
    }

    /// Multiplies some of all rows.
    void multiply(long first, long last) {
      for (int i = 0; i < parts.size(); i++) {
        long from = Math.max(first, starts[i]);
        long to = Math.min(last, starts[i] + weights.get(i).rows());
        if (from < to) {
          parts.get(i).run(from - starts[i], to - starts[i]);
        }
      }
    }
  }

  private static void few(Tensor x, int inputs, List<StoredMatrix> weights, List<Tensor> ys) {
    var number = new int[1];
    var few =
        new Few(
            weights,
            x.memory(),
            inputs,
            ys.stream().map(Tensor::memory).toList(),
            bytes ->
                Scratch.numbers("arranged " + number[0]++, Math.ceilDiv(bytes, 4L), false)
                    .memory());
    few.arrange();
    Threads.share(few.rows(), few.grain(), few.piece(), few::multiply);
  }

  private static void inMachineCode(
      MachineProducts machine,
      StoredMatrix weight,
      MachineProducts.Inputs x,
      MemorySegment y,
      long first,
      long last) {
    if (weight.order() == StoredMatrix.Order.STRIPS) {
      machine.multiplyStrips(
          weight, first, last - first, x, y.asSlice(first * Float.BYTES), weight.rows());
      return;
    }
    for (long row = first; row < last; ) {
      long count = Math.min(last, (row / weight.together() + 1) * weight.together()) - row;
      machine.multiply(
          weight.format(),
          weight.data(),
          weight.offset(row),
          weight.rowBytes(),
          count,
          x,
          y.asSlice(row * Float.BYTES),
          weight.rows());
      row += count;
    }
  }

  private static void many(Matrix x, StoredMatrix weight, Matrix y) {
    boolean bfloat16 = x.elements().bfloat16();
    if (weight.isWhole() && weight.format() == (bfloat16 ? WeightFormat.BF16 : WeightFormat.F32)) {
      var all = Matrix.of(new Floats(weight.data(), bfloat16), weight.rows(), weight.columns());
      MatrixProduct.split(x, all.transposed(), y, false);
      return;
    }
    Threads.split(
        Math.ceilDiv(weight.rows(), PANEL),
        1,
        (first, last) -> {
          for (long panel = first; panel < last; panel++) {
            long from = panel * PANEL;
            long to = Math.min(weight.rows(), from + PANEL);
            var numbers = Scratch.numbers("panel", PANEL * weight.columns(), bfloat16);
            Kernels.FASTEST.dequantize(weight, from, to, numbers);
            var rows = Matrix.of(numbers, to - from, weight.columns());
            MatrixProduct.multiply(x, rows.transposed(), y.columns(from, to), false);
          }
        });
  }

  /// The rows of a stored table at `ids`, float32.
  ///
  /// @param idsBT int64
  /// @return `[B, T, in]`
  static Tensor rows(StoredMatrix table, Tensor idsBT) {
    var ids = idsBT.contiguous();
    var y =
        Tensor.uninitialized(ids, ElementType.FLOAT32, ids.size(0), ids.size(1), table.columns());
    long[] at = ids.longs();
    var numbers = y.numbers();
    Threads.split(
        at.length,
        Math.ceilDiv(GRAIN, table.columns()),
        (first, last) -> {
          for (int i = (int) first; i < last; i++) {
            if (at[i] < 0 || at[i] >= table.rows()) {
              throw new IndexOutOfBoundsException(
                  "token %d of a table of %d".formatted(at[i], table.rows()));
            }
            Kernels.FASTEST.dequantize(table, at[i], at[i] + 1, numbers.from(i * table.columns()));
          }
        });
    return y;
  }
}
