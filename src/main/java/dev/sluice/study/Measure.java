package dev.sluice.study;

/// What a study tests of trained models beside their loss: what the paper says a gate changes.
public enum Measure {
  FIRST_TOKEN("attention to the first token, mean of heads"),
  STRONGEST_HEAD("attention to the first token, strongest head"),
  LARGEST_ACTIVATION("largest |x|");

  private final String words;

  Measure(String words) {
    this.words = words;
  }

  /// For people.
  public String words() {
    return words;
  }

  /// Whether it is a share, which is shown in percent.
  public boolean isShare() {
    return this == FIRST_TOKEN || this == STRONGEST_HEAD;
  }

  /// NaN where the trial has none.
  public double of(TrialResult result) {
    var inside = result.inside();
    return switch (this) {
      case FIRST_TOKEN -> result.firstTokenAttention();
      case LARGEST_ACTIVATION -> result.largestActivation();
      case STRONGEST_HEAD -> inside == null ? Double.NaN : inside.strongestHead();
    };
  }
}
