package dev.sluice.report;

import java.util.List;

/// Small histograms side by side, one for each layer, with the arms laid over each other: how gate
/// scores are distributed. Bins are equally wide between `low` and `high`. Counts are shown as
/// shares of their layer and arm, each panel scaled to its own peak.
public record Histograms(
    String title,
    String caption,
    String valueName,
    double low,
    double high,
    List<String> panels,
    List<Arm> arms)
    implements Figure {
  public Histograms {
    panels = List.copyOf(panels);
    arms = List.copyOf(arms);
    if (!(low < high)) {
      throw new IllegalArgumentException("no bins between %s and %s".formatted(low, high));
    }
    for (Arm arm : arms) {
      if (arm.counts.length != panels.size()) {
        throw new IllegalArgumentException(
            "arm \"%s\" has %d histograms for %d panels"
                .formatted(arm.name, arm.counts.length, panels.size()));
      }
    }
  }

  /// Counts by panel and bin; an empty row is a layer without this gate. Not copied.
  @SuppressWarnings("ArrayRecordComponent") // nobody compares arms
  public record Arm(String name, double[][] counts) {}
}
