package dev.sluice.operations;

import dev.sluice.kernel.Kernels;
import dev.sluice.kernel.Rotations;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.RmsNorm;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.WeightSum;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/// QK-norm and rotary embedding of queries or keys as one operation: RMSNorm over each head, where
/// the model has it, then the rotation; both in float32, the result in the input's element type.
final class RotatedHeads {
  private RotatedHeads() {}

  /// The definition.
  static Tensor composed(
      Tensor xBTNH, @Nullable Tensor weight, RmsNorm norm, @Nullable Rotation rotation) {
    if (weight == null && rotation == null) {
      return xBTNH;
    }
    var wide = xBTNH.to(ElementType.FLOAT32);
    var normed = weight == null ? wide : wide.rmsNorm(norm.factors(weight), norm.epsilon());
    return (rotation == null ? normed : rotation.rotate(normed)).to(xBTNH.type());
  }

  /// @param xBTNH `[B, T, heads, H]`
  /// @param weight of the norm, a float32 leaf `[H]`, or null where there is none
  /// @param rotation null where there is none
  static Tensor apply(
      Tensor xBTNH, @Nullable Tensor weight, RmsNorm norm, @Nullable Rotation rotation) {
    if (weight == null && rotation == null) {
      return xBTNH;
    }
    var x = xBTNH.contiguous();
    return FusedOp.apply(
            "QK-norm and rotation",
            List.of(x),
            weight == null ? List.of() : List.of(weight),
            () -> forward(x, weight, norm, rotation))
        .getFirst();
  }

  private static FusedOp.Forward forward(
      Tensor x, @Nullable Tensor weight, RmsNorm norm, @Nullable Rotation rotation) {
    int heads = Math.toIntExact(x.size(2));
    int width = Math.toIntExact(x.size(3));
    long tokens = x.size(0) * x.size(1);
    var rotations = rotation == null ? Rotations.NONE : rotation.ofPositions(x.size(1));
    var out = Tensor.uninitialized(x, x.type(), x.shape());
    var xs = x.numbers();
    var factors = weight == null ? null : norm.factors(weight);
    var weights = factors == null ? null : factors.numbers();
    double epsilon = norm.epsilon();
    var outs = out.numbers();
    WeightSum.split(
        tokens,
        (from, to) ->
            Kernels.FASTEST.normRotate(
                xs, weights, epsilon, rotations, outs, heads, width, from * heads, to * heads));
    var saved = new ArrayList<Tensor>();
    saved.add(x);
    if (rotation != null) {
      saved.add(rotation.cosines());
      saved.add(rotation.sines());
    }
    if (factors != null) {
      saved.add(factors);
    }
    return new FusedOp.Forward(
        List.of(out),
        saved,
        upstreams -> {
          var dx = Tensor.uninitialized(x, x.type(), x.shape());
          var dOut = Objects.requireNonNull(upstreams.getFirst()).numbers();
          var dxs = dx.numbers();
          WeightSum.split(
              weight,
              tokens,
              (dWeight, from, to) ->
                  Kernels.FASTEST.normRotateBackward(
                      dOut,
                      xs,
                      weights,
                      epsilon,
                      rotations,
                      dxs,
                      dWeight,
                      heads,
                      width,
                      from * heads,
                      to * heads));
          return new Tensor[] {dx};
        });
  }
}
