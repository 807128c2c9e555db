package dev.sluice.operations;

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
    if (keyHeads < 1 || keyWidth < 1 || valueWidth < 1) {
      throw new IllegalArgumentException(
          "key heads, key width and value width must be positive, not %d, %d and %d"
              .formatted(keyHeads, keyWidth, valueWidth));
    }
    if (valueHeads < 1 || valueHeads % keyHeads != 0) {
      throw new IllegalArgumentException(
          valueHeads + " value heads are no multiple of " + keyHeads + " key heads");
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
