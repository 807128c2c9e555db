package dev.sluice.tensor;

import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/// A model's learned tensors by name, in a fixed order. Owns them: they outlive scopes until
/// [#close].
public final class Parameters implements AutoCloseable {
  private final Map<String, Tensor> tensors;

  /// Takes over the tensors of `tensors`, in its order.
  public Parameters(Map<String, Tensor> tensors) {
    this.tensors = new LinkedHashMap<>(tensors);
    tensors.values().forEach(Tensor::retain);
  }

  /// The tensor of that name.
  public Tensor get(String name) {
    var tensor = find(name);
    if (tensor == null) {
      throw new IllegalArgumentException("no parameter is called " + name);
    }
    return tensor;
  }

  /// The tensor of that name, or null where the model has none.
  public @Nullable Tensor find(String name) {
    return tensors.get(name);
  }

  /// Names and tensors in order; unmodifiable.
  public Map<String, Tensor> all() {
    return Collections.unmodifiableMap(tensors);
  }

  public void requireGradients(boolean required) {
    tensors.values().forEach(tensor -> tensor.requireGradient(required));
  }

  /// For a model that is not trained: the elements do not change any more, so that a copy of a
  /// weight in the type that products take is made once, not at every call.
  public void freeze() {
    tensors.values().forEach(Tensor::freeze);
  }

  @Override
  public void close() {
    tensors.values().forEach(Tensor::unfreeze);
    tensors.values().forEach(Tensor::close);
    tensors.clear();
  }
}
