package dev.sluice.optimizer;

import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Tensor;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;
import java.util.function.Predicate;
import org.jspecify.annotations.Nullable;

/// Two optimizers of one kind, for a model to which parameters were added: one moves those that
/// were there, the other the new ones, with a learning rate and a decay of their own.
public final class OldAndNew implements Optimizer {
  private final Parameters parameters;
  private final @Nullable Optimizer old;
  private final Optimizer added;
  private final double ratio;
  private final int frozen;

  /// @param settings of the parameters that were there
  /// @param ofAdded of the new ones, of the same kind
  /// @param added names of the new ones
  /// @param ratio of the new ones' learning rate to the others'
  /// @param frozen updates at the start in which only the new ones move; negative for all updates,
  ///   and there is then no state of the others
  /// @param owned which parameters this optimizer moves, by name
  public OldAndNew(
      Settings settings,
      Settings ofAdded,
      Set<String> added,
      double ratio,
      int frozen,
      Parameters parameters,
      Predicate<String> owned) {
    if (settings.kind() != ofAdded.kind()) {
      throw new IllegalArgumentException("optimizers of two kinds: " + settings + ", " + ofAdded);
    }
    this.parameters = parameters;
    Predicate<String> isAdded = added::contains;
    this.old = frozen < 0 ? null : settings.over(parameters, owned.and(isAdded.negate()));
    this.added = ofAdded.over(parameters, owned.and(isAdded));
    this.ratio = ratio;
    this.frozen = frozen;
  }

  @Override
  public Kind kind() {
    return added.kind();
  }

  @Override
  public Map<String, Tensor> firstMoments() {
    return both(old == null ? Map.of() : old.firstMoments(), added.firstMoments());
  }

  @Override
  public Map<String, Tensor> secondMoments() {
    return both(old == null ? Map.of() : old.secondMoments(), added.secondMoments());
  }

  /// In the parameters' order.
  private Map<String, Tensor> both(Map<String, Tensor> ofOld, Map<String, Tensor> ofAdded) {
    Map<String, Tensor> all = new LinkedHashMap<>();
    for (String name : parameters.all().keySet()) {
      var moment = ofOld.getOrDefault(name, ofAdded.get(name));
      if (moment != null) {
        all.put(name, moment);
      }
    }
    return Collections.unmodifiableMap(all);
  }

  /// Those that were there count their updates from the first in which they move.
  @Override
  public void step(int number, double learningRate, double gradientScale) {
    if (old != null && number > frozen) {
      old.step(number - frozen, learningRate, gradientScale);
    }
    added.step(number, learningRate * ratio, gradientScale);
  }

  @Override
  public void close() {
    if (old != null) {
      old.close();
    }
    added.close();
  }
}
