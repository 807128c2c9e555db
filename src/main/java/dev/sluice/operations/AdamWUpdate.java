package dev.sluice.operations;

import dev.sluice.kernel.AdamWStep;
import dev.sluice.kernel.Kernels;
import dev.sluice.kernel.Threads;
import dev.sluice.tensor.ManyTensors;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/// One parameter with what its AdamW step needs. All tensors are float32, contiguous and of one
/// shape.
///
/// @param weight is changed in place
/// @param gradient of no use afterwards
/// @param first the running mean of gradients, changed in place
/// @param second the running mean of squared gradients, changed in place
public record AdamWUpdate(
    Weight weight, Tensor gradient, Tensor first, Tensor second, AdamWStep step) {
  private static final long GRAIN = 1 << 14;

  /// The weight's numbers.
  public Tensor parameter() {
    return weight.leaf();
  }

  /// The definition.
  void composed() {
    var g = gradient.times(step.gradientScale());
    first.scaleInPlace(step.beta1()).addInPlace(g, 1 - step.beta1());
    second.scaleInPlace(step.beta2()).addInPlace(g.square(), 1 - step.beta2());
    var root = second.squareRoot().times(1 / step.rootCorrection2()).plus(step.epsilon());
    parameter()
        .scaleInPlace(1 - step.learningRate() * step.weightDecay())
        .addInPlace(first.dividedBy(root), -step.learningRate() / step.correction1());
  }

  /// Those of one step size in a call each.
  static void together(List<AdamWUpdate> updates) {
    Map<AdamWStep, List<AdamWUpdate>> alike = new LinkedHashMap<>();
    updates.forEach(
        update -> alike.computeIfAbsent(update.step, _ -> new ArrayList<>()).add(update));
    alike.forEach(
        (step, some) ->
            ManyTensors.adamW(
                some.stream().map(AdamWUpdate::parameter).toList(),
                some.stream().map(AdamWUpdate::gradient).toList(),
                some.stream().map(AdamWUpdate::first).toList(),
                some.stream().map(AdamWUpdate::second).toList(),
                step));
  }

  /// All elements of all parameters, one after the other, shared among the threads.
  static void apply(List<AdamWUpdate> updates) {
    long all = updates.stream().mapToLong(update -> update.parameter().elements()).sum();
    Threads.split(
        all,
        GRAIN,
        (from, to) -> {
          long start = 0;
          for (var update : updates) {
            long elements = update.parameter().elements();
            long first = Math.max(from - start, 0);
            long last = Math.min(to - start, elements);
            if (first < last) {
              update.weight.write(
                  numbers ->
                      Kernels.FASTEST.adamW(
                          numbers,
                          update.gradient.memory(),
                          update.first.memory(),
                          update.second.memory(),
                          update.step,
                          first,
                          last));
            }
            start += elements;
          }
        });
  }
}
