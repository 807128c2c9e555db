package dev.sluice.state;

/// A sequence as it was at one moment, from [SequenceState#snapshot] for [SequenceState#restore].
/// It holds memory of its own until it is closed, and never changes.
public final class Snapshot implements AutoCloseable {
  private final LayerStates states;
  private final int length;
  private boolean closed;

  Snapshot(LayerStates states, int length) {
    this.states = states;
    this.length = length;
  }

  /// How many tokens the sequence has.
  public int length() {
    return length;
  }

  /// The memory that it holds.
  public long bytes() {
    return states.bytes();
  }

  LayerStates states() {
    if (closed) {
      throw new IllegalStateException("the snapshot is closed");
    }
    return states;
  }

  @Override
  public void close() {
    closed = true;
    states.close();
  }
}
