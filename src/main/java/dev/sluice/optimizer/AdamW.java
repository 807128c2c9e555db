package dev.sluice.optimizer;

import dev.sluice.kernel.AdamWStep;
import dev.sluice.kernel.Kernels;
import dev.sluice.kernel.Threads;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Operation;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Predicate;

/// AdamW (Loshchilov and Hutter 2019) with float32 state. Decay applies to tensors of two or more
/// dimensions only: not to norms.
public final class AdamW implements AutoCloseable {
  private static final long GRAIN = 1 << 14;

  /// The constants of the optimizer.
  ///
  /// @param beta1 decay of the first moment
  /// @param beta2 decay of the second moment
  /// @param epsilon added to the root of the second moment
  /// @param weightDecay λ, multiplied by the learning rate
  public record Settings(double beta1, double beta2, double epsilon, double weightDecay) {}

  private final Settings settings;
  private final Parameters parameters;
  private final Map<String, Tensor> firstMoments;
  private final Map<String, Tensor> secondMoments;

  public AdamW(Settings settings, Parameters parameters) {
    this(settings, parameters, _ -> true);
  }

  /// @param owned which parameters this optimizer moves, by name; it has no state of others
  public AdamW(Settings settings, Parameters parameters, Predicate<String> owned) {
    this.settings = settings;
    this.parameters = parameters;
    this.firstMoments = zerosLike(parameters, owned);
    this.secondMoments = zerosLike(parameters, owned);
  }

  private static Map<String, Tensor> zerosLike(Parameters parameters, Predicate<String> owned) {
    try (var _ = Scope.withoutGradient()) {
      Map<String, Tensor> zeros = new LinkedHashMap<>();
      parameters
          .all()
          .forEach(
              (name, parameter) -> {
                if (owned.test(name)) {
                  zeros.put(
                      name,
                      Tensor.zeros(ElementType.FLOAT32, parameter.shape())
                          .to(parameter.device())
                          .retain());
                }
              });
      return Collections.unmodifiableMap(zeros);
    }
  }

  /// The running means of gradients by parameter name, for saving and restoring.
  public Map<String, Tensor> firstMoments() {
    return firstMoments;
  }

  /// The running means of squared gradients by parameter name, for saving and restoring.
  public Map<String, Tensor> secondMoments() {
    return secondMoments;
  }

  /// One parameter with what its step needs.
  private record Update(
      Weight weight, Tensor gradient, Tensor first, Tensor second, AdamWStep step) {
    Tensor parameter() {
      return weight.leaf();
    }

    boolean isOnCpu() {
      return parameter().isOnCpu();
    }
  }

  /// Moves every parameter that has a gradient, all in one pass.
  ///
  /// @param number the step's number, from 1
  /// @param gradientScale gradients are multiplied by this first
  public void step(int number, double learningRate, double gradientScale) {
    try (var _ = Scope.withoutGradient();
        var _ = Operation.begin("AdamW", Operation.UPDATE)) {
      var updates = updates(number, learningRate, gradientScale);
      if (updates.stream().allMatch(Update::isOnCpu)) {
        step(updates);
      } else {
        updates.forEach(u -> composed(u.parameter(), u.gradient, u.first, u.second, u.step));
      }
    }
  }

  private List<Update> updates(int number, double learningRate, double gradientScale) {
    var updates = new ArrayList<Update>();
    parameters
        .weights()
        .forEach(
            (name, weight) -> {
              var parameter = weight.leaf();
              var gradient = parameter.gradient();
              var first = firstMoments.get(name);
              var second = secondMoments.get(name);
              if (gradient == null || first == null || second == null) {
                return;
              }
              double decay = parameter.shape().length < 2 ? 0 : settings.weightDecay();
              var step =
                  new AdamWStep(
                      learningRate,
                      settings.beta1(),
                      settings.beta2(),
                      settings.epsilon(),
                      decay,
                      number,
                      gradientScale);
              updates.add(new Update(weight, gradient.contiguous(), first, second, step));
            });
    return updates;
  }

  /// All elements of all parameters, one after the other, shared among the threads.
  private static void step(List<Update> updates) {
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

  /// The same step by libtorch's operations, for other devices than the CPU.
  static void composed(
      Tensor parameter, Tensor gradient, Tensor first, Tensor second, AdamWStep step) {
    var g = gradient.times(step.gradientScale());
    first.scaleInPlace(step.beta1()).addInPlace(g, 1 - step.beta1());
    second.scaleInPlace(step.beta2()).addInPlace(g.square(), 1 - step.beta2());
    var root = second.squareRoot().times(1 / step.rootCorrection2()).plus(step.epsilon());
    parameter
        .scaleInPlace(1 - step.learningRate() * step.weightDecay())
        .addInPlace(first.dividedBy(root), -step.learningRate() / step.correction1());
  }

  @Override
  public void close() {
    firstMoments.values().forEach(Tensor::close);
    secondMoments.values().forEach(Tensor::close);
  }
}
