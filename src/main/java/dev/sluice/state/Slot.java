package dev.sluice.state;

/// The place of one sequence in a [SequenceState], from [SequenceState#take] to
/// [SequenceState#release].
public final class Slot {
  private final int number;
  final LayerStates states;
  int length;

  /// A pass has begun and not ended.
  boolean underWay;

  /// The last pass was a tentative one, whose last token can be taken back.
  boolean tentative;

  Slot(int number, LayerStates states, int length) {
    this.number = number;
    this.states = states;
    this.length = length;
  }

  /// Which of the state's places this is, from 0. It is another sequence's after the release.
  public int number() {
    return number;
  }

  /// How many tokens the sequence has.
  public int length() {
    return length;
  }

  @Override
  public String toString() {
    return "slot %d of %d tokens".formatted(number, length);
  }
}
