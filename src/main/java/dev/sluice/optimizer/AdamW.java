package dev.sluice.optimizer;

import dev.sluice.kernel.AdamWStep;
import dev.sluice.operations.AdamWUpdate;
import dev.sluice.operations.Operations;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Operation;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Predicate;

/// AdamW (Loshchilov and Hutter 2019) with float32 state. Decay applies to tensors of two or more
/// dimensions only: not to norms.
public final class AdamW implements Optimizer {
  /// The constants of the optimizer.
  ///
  /// @param beta1 decay of the first moment
  /// @param beta2 decay of the second moment
  /// @param epsilon added to the root of the second moment
  /// @param weightDecay λ, multiplied by the learning rate
  public record Settings(double beta1, double beta2, double epsilon, double weightDecay)
      implements Optimizer.Settings {
    @Override
    public Kind kind() {
      return Kind.ADAMW;
    }

    @Override
    public Optimizer over(Parameters parameters, Predicate<String> owned) {
      return new AdamW(this, parameters, owned);
    }
  }

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

  static Map<String, Tensor> zerosLike(Parameters parameters, Predicate<String> owned) {
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

  @Override
  public Kind kind() {
    return Kind.ADAMW;
  }

  @Override
  public Map<String, Tensor> firstMoments() {
    return firstMoments;
  }

  @Override
  public Map<String, Tensor> secondMoments() {
    return secondMoments;
  }

  /// All in one pass.
  @Override
  public void step(int number, double learningRate, double gradientScale) {
    try (var _ = Scope.withoutGradient();
        var _ = Operation.begin("AdamW", Operation.UPDATE)) {
      var updates = updates(number, learningRate, gradientScale);
      if (!updates.isEmpty()) {
        Operations.of(updates.getFirst().parameter()).adamW(updates);
      }
    }
  }

  private List<AdamWUpdate> updates(int number, double learningRate, double gradientScale) {
    var updates = new ArrayList<AdamWUpdate>();
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
              updates.add(new AdamWUpdate(weight, gradient.contiguous(), first, second, step));
            });
    return updates;
  }

  @Override
  public void close() {
    firstMoments.values().forEach(Tensor::close);
    secondMoments.values().forEach(Tensor::close);
  }
}
