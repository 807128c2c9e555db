package dev.sluice.kernel;

/// A tile of causal attention's scores: rows are queries, columns are keys. The `group` query heads
/// that share a key stand one after the other, so that row i belongs to token `i / group` of the
/// tile. The token t sees the columns before `visible + t`, of these the last `window`: none where
/// all of them lie outside the tile.
///
/// @param rows queries
/// @param columns keys; row i of a matrix of scores starts at `i · columns`
/// @param visible columns that the first token sees, were there enough; may be negative
/// @param window the most columns that a token sees, in this tile and those beside it
/// @param group query heads that share a key
/// @param scale scores are multiplied by this
public record CausalTile(
    int rows, int columns, long visible, long window, int group, double scale) {
  /// The first column that a row does not see after those that it sees.
  int seen(int row) {
    return Math.clamp(visible + row / group, 0, columns);
  }

  /// The first column that a row sees; [#seen] where it sees none.
  int hidden(int row) {
    return Math.clamp(visible + row / group - window, 0, seen(row));
  }
}
