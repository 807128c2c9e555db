package dev.sluice.tensor;

import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/// A model's weights by name, in a fixed order. Owns them: they outlive scopes until [#close].
public final class Parameters implements AutoCloseable {
  private final Map<String, Weight> weights = new LinkedHashMap<>();
  private final Map<String, Tensor> leaves = new LinkedHashMap<>();
  private final Runnable atClose;

  /// Takes over the tensors of `tensors`, in the order of what is declared.
  ///
  /// @param declared of each of them
  public Parameters(Map<String, ParameterSpec> declared, Map<String, Tensor> tensors) {
    this.atClose = () -> {};
    if (!declared.keySet().equals(tensors.keySet())) {
      throw new IllegalArgumentException(
          "the tensors are %s, and what is declared %s"
              .formatted(tensors.keySet(), declared.keySet()));
    }
    declared.forEach(
        (name, spec) ->
            add(name, new Weight(name, spec, Objects.requireNonNull(tensors.get(name)))));
  }

  /// Takes over the tensors of `tensors`, in its order, of which nothing is declared: all are
  /// trained.
  public Parameters(Map<String, Tensor> tensors) {
    this.atClose = () -> {};
    tensors.forEach((name, tensor) -> add(name, new Weight(name, tensor)));
  }

  /// Takes over weights, some of them stored, in their order. Such a model runs; it is neither
  /// trained nor written.
  ///
  /// @param atClose frees the memory behind the stored ones
  public Parameters(List<Weight> weights, Runnable atClose) {
    this.atClose = atClose;
    weights.forEach(weight -> add(weight.name(), weight));
  }

  private void add(String name, Weight weight) {
    weights.put(name, weight);
    if (!weight.isInFile()) {
      leaves.put(name, weight.leaf());
    }
  }

  /// The weight of that name, for products.
  public Weight weight(String name) {
    var weight = findWeight(name);
    if (weight == null) {
      throw new IllegalArgumentException("no parameter is called " + name);
    }
    return weight;
  }

  /// The weight of that name, or null where the model has none.
  public @Nullable Weight findWeight(String name) {
    return weights.get(name);
  }

  /// The numbers of the weight of that name, float32.
  public Tensor get(String name) {
    return weight(name).leaf();
  }

  /// The numbers of the weight of that name, or null where the model has none of them as float32.
  public @Nullable Tensor find(String name) {
    return leaves.get(name);
  }

  /// Names and numbers in order; unmodifiable.
  ///
  /// @throws IllegalStateException if some weights are stored, which would be missing
  public Map<String, Tensor> all() {
    if (leaves.size() < weights.size()) {
      throw new IllegalStateException("weights that stay in their file are no float32 tensors");
    }
    return Collections.unmodifiableMap(leaves);
  }

  /// Names and weights in order; unmodifiable.
  public Map<String, Weight> weights() {
    return Collections.unmodifiableMap(weights);
  }

  /// Says whether gradients are to be computed for the weights that training moves; for others they
  /// never are.
  public void requireGradients(boolean required) {
    all();
    weights
        .values()
        .forEach(weight -> weight.leaf().requireGradient(required && weight.spec().trained()));
  }

  @Override
  public void close() {
    weights.values().forEach(Weight::close);
    weights.clear();
    leaves.clear();
    atClose.run();
  }
}
