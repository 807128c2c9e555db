package dev.sluice.operations;

import dev.sluice.kernel.Rotations;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;

/// The rotation of the positions of a batch, on the first R of H dimensions, in half-split pairs
/// (i, i + R/2).
///
/// @param cosines `[B, T, 1, R/2]`, or `[1, T, 1, R/2]` where all rows are alike
/// @param sines likewise
public record Rotation(Tensor cosines, Tensor sines) {
  /// The same with every position after `last` as `last` itself.
  ///
  /// @param last the number of a token, from 0 on
  public Rotation upTo(long last) {
    long tokens = cosines.size(1);
    if (last + 1 >= tokens) {
      return this;
    }
    return new Rotation(upTo(cosines, last), upTo(sines, last));
  }

  private static Tensor upTo(Tensor angles, long last) {
    var parts = new ArrayList<Tensor>();
    parts.add(angles.narrow(1, 0, last + 1));
    parts.add(angles.narrow(1, last, 1).repeatInterleave(angles.size(1) - last - 1, 1));
    return Tensor.concatenate(parts, 1);
  }

  /// As kernels take it.
  ///
  /// @param tokens T
  public Rotations ofPositions(long tokens) {
    return new Rotations(
        cosines.memory(),
        sines.memory(),
        Math.toIntExact(cosines.size(-1)),
        cosines.size(0) * tokens);
  }

  /// Rotates queries or keys `[B, T, heads, H]`.
  public Tensor rotate(Tensor xBTNH) {
    long half = cosines.size(-1);
    long width = xBTNH.size(-1);
    var first = xBTNH.narrow(-1, 0, half);
    var second = xBTNH.narrow(-1, half, half);
    var parts = new ArrayList<Tensor>();
    parts.add(first.times(cosines).minus(second.times(sines)));
    parts.add(second.times(cosines).plus(first.times(sines)));
    if (2 * half < width) {
      parts.add(xBTNH.narrow(-1, 2 * half, width - 2 * half));
    }
    return Tensor.concatenate(parts, -1);
  }
}
