package dev.sluice.state;

/// The place of one sequence in a [SequenceState], from [SequenceState#take] to
/// [SequenceState#release].
public final class Slot {
  private final int number;
  final LayerStates states;
  int length;

  /// How many tokens are expected; see [#expect].
  int expected;

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

  /// Says how many tokens the sequence will have, or may well have: there is room for them from the
  /// first pass on, and what is there is not moved on the way to them.
  public void expect(int tokens) {
    expected = tokens;
  }

  @Override
  public String toString() {
    return "slot %d of %d tokens".formatted(number, length);
  }
}
