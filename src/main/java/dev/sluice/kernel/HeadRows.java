package dev.sluice.kernel;

import java.lang.foreign.MemorySegment;

/// Where vectors of heads stand in a tensor of tokens and heads: row i is head `i mod group` of
/// token `i / group` and starts at `start + (i / group) · stride + (i mod group) · width`.
///
/// @param start of the first row
/// @param stride from one token to the next
/// @param rows how many
/// @param width elements of a row
/// @param group rows of a token
public record HeadRows(long start, long stride, int rows, int width, int group) {
  /// Where a row starts.
  long at(int row) {
    return start + row / group * stride + (long) (row % group) * width;
  }

  /// [Kernels#gatherRows].
  void gather(Floats x, Floats out) {
    move(x, out, true);
  }

  /// [Kernels#spreadRows].
  void spread(Floats x, Floats out) {
    move(out, x, false);
  }

  /// A token's rows at a time, which stand together on both sides.
  private void move(Floats apart, Floats together, boolean gather) {
    long bytes = apart.bfloat16() ? 2 : 4;
    long row = width * bytes;
    for (int i = 0; i < rows; i += group) {
      long count = Math.min(group, rows - i) * row;
      long at = at(i) * bytes;
      if (gather) {
        MemorySegment.copy(apart.memory(), at, together.memory(), i * row, count);
      } else {
        MemorySegment.copy(together.memory(), i * row, apart.memory(), at, count);
      }
    }
  }
}
