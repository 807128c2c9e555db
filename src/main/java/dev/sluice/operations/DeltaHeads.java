package dev.sluice.operations;

import dev.sluice.InvalidInputException;
import dev.sluice.tensor.Tensor;
import java.util.Collections;

/// How the channels of a token are made of queries, keys and values.
///
/// @param keyHeads heads of queries and of keys
/// @param valueHeads a multiple of `keyHeads`, so that as many share each key head
/// @param keyWidth elements of a query or key
/// @param valueWidth elements of a value
/// @param order of the value heads
public record DeltaHeads(int keyHeads, int valueHeads, int keyWidth, int valueWidth, Order order) {
  /// Which value heads share a key head, with which they read and write.
  public enum Order {
    /// Those that stand together: value head j has key head `j / group`.
    TOGETHER,
    /// Those that are as far apart as there are key heads: value head j has key head `j mod
    /// keyHeads`. So llama.cpp's files have them, and what runs from such a file where it lies.
    APART
  }

  /// As `transformers` has them.
  public DeltaHeads(int keyHeads, int valueHeads, int keyWidth, int valueWidth) {
    this(keyHeads, valueHeads, keyWidth, valueWidth, Order.TOGETHER);
  }

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

  /// The same with value heads in another order.
  public DeltaHeads with(Order changed) {
    return new DeltaHeads(keyHeads, valueHeads, keyWidth, valueWidth, changed);
  }

  /// The key head that a value head reads and writes with.
  int keyHead(int valueHead) {
    return switch (order) {
      case TOGETHER -> valueHead / group();
      case APART -> valueHead % keyHeads;
    };
  }

  /// One of the value heads that share a key head, inverts [#keyHead].
  ///
  /// @param number which, below [#group]
  public int valueHead(int keyHead, int number) {
    return switch (order) {
      case TOGETHER -> keyHead * group() + number;
      case APART -> number * keyHeads + keyHead;
    };
  }

  /// For each value head what its key head has.
  ///
  /// @param x `[B, T, M, …]`
  /// @return `[B, T, N, …]`
  Tensor perValueHead(Tensor x) {
    return switch (order) {
      case TOGETHER -> x.repeatInterleave(group(), 2);
      case APART -> Tensor.concatenate(Collections.nCopies(group(), x), 2);
    };
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
