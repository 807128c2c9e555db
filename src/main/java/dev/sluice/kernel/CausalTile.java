package dev.sluice.kernel;

import org.jspecify.annotations.Nullable;

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
/// @param starts the first column that each token may see whatever its window is, negative or past
///   the tile where it is not one of it; null where nothing else hides columns
public record CausalTile(
    int rows,
    int columns,
    long visible,
    long window,
    int group,
    double scale,
    int @Nullable [] starts) {
  /// A tile of one document.
  public CausalTile(int rows, int columns, long visible, long window, int group, double scale) {
    this(rows, columns, visible, window, group, scale, null);
  }

  /// The first column that a row does not see after those that it sees.
  int seen(int row) {
    return Math.clamp(visible + row / group, 0, columns);
  }

  /// The first column that a row sees; [#seen] where it sees none.
  int hidden(int row) {
    long hidden = visible + row / group - window;
    return Math.clamp(
        starts == null ? hidden : Math.max(hidden, starts[row / group]), 0, seen(row));
  }
}
