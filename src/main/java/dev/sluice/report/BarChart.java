package dev.sluice.report;

import java.util.List;
import org.jspecify.annotations.Nullable;

/// Bars in groups: one group for each category, such as a layer, one bar in it for each arm.
/// References are lines across, such as the floor of uniform attention.
public record BarChart(
    String title,
    String caption,
    String categoryName,
    List<String> categories,
    Axis y,
    List<Arm> arms,
    List<Reference> references)
    implements Figure {
  public BarChart {
    categories = List.copyOf(categories);
    arms = List.copyOf(arms);
    references = List.copyOf(references);
    for (Arm arm : arms) {
      if (arm.values.length != categories.size()) {
        throw new IllegalArgumentException(
            "arm \"%s\" has %d values for %d categories"
                .formatted(arm.name, arm.values.length, categories.size()));
      }
    }
  }

  /// One bar in every group; `errors` are half-widths, or null. The arrays are not copied.
  @SuppressWarnings("ArrayRecordComponent") // nobody compares arms
  public record Arm(String name, double[] values, double @Nullable [] errors) {
    public Arm {
      if (errors != null && errors.length != values.length) {
        throw new IllegalArgumentException(
            "arm \"%s\" has %d values and %d errors".formatted(name, values.length, errors.length));
      }
    }

    public static Arm of(String name, double... values) {
      return new Arm(name, values, null);
    }

    public Arm withErrors(double... halfWidths) {
      return new Arm(name, values, halfWidths);
    }
  }

  /// A named level.
  public record Reference(String name, double value) {}
}
