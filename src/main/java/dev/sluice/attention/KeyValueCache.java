package dev.sluice.attention;

import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import org.jspecify.annotations.Nullable;

/// The keys and values of the tokens that went before, for every layer. Keys are stored after norm
/// and rotation.
public final class KeyValueCache implements AutoCloseable {
  private final int capacity;
  private final @Nullable Tensor[] keys;
  private final @Nullable Tensor[] values;
  private int length;

  /// @param layers layers of the model
  /// @param capacity the most tokens that it can hold
  public KeyValueCache(int layers, int capacity) {
    this.capacity = capacity;
    this.keys = new @Nullable Tensor[layers];
    this.values = new @Nullable Tensor[layers];
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
  Tensor keys(int layer, Tensor added) {
    return append(keys, layer, added);
  }

  /// Stores new values `[B, M, T, H]` of a layer and gives all of them, `[B, M, S, H]`.
  Tensor values(int layer, Tensor added) {
    return append(values, layer, added);
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
