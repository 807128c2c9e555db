package dev.sluice.operations;

import dev.sluice.InvalidInputException;
import dev.sluice.tensor.Tensor;

/// How the channels of a token are made of queries, keys and values.
///
/// @param keyHeads heads of queries and of keys
/// @param valueHeads a multiple of `keyHeads`: value head j reads and writes with key head `j /
///   (valueHeads / keyHeads)`
/// @param keyWidth elements of a query or key
/// @param valueWidth elements of a value
public record DeltaHeads(int keyHeads, int valueHeads, int keyWidth, int valueWidth) {
  public DeltaHeads {
    requirePositive("linear_num_key_heads", keyHeads);
    requirePositive("linear_num_value_heads", valueHeads);
    requirePositive("linear_key_head_dim", keyWidth);
    requirePositive("linear_value_head_dim", valueWidth);
    if (valueHeads % keyHeads != 0) {
      throw new InvalidInputException(
          "linear_num_value_heads (%d) is not a multiple of linear_num_key_heads (%d); choose one that is"
              .formatted(valueHeads, keyHeads));
    }
  }

  private static void requirePositive(String name, int value) {
    if (value < 1) {
      throw new InvalidInputException(name + " must be positive, not " + value);
    }
  }

  /// Value heads that share a key head.
  public int group() {
    return valueHeads / keyHeads;
  }

  /// C, the elements of a token.
  public int channels() {
    return Math.addExact(
        Math.multiplyExact(2, Math.multiplyExact(keyHeads, keyWidth)),
        Math.multiplyExact(valueHeads, valueWidth));
  }

  /// Queries `[B, T, M, K]`, as a view.
  Tensor queries(Tensor mixedBTC) {
    return part(mixedBTC, 0, keyHeads, keyWidth);
  }

  /// Keys `[B, T, M, K]`, as a view.
  Tensor keys(Tensor mixedBTC) {
    return part(mixedBTC, keyHeads * keyWidth, keyHeads, keyWidth);
  }

  /// Values `[B, T, N, V]`, as a view.
  Tensor values(Tensor mixedBTC) {
    return part(mixedBTC, 2 * keyHeads * keyWidth, valueHeads, valueWidth);
  }

  private static Tensor part(Tensor mixedBTC, int from, int heads, int width) {
    return mixedBTC
        .narrow(2, from, (long) heads * width)
        .reshape(mixedBTC.size(0), mixedBTC.size(1), heads, width);
  }
}
