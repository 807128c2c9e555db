package dev.sluice.kernel;

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
}
