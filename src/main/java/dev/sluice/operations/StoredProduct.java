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
import java.util.function.LongFunction;
import org.jspecify.annotations.Nullable;

/// Products with weights that stay as their file has them, without gradients.
///
/// A few rows, as in decoding, are multiplied with the weights as they are, in float32, or with 16
/// bits where [MachineProducts] has whole numbers in blocks: the time is that of reading them once.
/// So are any number of float32 rows with weights in strips. Each row is then rounded as it would
/// be alone.
///
/// Many rows, as of a prompt, with other weights are multiplied by oneDNN with a panel of weights
/// after the other, brought into the product's element type; then a row's sum is rounded in another
/// way than when it comes alone.
///
/// Many rows of float32 and weights in blocks are multiplied in halves where the processor has
/// units for bfloat16 matrices: each number is the sum of two bfloat16 ones but for 2⁻¹⁸ of it, and
/// `x w ≈ xₕ wₕ + xₕ wₗ + xₗ wₕ`, products that are exact and are summed in float32. What is left
/// out is at most 2⁻¹⁶ of `Σ |x w|`, as much as the 16 bits of few rows leave out, and three such
/// products are faster than one of float32.
final class StoredProduct {
  /// Rows up to which weights of every format are multiplied as they are.
  static final int FEW = 16;

  /// Rows of float32 up to which weights that are numbers each are multiplied as they are; beyond,
  /// panels in float32 pay. 17 rows take a Qwen3 of 0.6 B in bfloat16 0.22 s for 0.35 s, and the
  /// first of a process 2.5 s for 3.2 s.
  private static final int FEW_WHOLE = 32;

  /// Weights below which a second thread costs more than it saves.
  static final long GRAIN = 1 << 15;

  /// Rows of a panel.
  private static final long PANEL = 128;

  private StoredProduct() {}

  /// `x Wᵢᵀ` for several weights.
  ///
  /// @param x `[…, in]`
  /// @param type of many rows in the product, and of the weights there: float32 or bfloat16
  static List<Tensor> apply(
      Tensor x, List<StoredMatrix> weights, ElementType type, ElementType resultType) {
    long rows = x.elements() / x.size(-1);
    // where all are multiplied as they are, oneDNN need not be loaded
    boolean asStored = weights.stream().allMatch(weight -> asStored(rows, type, weight));
    return apply(x, weights, type, resultType, !asStored && MatrixProduct.hasBfloat16Units());
  }

  /// Whether a weight is multiplied as it is, each row as it would be alone.
  static boolean asStored(long rows, ElementType type, StoredMatrix weight) {
    if (rows <= FEW) {
      return true;
    }
    var machine = MachineProducts.here();
    if (type != ElementType.FLOAT32 || machine == null || !machine.takes(weight)) {
      return false;
    }
    return isInBlocks(weight)
        ? weight.order() == StoredMatrix.Order.STRIPS
        : rows <= FEW_WHOLE && weight.format() != WeightFormat.F32; // which needs no panels
  }

  /// @param inHalves whether float32 is multiplied with weights in blocks by halves
  static List<Tensor> apply(
      Tensor x,
      List<StoredMatrix> weights,
      ElementType type,
      ElementType resultType,
      boolean inHalves) {
    if (FusedOp.recording(List.of(x), List.of())) {
      throw new IllegalArgumentException("products with stored weights have no gradients");
    }
    long rows = x.elements() / x.size(-1);
    var ys = new ArrayList<Tensor>();
    var stored = new ArrayList<StoredMatrix>();
    var storedYs = new ArrayList<Tensor>();
    var others = new ArrayList<StoredMatrix>();
    var otherYs = new ArrayList<Matrix>();
    for (var weight : weights) {
      long[] shape = x.shape();
      shape[shape.length - 1] = weight.rows();
      boolean asStored = asStored(rows, type, weight);
      var y = Tensor.uninitialized(x, asStored ? ElementType.FLOAT32 : resultType, shape);
      ys.add(y);
      if (asStored) {
        stored.add(weight);
        storedYs.add(y);
      } else {
        others.add(weight);
        otherYs.add(Matrix.of(y));
      }
    }
    try (var _ = Operation.begin("stored product", Operation.FORWARD)) {
      if (!stored.isEmpty()) {
        direct(x.to(ElementType.FLOAT32).contiguous(), (int) rows, stored, storedYs);
        ys.replaceAll(y -> y.to(resultType));
      }
      if (!others.isEmpty()) {
        var input = x.to(type).contiguous();
        boolean halved =
            inHalves
                && type == ElementType.FLOAT32
                && others.stream().anyMatch(StoredProduct::isInBlocks);
        many(Matrix.of(input), halved ? Halves.of(input) : null, others, otherYs);
      }
      return ys;
    }
  }

  private static void direct(Tensor x, int inputs, List<StoredMatrix> weights, List<Tensor> ys) {
    var product =
        new DirectProduct(
            weights, x.memory(), inputs, ys.stream().map(Tensor::memory).toList(), scratch());
    product.begin(inputs);
    Threads.split(product.vectors(), Math.ceilDiv(GRAIN, x.size(-1)), product::arrange);
    Threads.share(product.rows(), product.grain(), product.piece(), product::multiply);
  }

  /// Memory of this thread for what a product needs on its way, until the next one begins.
  static LongFunction<MemorySegment> scratch() {
    var number = new int[1];
    return bytes ->
        Scratch.numbers("product " + number[0]++, Math.ceilDiv(bytes, 4L), false)
            .memory()
            .asSlice(0, bytes);
  }

  /// The panels of all weights are shared among the threads at once.
  private static void many(
      Matrix x, @Nullable Halves halves, List<StoredMatrix> weights, List<Matrix> ys) {
    long[] starts = new long[weights.size() + 1];
    for (int i = 0; i < weights.size(); i++) {
      starts[i + 1] = starts[i] + Math.ceilDiv(weights.get(i).rows(), PANEL);
    }
    Threads.share(
        starts[weights.size()],
        1,
        1,
        (first, last) -> {
          for (int i = 0; i < weights.size(); i++) {
            for (long panel = Math.max(first, starts[i]);
                panel < Math.min(last, starts[i + 1]);
                panel++) {
              panel(x, halves, weights.get(i), (panel - starts[i]) * PANEL, ys.get(i));
            }
          }
        });
  }

  /// The columns of y of a panel's rows.
  ///
  /// @param halves of x where it has them
  /// @param from the first of them
  private static void panel(
      Matrix x, @Nullable Halves halves, StoredMatrix weight, long from, Matrix y) {
    boolean bfloat16 = x.elements().bfloat16();
    long to = Math.min(weight.rows(), from + PANEL);
    var columns = y.columns(from, to);
    if (weight.isWhole() && weight.format() == (bfloat16 ? WeightFormat.BF16 : WeightFormat.F32)) {
      var all = Matrix.of(new Floats(weight.data(), bfloat16), weight.rows(), weight.columns());
      MatrixProduct.multiply(x, all.rows(from, to).transposed(), columns, false);
      return;
    }
    long count = (to - from) * weight.columns();
    var numbers = Scratch.numbers("panel", count, bfloat16);
    Kernels.FASTEST.dequantize(weight, from, to, numbers);
    if (halves == null || !isInBlocks(weight)) {
      MatrixProduct.multiply(x, asInputs(numbers, weight, to - from), columns, false);
      return;
    }
    var high = Scratch.numbers("panel's high half", count, true);
    var low = Scratch.numbers("panel's low half", count, true);
    Halves.split(numbers, high, low, 0, count);
    var highPanel = asInputs(high, weight, to - from);
    var lowPanel = asInputs(low, weight, to - from);
    MatrixProduct.multiply(halves.low, highPanel, columns, false);
    MatrixProduct.multiply(halves.high, lowPanel, columns, true);
    MatrixProduct.multiply(halves.high, highPanel, columns, true);
  }

  /// A panel's numbers as `[in, rows]`.
  private static Matrix asInputs(Floats panel, StoredMatrix weight, long rows) {
    return Matrix.of(panel, rows, weight.columns()).transposed();
  }

  private static boolean isInBlocks(StoredMatrix weight) {
    return weight.format().blockLength() > 1;
  }

  /// Float32 numbers as sums of two bfloat16 ones: the nearest, and the nearest to what is left.
  private record Halves(Matrix high, Matrix low) {
    static Halves of(Tensor x) {
      var high = Tensor.uninitialized(x, ElementType.BFLOAT16, x.shape());
      var low = Tensor.uninitialized(x, ElementType.BFLOAT16, x.shape());
      var numbers = x.numbers();
      Threads.split(
          x.elements(),
          GRAIN,
          (from, to) -> split(numbers, high.numbers(), low.numbers(), from, to));
      return new Halves(Matrix.of(high), Matrix.of(low));
    }

    static void split(Floats x, Floats high, Floats low, long from, long to) {
      Kernels.FASTEST.copy(x, high, from, to);
      Kernels.FASTEST.weightedSum(x, 1, high, -1, low, from, to);
    }
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
