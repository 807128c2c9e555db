package dev.sluice.operations;

import dev.sluice.kernel.Floats;
import dev.sluice.kernel.Kernels;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.MatrixProduct;
import dev.sluice.tensor.MatrixProduct.Matrix;
import dev.sluice.tensor.Scratch;
import dev.sluice.tensor.Tensor;

/// Brings all singular values of a matrix near one and leaves its singular vectors as they are:
/// five steps `X ← aX + (bA + cA²)X` with `A = XXᵀ`, from `X / ‖X‖` on (Keller Jordan, "Muon: An
/// optimizer for hidden layers in neural networks", 2024).
///
/// The coefficients make small singular values grow fast and do not bring any to one itself: those
/// that are at least about 1/100 of the norm end between 0.68 and 1.14.
final class NewtonSchulz {
  private static final int STEPS = 5;
  private static final double A = 3.4445;
  private static final double B = -4.7750;
  private static final double C = 2.0315;

  /// Added to the norm: a matrix of zeros stays one, and a momentum that nothing feeds any more
  /// fades out instead of being followed at full length for ever.
  private static final double EPSILON = 1e-7;

  private NewtonSchulz() {}

  /// The definition. The result has x's element type, and so has every sum of products.
  ///
  /// @param x a matrix
  /// @param type of what goes into products
  static Tensor composed(Tensor x, ElementType type) {
    if (x.size(0) > x.size(1)) { // so that A is the smaller of the two
      return composed(x.transpose(0, 1), type).transpose(0, 1);
    }
    var y = x.times(1 / (x.norm().item() + EPSILON));
    for (int step = 0; step < STEPS; step++) {
      var narrow = y.to(type);
      var gram = narrow.matmul(narrow.transpose(0, 1));
      var square = gram.matmul(gram).to(x.type());
      var polynomial = gram.to(x.type()).times(B).plus(square.times(C));
      y = narrow.to(x.type()).times(A).plus(polynomial.to(type).matmul(narrow).to(x.type()));
    }
    return y;
  }

  /// The same in place on the calling thread. Sums of products are float32, and what goes into
  /// products is rounded once.
  ///
  /// @param y float32, row by row
  static void apply(Floats y, long rows, long columns, ElementType type) {
    var kernels = Kernels.FASTEST;
    boolean bfloat16 = type == ElementType.BFLOAT16;
    long elements = rows * columns;
    boolean tall = rows > columns; // then A = XᵀX and X ← aX + X(bA + cA²), which is the same
    long side = tall ? columns : rows;
    var narrow = Scratch.numbers("matrix for products", elements, bfloat16);
    var gram = Scratch.numbers("gram matrix", side * side, false);
    var square = Scratch.numbers("its square", side * side, false);
    var factor = Scratch.numbers("gram matrix for products", side * side, bfloat16);
    var x = Matrix.of(narrow, rows, columns);
    var result = Matrix.of(y, rows, columns);
    var small = Matrix.of(factor, side, side);
    double norm = Math.sqrt(kernels.squareSum(y.memory(), 0, elements));
    float scale = (float) (1 / (norm + EPSILON));
    for (int step = 0; step < STEPS; step++) {
      kernels.weightedSum(y, step == 0 ? scale : 1, y, 0, narrow, 0, elements);
      MatrixProduct.multiply(
          tall ? x.transposed() : x, tall ? x : x.transposed(), Matrix.of(gram, side, side), false);
      kernels.copy(gram, factor, 0, side * side);
      MatrixProduct.multiply(small, small, Matrix.of(square, side, side), false);
      kernels.weightedSum(gram, (float) B, square, (float) C, factor, 0, side * side);
      kernels.weightedSum(narrow, (float) A, narrow, 0, y, 0, elements);
      MatrixProduct.multiply(tall ? x : small, tall ? small : x, result, true);
    }
  }
}
