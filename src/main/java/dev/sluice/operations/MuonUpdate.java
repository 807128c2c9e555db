package dev.sluice.operations;

import dev.sluice.kernel.Floats;
import dev.sluice.kernel.Kernels;
import dev.sluice.kernel.Threads;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Scratch;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;

/// One parameter of maps with what its Muon step needs. All tensors are float32, contiguous and of
/// one shape.
///
/// @param weight is changed in place, each of its [maps][dev.sluice.tensor.ParameterSpec#maps] for
///   itself
/// @param gradient is left as it is
/// @param momentum the running mean of gradients, changed in place
public record MuonUpdate(Weight weight, Tensor gradient, Tensor momentum, Step step) {
  /// Of what goes into products.
  private static final ElementType PRODUCTS = ElementType.BFLOAT16;

  /// The root mean square that AdamW's updates have, about: with it both take the same learning
  /// rate and decay (Moonshot, "Muon is scalable for LLM training", arXiv 2502.16982, section 2.2).
  private static final double ROOT_MEAN_SQUARE = 0.2;

  /// The numbers of a step that are the same for every map.
  ///
  /// @param learningRate η of this step
  /// @param momentum μ, the decay of the running mean
  /// @param weightDecay λ; θ shrinks by ηλθ
  /// @param gradientScale the gradient is multiplied by this first (clipping)
  public record Step(
      double learningRate, double momentum, double weightDecay, double gradientScale) {
    /// What θ is multiplied by.
    private double keep() {
      return 1 - learningRate * weightDecay;
    }

    /// What a map's direction is multiplied by: an orthogonal one has a root mean square of
    /// `1/√(the longer side)`.
    private double length(long rows, long columns) {
      return learningRate * ROOT_MEAN_SQUARE * Math.sqrt((double) Math.max(rows, columns));
    }
  }

  /// A map: rows `from … from + rows` of a parameter.
  private record Map(MuonUpdate update, long from, long rows) {
    /// About how long its step takes.
    private double work() {
      long columns = update.columns();
      return (double) rows * columns * Math.min(rows, columns);
    }
  }

  /// The weight's numbers.
  public Tensor parameter() {
    return weight.leaf();
  }

  private long columns() {
    return parameter().size(1);
  }

  private List<Map> maps() {
    var maps = new ArrayList<Map>();
    long from = 0;
    for (long rows : weight.spec().maps()) {
      maps.add(new Map(this, from, rows));
      from += rows;
    }
    return maps;
  }

  /// The definition.
  void composed() {
    double fresh = 1 - step.momentum;
    var g = gradient.times(step.gradientScale);
    momentum.scaleInPlace(step.momentum).addInPlace(g, fresh);
    var ahead = momentum.times(step.momentum).plus(g.times(fresh)); // Nesterov
    for (var map : maps()) {
      var direction = NewtonSchulz.composed(ahead.narrow(0, map.from, map.rows), PRODUCTS);
      parameter()
          .narrow(0, map.from, map.rows)
          .scaleInPlace(step.keep())
          .addInPlace(direction, -step.length(map.rows, columns()));
    }
  }

  /// All maps of all parameters, each by one thread, those that take longest first. So neither the
  /// number of threads nor which of them comes first changes a bit.
  static void apply(List<MuonUpdate> updates) {
    var maps =
        updates.stream()
            .flatMap(update -> update.maps().stream())
            .sorted(Comparator.comparingDouble(map -> -map.work()))
            .toList();
    var next = new AtomicInteger();
    Threads.together(
        Math.min(Threads.count(), maps.size()),
        _ -> {
          for (int i = next.getAndIncrement(); i < maps.size(); i = next.getAndIncrement()) {
            maps.get(i).update.move(maps.get(i));
          }
        });
  }

  private void move(Map map) {
    var kernels = Kernels.FASTEST;
    long start = map.from * columns();
    long elements = map.rows * columns();
    var g = gradient.numbers().from(start);
    var m = momentum.numbers().from(start);
    var direction = Scratch.numbers("direction", elements, false);
    float kept = (float) step.momentum;
    float fresh = (float) ((1 - step.momentum) * step.gradientScale);
    kernels.weightedSum(m, kept, g, fresh, m, 0, elements);
    kernels.weightedSum(m, kept, g, fresh, direction, 0, elements);
    NewtonSchulz.apply(direction, map.rows, columns(), PRODUCTS);
    float keep = (float) step.keep();
    float length = (float) step.length(map.rows, columns());
    weight.write(
        numbers -> {
          var theta = Floats.float32(numbers).from(start);
          kernels.weightedSum(theta, keep, direction, -length, theta, 0, elements);
        });
  }
}
