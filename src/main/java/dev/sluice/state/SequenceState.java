package dev.sluice.state;

import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/// What the layers of a model keep of the tokens that went before: keys and values, which grow with
/// every token, or recurrent states, which do not. Keys are stored after norm and rotation.
public final class SequenceState implements AutoCloseable {
  private final int capacity;
  private final @Nullable Tensor[] keys;
  private final @Nullable Tensor[] values;
  private final List<Map<String, Tensor>> recurrent = new ArrayList<>();
  private int length;

  /// @param layers layers of the model
  /// @param capacity the most tokens that it can hold
  public SequenceState(int layers, int capacity) {
    this.capacity = capacity;
    this.keys = new @Nullable Tensor[layers];
    this.values = new @Nullable Tensor[layers];
    for (int layer = 0; layer < layers; layer++) {
      recurrent.add(new HashMap<>());
    }
  }

  /// How many tokens it holds.
  public int length() {
    return length;
  }

  /// Notes that every layer has taken `tokens` more.
  public void advance(int tokens) {
    length += tokens;
  }

  /// Stores new keys `[B, M, T, H]` of a layer and gives all of them, `[B, M, S, H]`.
  public Tensor keys(int layer, Tensor added) {
    return append(keys, layer, added);
  }

  /// Stores new values `[B, M, T, H]` of a layer and gives all of them, `[B, M, S, H]`.
  public Tensor values(int layer, Tensor added) {
    return append(values, layer, added);
  }

  /// What a layer left under a name; null before the first token. It may be changed in place.
  public @Nullable Tensor recurrent(int layer, String name) {
    return recurrent.get(layer).get(name);
  }

  /// Puts what a layer leaves in place of what it left before.
  public void leave(int layer, String name, Tensor state) {
    var before = recurrent.get(layer).get(name);
    if (before == state) {
      return;
    }
    recurrent.get(layer).put(name, state.detach().retain());
    if (before != null) {
      before.close();
    }
  }

  private Tensor append(@Nullable Tensor[] stored, int layer, Tensor added) {
    int tokens = Math.toIntExact(added.size(2));
    if (length + tokens > capacity) {
      throw new IllegalStateException(
          "the cache holds " + capacity + " tokens, not " + (length + tokens));
    }
    var all = stored[layer];
    if (all == null) {
      try (var scope = Scope.withoutGradient()) {
        all =
            scope
                .keep(
                    Tensor.uninitialized(
                        added,
                        ElementType.FLOAT32,
                        added.size(0),
                        added.size(1),
                        capacity,
                        added.size(3)))
                .retain();
      }
      stored[layer] = all;
    }
    if (added.size(0) != all.size(0)) {
      throw new IllegalStateException(
          "the cache holds a batch of " + all.size(0) + ", not " + added.size(0));
    }
    try (var _ = Scope.withoutGradient()) { // else every step would hang its graph on the cache
      all.narrow(2, length, tokens).copyFrom(added);
    }
    return all.narrow(2, 0, length + tokens);
  }

  @Override
  public void close() {
    for (var states : recurrent) {
      states.values().forEach(Tensor::close);
      states.clear();
    }
    for (int layer = 0; layer < keys.length; layer++) {
      for (var stored : new @Nullable Tensor[][] {keys, values}) {
        var tensor = stored[layer];
        if (tensor != null) {
          tensor.close();
          stored[layer] = null;
        }
      }
    }
  }
}
