package dev.sluice.report;

/// An axis of a chart. A logarithmic one shows positive values only.
public record Axis(String name, boolean logarithmic) {
  public static Axis linear(String name) {
    return new Axis(name, false);
  }

  public static Axis logarithmic(String name) {
    return new Axis(name, true);
  }
}
