package dev.sluice.operations;

import dev.sluice.kernel.Kernels;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.RmsNorm;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.WeightSum;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/// What stands between two sublayers, as one operation: the residual stream takes up a sublayer's
/// output, and RMSNorm makes the next sublayer's input of it.
///
/// Backwards, the gradient that comes past the norm and the one that comes through it are summed in
/// the same pass.
///
/// @param sumBTD x + y, float32
/// @param normedBTD `sum · (mean(sum²) + ε)^(−1/2) · f`
public record ResidualNorm(Tensor sumBTD, Tensor normedBTD) {
  /// The definition.
  static ResidualNorm composed(
      Tensor xBTD, @Nullable Tensor yBTD, Tensor weight, RmsNorm norm, ElementType type) {
    var sum = yBTD == null ? xBTD : xBTD.plus(yBTD);
    return new ResidualNorm(sum, sum.rmsNorm(norm.factors(weight), norm.epsilon()).to(type));
  }

  /// @param xBTD the residual stream, float32
  /// @param yBTD what is added to it, or null
  /// @param weight `[D]`, a float32 leaf
  /// @param type of the normed result
  static ResidualNorm apply(
      Tensor xBTD, @Nullable Tensor yBTD, Tensor weight, RmsNorm norm, ElementType type) {
    var x = xBTD.contiguous();
    var y = yBTD == null ? null : yBTD.contiguous();
    var inputs = new ArrayList<Tensor>(List.of(x));
    if (y != null) {
      inputs.add(y);
    }
    boolean recording = FusedOp.recording(inputs, List.of(weight));
    var both =
        FusedOp.apply(
            "residual and norm",
            inputs,
            List.of(weight),
            () -> forward(x, y, weight, norm, type, recording));
    return new ResidualNorm(both.getFirst(), both.getLast());
  }

  private static FusedOp.Forward forward(
      Tensor x,
      @Nullable Tensor y,
      Tensor weight,
      RmsNorm norm,
      ElementType type,
      boolean recording) {
    int width = Math.toIntExact(weight.elements());
    var sum = y == null ? x.detach() : Tensor.uninitialized(x, x.type(), x.shape());
    var normed = Tensor.uninitialized(x, type, x.shape());
    var xs = x.numbers();
    var ys = y == null ? null : y.numbers();
    var sums = sum.numbers();
    var factors = norm.factors(weight);
    var weights = factors.numbers();
    double epsilon = norm.epsilon();
    var out = normed.numbers();
    WeightSum.split(
        x.elements() / width,
        (from, to) ->
            Kernels.FASTEST.rmsNorm(xs, ys, weights, epsilon, sums, out, width, from, to));
    var saved = recording ? sum.detach() : sum;
    var addedType = y == null ? null : y.type();
    return new FusedOp.Forward(
        List.of(sum, normed),
        List.of(saved, factors),
        upstreams ->
            backward(
                saved,
                weight,
                factors,
                epsilon,
                addedType,
                upstreams.getFirst(),
                upstreams.getLast()));
  }

  private static Tensor[] backward(
      Tensor sum,
      Tensor weight,
      Tensor factors,
      double epsilon,
      @Nullable ElementType addedType,
      @Nullable Tensor past,
      @Nullable Tensor through) {
    int width = Math.toIntExact(weight.elements());
    if (through == null) { // the norm's result was not used
      var all = Objects.requireNonNull(past);
      return addedType == null ? new Tensor[] {all} : new Tensor[] {all, all.to(addedType)};
    }
    var dSum = Tensor.uninitialized(sum, sum.type(), sum.shape());
    var dAdded =
        addedType == null || addedType == sum.type()
            ? dSum
            : Tensor.uninitialized(sum, addedType, sum.shape());
    var sums = sum.numbers();
    var weights = factors.numbers();
    var passed = past == null ? null : past.numbers();
    var dNormed = through.numbers();
    var dSums = dSum.numbers();
    var dAddeds = dAdded == dSum ? null : dAdded.numbers();
    WeightSum.split(
        weight,
        sum.elements() / width,
        (dWeight, from, to) ->
            Kernels.FASTEST.rmsNormBackward(
                dNormed, sums, weights, epsilon, passed, dSums, dAddeds, dWeight, width, from, to));
    return addedType == null ? new Tensor[] {dSum} : new Tensor[] {dSum, dAdded};
  }
}
