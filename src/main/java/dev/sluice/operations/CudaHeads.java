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

/// [RotatedHeads] by kernels.
final class CudaHeads {
  /// The widest head whose gradient's sums go into shared memory for each group of lanes.
  private static final int WIDEST = 1024;

  private static final int THREADS = 128;

  /// Rows that a group of lanes takes backwards, whose contributions to the weight's gradient it
  /// adds up.
  private static final int TURNS = 16;

  private CudaHeads() {}

  static boolean fits(Tensor xBTNH, @Nullable Tensor weight, @Nullable Rotation rotation) {
    boolean angles =
        rotation == null
            || (rotation.cosines().type() == ElementType.FLOAT32
                && rotation.sines().type() == ElementType.FLOAT32);
    return (weight != null || rotation != null)
        && angles
        && KernelOperands.areNumbers(xBTNH)
        && (weight == null || weight.type() == ElementType.FLOAT32)
        && xBTNH.size(3) <= WIDEST
        && xBTNH.elements() > 0
        && xBTNH.elements() / xBTNH.size(3) <= Integer.MAX_VALUE / 32;
  }

  static Tensor apply(
      Launcher launcher,
      Tensor xBTNH,
      @Nullable Tensor weight,
      RmsNorm norm,
      @Nullable Rotation rotation) {
    var x = xBTNH.contiguous();
    return FusedOp.apply(
            "QK-norm and rotation",
            List.of(x),
            weight == null ? List.of() : List.of(weight),
            () -> {
              var factors = weight == null ? null : norm.factors(weight);
              var cosines = rotation == null ? null : rotation.cosines().contiguous();
              var sines = rotation == null ? null : rotation.sines().contiguous();
              return new Call(launcher, x, weight, factors, (float) norm.epsilon(), cosines, sines)
                  .forward();
            })
        .getFirst();
  }

  /// @param weight that takes the gradient
  /// @param factors that it stands for
  private record Call(
      Launcher launcher,
      Tensor x,
      @Nullable Tensor weight,
      @Nullable Tensor factors,
      float epsilon,
      @Nullable Tensor cosines,
      @Nullable Tensor sines) {
    private int width() {
      return Math.toIntExact(x.size(3));
    }

    private int rows() {
      return Math.toIntExact(x.elements() / x.size(3));
    }

    private int half() {
      return cosines == null ? 0 : Math.toIntExact(cosines.size(-1));
    }

    private int positions() {
      return cosines == null ? 1 : Math.toIntExact(cosines.size(0) * x.size(1));
    }

    private boolean inPacks(Tensor other, Tensor another) {
      return half() % KernelOperands.PACK == 0
          && KernelOperands.inPacks(width(), x, factors, cosines, sines, other, another);
    }

    private int lanes(boolean inPacks) {
      int pieces = Math.max(half(), width() - 2 * half());
      return KernelOperands.lanes(inPacks ? pieces / KernelOperands.PACK : pieces);
    }

    private FusedOp.Forward forward() {
      var out = Tensor.uninitialized(x, x.type(), x.shape());
      boolean inPacks = inPacks(out, out);
      int lanes = lanes(inPacks);
      launcher.launch(
          KernelFamily.HEADS.kernel("rotated_heads", x.type()),
          new Grid(Math.ceilDiv((long) rows() * lanes, THREADS), THREADS, 0),
          x,
          factors,
          epsilon,
          cosines,
          sines,
          half(),
          positions(),
          out,
          rows(),
          Math.toIntExact(x.size(2)),
          width(),
          lanes,
          KernelOperands.flag(inPacks));
      var saved = new ArrayList<Tensor>();
      saved.add(x);
      for (var tensor : new @Nullable Tensor[] {factors, cosines, sines}) {
        if (tensor != null) {
          saved.add(tensor);
        }
      }
      return new FusedOp.Forward(
          List.of(out),
          saved,
          upstreams -> new Tensor[] {backward(Objects.requireNonNull(upstreams.getFirst()))});
    }

    private Tensor backward(Tensor upstream) {
      var dx = Tensor.uninitialized(x, x.type(), x.shape());
      boolean inPacks = inPacks(upstream, dx);
      int lanes = lanes(inPacks);
      int groups = groups(lanes);
      long blocks = Math.ceilDiv(rows(), (long) groups * TURNS);
      var partial =
          factors == null ? null : Tensor.uninitialized(x, ElementType.FLOAT32, blocks, width());
      launcher.launch(
          KernelFamily.HEADS.kernel("rotated_heads_backward", x.type()),
          new Grid(blocks, groups * lanes, factors == null ? 0 : groups * width() * Float.BYTES),
          upstream,
          x,
          factors,
          epsilon,
          cosines,
          sines,
          half(),
          positions(),
          dx,
          partial,
          rows(),
          Math.toIntExact(x.size(2)),
          width(),
          lanes,
          TURNS,
          KernelOperands.flag(inPacks));
      if (weight != null && partial != null) {
        KernelOperands.addColumns(
            launcher, KernelFamily.HEADS.kernel("heads_weight_gradient"), partial, weight);
      }
      return dx;
    }

    /// Groups of lanes in a block, whose sums go into 16 kB: at least a warp of threads.
    private int groups(int lanes) {
      int groups = THREADS / lanes;
      while (groups * width() > 1 << 12 && groups * lanes > 32) {
        groups /= 2;
      }
      return groups;
    }
  }
}
