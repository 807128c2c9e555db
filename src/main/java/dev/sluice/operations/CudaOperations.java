package dev.sluice.operations;

import dev.sluice.cuda.KernelFamily;
import dev.sluice.cuda.Launcher;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.RmsNorm;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/// [Operations] on a CUDA card: libtorch's products and attention, and between them our own kernels
/// for what memory limits. What a kernel does not take, by its types or sizes, is libtorch's too.
final class CudaOperations extends LibtorchOperations {
  private final Launcher launcher;
  private final Set<KernelFamily> families;
  private final CudaOptimizer optimizer;

  /// @param families whose kernels are used
  CudaOperations(Launcher launcher, Set<KernelFamily> families) {
    this.launcher = launcher;
    this.families = Set.copyOf(families);
    this.optimizer = new CudaOptimizer(launcher);
  }

  private boolean has(KernelFamily family) {
    return families.contains(family);
  }

  @Override
  public Tensor sigmoidGate(Tensor yBTNH, Tensor logits) {
    return has(KernelFamily.GATE) && CudaGate.fits(yBTNH, logits)
        ? CudaGate.apply(launcher, yBTNH, logits)
        : super.sigmoidGate(yBTNH, logits);
  }

  @Override
  public ResidualNorm residualNorm(
      Tensor xBTD, @Nullable Tensor yBTD, Tensor weight, RmsNorm norm, ElementType type) {
    return has(KernelFamily.NORM) && CudaNorm.fits(xBTD, yBTD, weight, type)
        ? CudaNorm.apply(launcher, xBTD, yBTD, weight, norm, type)
        : super.residualNorm(xBTD, yBTD, weight, norm, type);
  }

  @Override
  public Tensor rotatedHeads(
      Tensor xBTNH, @Nullable Tensor weight, RmsNorm norm, @Nullable Rotation rotation) {
    return has(KernelFamily.HEADS) && CudaHeads.fits(xBTNH, weight, rotation)
        ? CudaHeads.apply(launcher, xBTNH, weight, norm, rotation)
        : super.rotatedHeads(xBTNH, weight, norm, rotation);
  }

  @Override
  public DeltaRule.Result deltaRule(
      Tensor mixedBTC,
      Tensor decaysBTN,
      Tensor ratesBTN,
      @Nullable Tensor state,
      DeltaHeads heads) {
    return has(KernelFamily.DELTA) && CudaDelta.fits(mixedBTC, decaysBTN, ratesBTN, state, heads)
        ? CudaDelta.apply(launcher, mixedBTC, decaysBTN, ratesBTN, state, heads)
        : super.deltaRule(mixedBTC, decaysBTN, ratesBTN, state, heads);
  }

  @Override
  public Tensor swiGlu(Tensor x, SwiGlu.Weights weights, Precision precision) {
    if (!has(KernelFamily.SWIGLU) || x.elements() == 0 || !KernelOperands.areNumbers(x)) {
      return super.swiGlu(x, weights, precision);
    }
    var type = precision.elementType();
    var input = x.to(type);
    var gate = input.linear(weights.gate().recorded(type));
    var up = input.linear(weights.up().recorded(type));
    return CudaSwiGlu.apply(launcher, gate, up).linear(weights.down().recorded(type));
  }

  @Override
  public Tensor swiGlu(Tensor x, long[] starts, List<SwiGlu.Weights> weights, Precision precision) {
    var parts = new ArrayList<Tensor>();
    for (int expert = 0; expert < weights.size(); expert++) {
      var rows = x.narrow(0, starts[expert], starts[expert + 1] - starts[expert]);
      parts.add(swiGlu(rows, weights.get(expert), precision));
    }
    return Tensor.concatenate(parts, 0);
  }

  @Override
  public NextTokenLoss nextTokenLoss(
      Tensor hidden, Weight head, Tensor targets, ElementType type, double zLoss) {
    return has(KernelFamily.LOSS) && CudaLoss.fits(hidden, head, type)
        ? CudaLoss.apply(launcher, hidden, head, targets, type, zLoss)
        : super.nextTokenLoss(hidden, head, targets, type, zLoss);
  }

  @Override
  public Tensor norm(List<Tensor> gradients) {
    return has(KernelFamily.OPTIMIZER) && CudaOptimizer.fits(gradients)
        ? optimizer.norm(gradients)
        : super.norm(gradients);
  }

  @Override
  public void adamW(List<AdamWUpdate> updates) {
    if (has(KernelFamily.OPTIMIZER) && CudaOptimizer.fitsUpdates(updates)) {
      optimizer.adamW(updates);
    } else {
      super.adamW(updates);
    }
  }
}
