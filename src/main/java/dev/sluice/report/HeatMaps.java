package dev.sluice.report;

import java.util.List;

/// Matrices side by side under one colour scale, such as the attention maps of two arms. The caller
/// samples large matrices down and says with [Side#step] how many positions a cell stands for.
public record HeatMaps(
    String title, String caption, Side rows, Side columns, ColourScale scale, List<Panel> panels)
    implements Figure {
  public HeatMaps {
    panels = List.copyOf(panels);
  }

  /// Attention maps: queries down, keys across, and a square-root scale, because most weights are
  /// small. `step` positions make a cell.
  public static HeatMaps attention(String title, String caption, int step, List<Panel> panels) {
    return new HeatMaps(
        title,
        caption,
        new Side("query", step),
        new Side("key", step),
        ColourScale.SQUARE_ROOT,
        panels);
  }

  /// How a value becomes a colour.
  public enum ColourScale {
    LINEAR,
    SQUARE_ROOT,
    /// Values below a hundred-thousandth of the largest, and zero, share the lowest colour.
    LOGARITHMIC
  }

  /// What rows or columns are, and how many positions each stands for.
  public record Side(String name, int step) {
    public Side {
      if (step < 1) {
        throw new IllegalArgumentException("a cell stands for at least 1 position, not " + step);
      }
    }

    public static Side of(String name) {
      return new Side(name, 1);
    }
  }

  /// One matrix, row by row. Use NaN for what does not exist, such as keys after the query. The
  /// array is not copied.
  @SuppressWarnings("ArrayRecordComponent") // matrices are large, and nobody compares them
  public record Panel(String title, int rows, int columns, float[] values) {
    public Panel {
      if (rows < 1 || columns < 1 || (long) rows * columns != values.length) {
        throw new IllegalArgumentException(
            "panel \"%s\" is %d × %d but has %d values"
                .formatted(title, rows, columns, values.length));
      }
    }

    public static Panel of(String title, float[][] values) {
      int rows = values.length;
      int columns = rows == 0 ? 0 : values[0].length;
      var flat = new float[Math.multiplyExact(rows, columns)];
      for (int row = 0; row < rows; row++) {
        if (values[row].length != columns) {
          throw new IllegalArgumentException(
              "row %d of panel \"%s\" has %d values, not %d"
                  .formatted(row, title, values[row].length, columns));
        }
        System.arraycopy(values[row], 0, flat, row * columns, columns);
      }
      return new Panel(title, rows, columns, flat);
    }
  }
}
