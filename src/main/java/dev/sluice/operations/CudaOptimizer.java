package dev.sluice.operations;

import dev.sluice.cuda.KernelFamily;
import dev.sluice.cuda.Launcher;
import dev.sluice.cuda.Launcher.Grid;
import dev.sluice.kernel.AdamWStep;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.Arrays;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// [GradientNorm] and [AdamWUpdate] by kernels, over all parameters at once.
///
/// Kernels find the parameters in a table in the device's memory. It is kept from step to step, and
/// made anew when a tensor stands elsewhere: an upload waits for the device.
final class CudaOptimizer {
  /// Elements of a block.
  private static final int CHUNK = 8192;

  private static final int THREADS = 256;
  private static final int FIELDS = 8;
  private static final int PACK_BYTES = 16;
  private static final Grid ONE_BLOCK = new Grid(1, THREADS, 32 * Double.BYTES);

  private final Launcher launcher;
  private final Table gradients = new Table();
  private final Table parameters = new Table();

  CudaOptimizer(Launcher launcher) {
    this.launcher = launcher;
  }

  static boolean fits(List<Tensor> gradients) {
    return !gradients.isEmpty()
        && gradients.stream()
            .allMatch(tensor -> tensor.type() == ElementType.FLOAT32 && tensor.elements() > 0);
  }

  /// Also whether all are moved with the same constants but for the decay.
  static boolean fitsUpdates(List<AdamWUpdate> updates) {
    return fits(updates.stream().map(AdamWUpdate::gradient).toList())
        && updates.stream().map(update -> withoutDecay(update.step())).distinct().count() == 1;
  }

  private static AdamWStep withoutDecay(AdamWStep step) {
    return new AdamWStep(
        step.learningRate(),
        step.beta1(),
        step.beta2(),
        step.epsilon(),
        0,
        step.step(),
        step.gradientScale());
  }

  Tensor norm(List<Tensor> all) {
    try (var scope = Scope.withoutGradient()) {
      var rows = all.stream().map(Tensor::contiguous).toList();
      var words = new Words(rows.size());
      rows.forEach(gradient -> words.add(0, gradient, null, null, null));
      var like = rows.getFirst();
      var sums = Tensor.uninitialized(like, ElementType.FLOAT64, words.blocks);
      var norm = Tensor.uninitialized(like, ElementType.FLOAT64, 1);
      launcher.launch(
          KernelFamily.OPTIMIZER.kernel("square_sums"),
          new Grid(words.blocks, THREADS, 32 * Double.BYTES),
          gradients.of(words, like),
          rows.size(),
          CHUNK,
          sums);
      launcher.launch(
          KernelFamily.OPTIMIZER.kernel("root_of_sums"),
          ONE_BLOCK,
          sums,
          Math.toIntExact(words.blocks),
          norm);
      return scope.keep(norm);
    }
  }

  void adamW(List<AdamWUpdate> updates) {
    try (var _ = Scope.withoutGradient()) {
      var words = new Words(updates.size());
      for (var update : updates) {
        words.add(
            update.step().weightDecay(),
            update.gradient(),
            update.parameter(),
            update.first(),
            update.second());
      }
      var step = updates.getFirst().step();
      launcher.launch(
          KernelFamily.OPTIMIZER.kernel("adamw"),
          new Grid(words.blocks, THREADS, 0),
          parameters.of(words, updates.getFirst().parameter()),
          updates.size(),
          CHUNK,
          (float) step.beta1(),
          (float) (1 - step.beta1()),
          (float) step.beta2(),
          (float) (1 - step.beta2()),
          (float) step.epsilon(),
          (float) step.gradientScale(),
          (float) (step.learningRate() / step.correction1()),
          (float) (1 / step.rootCorrection2()),
          step.learningRate());
      updates.forEach(update -> update.weight().written());
    }
  }

  /// The table's content: `struct Parameter` of the kernels.
  private static final class Words {
    private final long[] words;
    private int used;
    private long blocks;

    Words(int rows) {
      words = new long[rows * FIELDS];
    }

    void add(
        double decay,
        Tensor gradient,
        @Nullable Tensor numbers,
        @Nullable Tensor first,
        @Nullable Tensor second) {
      long[] addresses = {address(numbers), address(gradient), address(first), address(second)};
      System.arraycopy(addresses, 0, words, used, addresses.length);
      words[used + 4] = gradient.elements();
      words[used + 5] = blocks;
      words[used + 6] = Double.doubleToRawLongBits(decay);
      words[used + 7] =
          KernelOperands.flag(Arrays.stream(addresses).allMatch(at -> at % PACK_BYTES == 0));
      used += FIELDS;
      blocks += Math.ceilDiv(gradient.elements(), CHUNK);
    }

    private static long address(@Nullable Tensor tensor) {
      return tensor == null ? 0 : tensor.address();
    }
  }

  /// A table in the device's memory.
  private static final class Table {
    private long[] content = {};
    private @Nullable Tensor there;

    Tensor of(Words words, Tensor like) {
      var kept = there;
      if (kept != null && Arrays.equals(content, words.words)) {
        return kept;
      }
      if (kept != null) {
        kept.close();
      }
      content = words.words;
      var made = Tensor.of(content, content.length).to(like.device()).retain();
      there = made;
      return made;
    }
  }
}
