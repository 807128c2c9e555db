package dev.sluice.operations;

import dev.sluice.cuda.KernelFamily;
import dev.sluice.cuda.Launcher;
import dev.sluice.cuda.Launcher.Grid;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.RmsNorm;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/// [ResidualNorm] by kernels.
final class CudaNorm {
  /// The widest row that a block keeps in shared memory.
  private static final int WIDEST = 8192;

  /// Rows whose contributions to the weight's gradient a block adds up.
  private static final int ROWS_OF_BLOCK = 16;

  private static final int SCRATCH = 32;

  private CudaNorm() {}

  static boolean fits(Tensor xBTD, @Nullable Tensor yBTD, Tensor weight, ElementType type) {
    return xBTD.type() == ElementType.FLOAT32
        && weight.type() == ElementType.FLOAT32
        && KernelOperands.areNumbers(yBTD)
        && KernelOperands.isNumbers(type)
        && weight.elements() <= WIDEST
        && xBTD.elements() > 0
        && xBTD.elements() / weight.elements() <= Integer.MAX_VALUE;
  }

  static ResidualNorm apply(
      Launcher launcher,
      Tensor xBTD,
      @Nullable Tensor yBTD,
      Tensor weight,
      RmsNorm norm,
      ElementType type) {
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
            () -> forward(launcher, x, y, weight, norm, type, recording));
    return new ResidualNorm(both.getFirst(), both.getLast());
  }

  private static FusedOp.Forward forward(
      Launcher launcher,
      Tensor x,
      @Nullable Tensor y,
      Tensor weight,
      RmsNorm norm,
      ElementType type,
      boolean recording) {
    int width = Math.toIntExact(weight.elements());
    var sum = y == null ? x.detach() : Tensor.uninitialized(x, x.type(), x.shape());
    var normed = Tensor.uninitialized(x, type, x.shape());
    var factors = norm.factors(weight);
    var addedType = y == null ? ElementType.FLOAT32 : y.type();
    boolean inPacks = KernelOperands.inPacks(width, x, y, factors, sum, normed);
    launcher.launch(
        KernelFamily.NORM.kernel("residual_norm", addedType, type),
        ofRows(x.elements() / width, width, inPacks),
        x,
        y,
        factors,
        (float) norm.epsilon(),
        sum,
        normed,
        width,
        KernelOperands.flag(inPacks));
    var saved = recording ? sum.detach() : sum;
    return new FusedOp.Forward(
        List.of(sum, normed),
        List.of(saved, factors),
        upstreams ->
            backward(
                launcher,
                saved,
                weight,
                factors,
                norm.epsilon(),
                y == null ? null : addedType,
                upstreams.getFirst(),
                upstreams.getLast()));
  }

  private static Grid ofRows(long blocks, int width, boolean inPacks) {
    return new Grid(
        blocks, KernelOperands.threadsOfRow(width, inPacks, 256), (SCRATCH + width) * Float.BYTES);
  }

  private static Tensor[] backward(
      Launcher launcher,
      Tensor sum,
      Tensor weight,
      Tensor factors,
      double epsilon,
      @Nullable ElementType addedType,
      @Nullable Tensor past,
      @Nullable Tensor through) {
    if (through == null) { // the norm's result was not used
      var all = Objects.requireNonNull(past);
      return addedType == null ? new Tensor[] {all} : new Tensor[] {all, all.to(addedType)};
    }
    int width = Math.toIntExact(weight.elements());
    int rows = Math.toIntExact(sum.elements() / width);
    var dSum = Tensor.uninitialized(sum, sum.type(), sum.shape());
    var dAdded =
        addedType == null || addedType == sum.type()
            ? null
            : Tensor.uninitialized(sum, addedType, sum.shape());
    long blocks = Math.ceilDiv(rows, ROWS_OF_BLOCK);
    var partial = Tensor.uninitialized(sum, ElementType.FLOAT32, blocks, width);
    boolean inPacks = KernelOperands.inPacks(width, through, sum, factors, past, dSum, dAdded);
    launcher.launch(
        KernelFamily.NORM.kernel(
            "residual_norm_backward",
            dAdded == null ? ElementType.FLOAT32 : dAdded.type(),
            through.type()),
        ofRows(blocks, width, inPacks),
        through,
        sum,
        factors,
        (float) epsilon,
        past,
        dSum,
        dAdded,
        partial,
        rows,
        width,
        ROWS_OF_BLOCK,
        KernelOperands.flag(inPacks));
    KernelOperands.addColumns(
        launcher, KernelFamily.NORM.kernel("norm_weight_gradient"), partial, weight);
    if (addedType == null) {
      return new Tensor[] {dSum};
    }
    return new Tensor[] {dSum, dAdded == null ? dSum : dAdded};
  }
}
