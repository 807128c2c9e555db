package dev.sluice.operations;

import dev.sluice.kernel.Floats;
import dev.sluice.kernel.Kernels;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.Scratch;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.WeightSum;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;

/// RMSNorm of each head and then a SiLU gate, as one operation: `y = x · (mean(x²) + ε)^(−1/2) · w
/// ⊙ silu(z)`, computed in float32 and rounded once.
final class GatedHeadNorm {
  private GatedHeadNorm() {}

  /// The definition.
  ///
  /// @param xBTNV in float64, the result is float64 too
  static Tensor composed(Tensor xBTNV, Tensor zBTNV, Tensor weight, double epsilon) {
    expect(xBTNV, zBTNV, weight);
    var normed = xBTNV.wide().rmsNorm(weight.wide(), epsilon);
    return normed.times(zBTNV.wide().silu()).to(xBTNV.type());
  }

  /// @param xBTNV float32 or bfloat16, any shape whose last dimension is normed
  /// @param zBTNV logits of the gate, of the same shape
  /// @param weight `[V]`, a float32 leaf
  static Tensor apply(Tensor xBTNV, Tensor zBTNV, Tensor weight, double epsilon) {
    expect(xBTNV, zBTNV, weight);
    var x = xBTNV.contiguous();
    var z = zBTNV.contiguous();
    return FusedOp.apply(
            "gated norm of heads",
            List.of(x, z),
            List.of(weight),
            () -> forward(x, z, weight, epsilon))
        .getFirst();
  }

  private static void expect(Tensor x, Tensor z, Tensor weight) {
    if (x.size(-1) != weight.elements() || !Arrays.equals(x.shape(), z.shape())) {
      throw new IllegalArgumentException("no norm of %s with %s and %s".formatted(x, z, weight));
    }
  }

  private static FusedOp.Forward forward(Tensor x, Tensor z, Tensor weight, double epsilon) {
    int width = Math.toIntExact(weight.elements());
    long rows = x.elements() / width;
    var y = Tensor.uninitialized(x, x.type(), x.shape());
    var xs = x.numbers();
    var zs = z.numbers();
    var weights = weight.numbers();
    var out = y.numbers();
    WeightSum.split(
        rows,
        (from, to) -> {
          var normed = normed(xs, weights, epsilon, width, from, to);
          long elements = (to - from) * width;
          long start = from * width;
          Kernels.FASTEST.swiGlu(zs.from(start), normed, out.from(start), 0, elements);
        });
    return new FusedOp.Forward(
        List.of(y),
        List.of(x, z, weight),
        upstreams -> {
          var dx = Tensor.uninitialized(x, x.type(), x.shape());
          var dz = Tensor.uninitialized(z, z.type(), z.shape());
          var dy = Objects.requireNonNull(upstreams.getFirst()).numbers();
          var dxs = dx.numbers();
          var dzs = dz.numbers();
          WeightSum.split(
              weight,
              rows,
              (dWeight, from, to) -> {
                long elements = (to - from) * width;
                long start = from * width;
                var normed = normed(xs, weights, epsilon, width, from, to);
                var again = Scratch.numbers("gated", elements, false);
                var dNormed = Scratch.numbers("dNormed", elements, false);
                Kernels.FASTEST.swiGluBackward(
                    dy.from(start),
                    zs.from(start),
                    normed,
                    again,
                    dzs.from(start),
                    dNormed,
                    0,
                    elements);
                Kernels.FASTEST.rmsNormBackward(
                    dNormed,
                    xs.from(start),
                    weights,
                    epsilon,
                    null,
                    dxs.from(start),
                    null,
                    dWeight,
                    width,
                    0,
                    to - from);
              });
          return new Tensor[] {dx, dz};
        });
  }

  /// The normed rows in the thread's own memory, float32.
  private static Floats normed(
      Floats x, Floats weight, double epsilon, int width, long from, long to) {
    var normed = Scratch.numbers("normed", (to - from) * width, false);
    var rows = x.from(from * width);
    Kernels.FASTEST.rmsNorm(rows, null, weight, epsilon, rows, normed, width, 0, to - from);
    return normed;
  }
}
