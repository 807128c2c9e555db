package dev.sluice.optimizer;

import dev.sluice.operations.MuonUpdate;
import dev.sluice.operations.Operations;
import dev.sluice.tensor.Operation;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.Predicate;

/// Muon (Keller Jordan 2024): each map of features moves along its momentum with all singular
/// values made alike. What is no map ([dev.sluice.tensor.ParameterSpec#maps]) is moved by [AdamW].
/// Both take one learning rate and one decay, as updates have the same root mean square (arXiv
/// 2502.16982).
public final class Muon implements Optimizer {
  /// The constants of the optimizer.
  ///
  /// @param momentum μ, the decay of the running mean of gradients
  /// @param others of what is no map; their decay is that of maps too
  public record Settings(double momentum, AdamW.Settings others) implements Optimizer.Settings {
    @Override
    public Kind kind() {
      return Kind.MUON;
    }

    @Override
    public Optimizer over(Parameters parameters, Predicate<String> owned) {
      return new Muon(this, parameters, owned);
    }
  }

  private final Settings settings;
  private final Parameters parameters;
  private final Map<String, Tensor> momenta;
  private final AdamW others;

  /// @param owned which parameters this optimizer moves, by name; it has no state of others
  public Muon(Settings settings, Parameters parameters, Predicate<String> owned) {
    this.settings = settings;
    this.parameters = parameters;
    Predicate<String> map = name -> Kind.MUON.movesMaps(parameters.weight(name).spec());
    this.momenta = AdamW.zerosLike(parameters, owned.and(map));
    this.others = new AdamW(settings.others, parameters, owned.and(map.negate()));
  }

  @Override
  public Kind kind() {
    return Kind.MUON;
  }

  /// Those of maps, which have no second one, and of all else, in the parameters' order.
  @Override
  public Map<String, Tensor> firstMoments() {
    Map<String, Tensor> all = new LinkedHashMap<>();
    for (String name : parameters.all().keySet()) {
      var moment = momenta.getOrDefault(name, others.firstMoments().get(name));
      if (moment != null) {
        all.put(name, moment);
      }
    }
    return Collections.unmodifiableMap(all);
  }

  @Override
  public Map<String, Tensor> secondMoments() {
    return others.secondMoments();
  }

  @Override
  public void step(int number, double learningRate, double gradientScale) {
    try (var _ = Scope.withoutGradient();
        var _ = Operation.begin("Muon", Operation.UPDATE)) {
      var step =
          new MuonUpdate.Step(
              learningRate, settings.momentum, settings.others.weightDecay(), gradientScale);
      var updates = new ArrayList<MuonUpdate>();
      momenta.forEach(
          (name, momentum) -> {
            var weight = parameters.weight(name);
            var gradient = weight.leaf().gradient();
            if (gradient != null) {
              updates.add(new MuonUpdate(weight, gradient.contiguous(), momentum, step));
            }
          });
      if (!updates.isEmpty()) {
        Operations.of(updates.getFirst().parameter()).muon(updates);
      }
    }
    others.step(number, learningRate, gradientScale);
  }

  @Override
  public void close() {
    momenta.values().forEach(Tensor::close);
    others.close();
  }
}
