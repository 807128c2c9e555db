package dev.sluice.kernel;

/// A tile of causal attention's scores: rows are queries, columns are keys. The `group` query heads
/// that share a key stand one after the other, so that row i belongs to token `i / group` of the
/// tile, which sees the first `visible + i / group` columns: none if that is not positive, all if
/// it is more than there are.
///
/// @param rows queries
/// @param columns keys; row i of a matrix of scores starts at `i · columns`
/// @param visible columns that the first token sees, were there enough; may be negative
/// @param group query heads that share a key
/// @param scale scores are multiplied by this
public record CausalTile(int rows, int columns, long visible, int group, double scale) {
  /// How many columns a row sees.
  int seen(int row) {
    return Math.clamp(visible + row / group, 0, columns);
  }
}
