package dev.sluice.operations;

import dev.sluice.kernel.Kernels;
import dev.sluice.kernel.StoredMatrix;
import dev.sluice.kernel.Threads;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.MatrixProduct;
import dev.sluice.tensor.MatrixProduct.Matrix;
import dev.sluice.tensor.Scratch;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// Products of one input with several weights, `yᵢ = x Wᵢᵀ`, as one operation. The input's gradient
/// `Σ dyᵢ Wᵢ` is summed in float32, the weights' gradients `dyᵢᵀ x` are added where they belong.
final class Linear {
  /// Rows of dx that are summed at a time, so that the float32 sum stays in a core's cache.
  private static final long BLOCK = 256;

  private Linear() {}

  /// The definition, by libtorch; with `float32` in the type that the tensors have.
  static List<Tensor> composed(Tensor x, List<Weight> weights, ElementType type) {
    if (type == ElementType.FLOAT32) {
      return weights.stream().map(weight -> x.linear(weight.leaf())).toList();
    }
    var input = x.to(type);
    return weights.stream().map(weight -> input.linear(weight.recorded(type))).toList();
  }

  /// [#apply(Tensor, List, ElementType, ElementType)] with inputs and results of one type.
  static List<Tensor> apply(Tensor x, List<Weight> weights, ElementType type) {
    return apply(x, weights, type, type);
  }

  /// @param x `[…, in]`
  /// @param weights `[outᵢ, in]`; stored ones are taken as [StoredProduct] says
  /// @param type float32 or bfloat16, in which the products' inputs are stored
  /// @param resultType in which their results are
  static List<Tensor> apply(
      Tensor x, List<Weight> weights, ElementType type, ElementType resultType) {
    var stored = new ArrayList<StoredMatrix>();
    for (var weight : weights) {
      var matrix = weight.stored();
      if (matrix != null) {
        stored.add(matrix);
      }
    }
    if (stored.size() == weights.size()) {
      return StoredProduct.apply(x, stored, type, resultType);
    }
    if (!stored.isEmpty()) {
      return weights.stream()
          .map(weight -> apply(x, List.of(weight), type, resultType).getFirst())
          .toList();
    }
    var input = x.to(type).contiguous();
    var leaves = weights.stream().map(Weight::leaf).toList();
    return FusedOp.apply(
        "linear",
        List.of(input),
        leaves,
        () -> {
          var cast = weights.stream().map(weight -> weight.of(type)).toList();
          var xs = Matrix.of(input);
          var outputs = new ArrayList<Tensor>();
          for (var weight : cast) {
            long[] shape = input.shape();
            shape[shape.length - 1] = weight.size(0);
            var y = Tensor.uninitialized(input, resultType, shape);
            MatrixProduct.split(xs, Matrix.of(weight).transposed(), Matrix.of(y), false);
            outputs.add(y);
          }
          var saved = new ArrayList<>(cast);
          saved.add(input);
          return new FusedOp.Forward(
              outputs, saved, upstreams -> gradients(input, leaves, cast, upstreams));
        });
  }

  /// Runs `part` over blocks of rows.
  private static void blocks(long rows, Threads.Part part) {
    Threads.split(
        Math.ceilDiv(rows, BLOCK),
        1,
        (first, last) -> {
          for (long block = first; block < last; block++) {
            part.run(block * BLOCK, Math.min(rows, (block + 1) * BLOCK));
          }
        });
  }

  /// dW ← dW + dyᵀ x; a sum over no rows is zero.
  private static void addGradient(Tensor weight, Matrix dy, Matrix x) {
    if (weight.requiresGradient()) {
      FusedOp.gradientOf(
          weight,
          (sum, add) -> {
            if (x.rows() > 0) {
              MatrixProduct.split(dy.transposed(), x, Matrix.of(sum), add);
            } else if (!add) {
              sum.fill(0);
            }
          });
    }
  }

  private static Tensor[] gradients(
      Tensor x, List<Tensor> leaves, List<Tensor> cast, List<@Nullable Tensor> upstreams) {
    var dy = new ArrayList<Matrix>();
    var by = new ArrayList<Matrix>();
    for (int i = 0; i < leaves.size(); i++) {
      var upstream = upstreams.get(i);
      if (upstream == null) {
        continue;
      }
      dy.add(Matrix.of(upstream.to(x.type())));
      by.add(Matrix.of(cast.get(i)));
      addGradient(leaves.get(i), dy.getLast(), Matrix.of(x));
    }
    if (!x.requiresGradient()) {
      return new Tensor[1];
    }
    var dx = Tensor.uninitialized(x, x.type(), x.shape());
    sum(dy, by, Matrix.of(dx));
    return new Tensor[] {dx};
  }

  /// dx ← Σ dyᵢ Wᵢ.
  private static void sum(List<Matrix> dy, List<Matrix> weights, Matrix dx) {
    if (dy.size() == 1) {
      MatrixProduct.split(dy.getFirst(), weights.getFirst(), dx, false);
      return;
    }
    boolean direct = !dx.elements().bfloat16();
    blocks(
        dx.rows(),
        (from, to) -> {
          var rows = dx.rows(from, to);
          long elements = rows.rows() * rows.columns();
          var scratch = direct ? null : Scratch.numbers("dx", BLOCK * dx.columns(), false);
          var sum = scratch == null ? rows : Matrix.of(scratch, to - from, dx.columns());
          for (int i = 0; i < dy.size(); i++) {
            MatrixProduct.multiply(dy.get(i).rows(from, to), weights.get(i), sum, i > 0);
          }
          if (scratch != null) {
            Kernels.FASTEST.copy(scratch, dx.elements().from(rows.start()), 0, elements);
          }
        });
  }
}
