package dev.sluice.generation;

import dev.sluice.decoder.MultiTokenPrediction;
import dev.sluice.state.Past;
import dev.sluice.state.SequenceState;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.Arrays;
import java.util.function.UnaryOperator;
import org.jspecify.annotations.Nullable;

/// What a head drafts along one text. It hears the model's hidden states and, as soon as they are
/// known, the tokens that follow them, and never a token that was but guessed: so nothing is ever
/// taken back here.
final class Drafts implements AutoCloseable {
  private final MultiTokenPrediction head;
  private final SequenceState state;
  private final Past past;

  /// Hidden states `[1, T, D]` that the head has not read, as the token after the last of them is
  /// not known yet.
  private @Nullable Tensor waiting;

  private int drafted;
  private int accepted;

  /// @param capacity the most tokens that the model reads
  Drafts(MultiTokenPrediction head, int capacity) {
    this.head = head;
    this.state = head.model().newState(1, capacity);
    this.past = state.past(state.take());
  }

  int drafted() {
    return drafted;
  }

  int accepted() {
    return accepted;
  }

  /// Hears hidden states `[1, T, D]` of the next tokens of the text.
  void hear(Tensor hidden) {
    forget();
    waiting = hidden.retain();
  }

  /// How many hidden states wait for the tokens that follow them.
  int waiting() {
    return waiting == null ? 0 : Math.toIntExact(waiting.size(1));
  }

  /// Reads the hidden states that wait.
  ///
  /// @param following the tokens that follow them
  /// @return the head's hidden states; the caller's scope holds them
  Tensor read(int... following) {
    if (waiting == null) {
      throw new IllegalStateException("the head has heard nothing new");
    }
    var ids = Tensor.of(Arrays.stream(following).asLongStream().toArray(), 1, following.length);
    var hidden = head.hiddenStates(waiting, ids.to(head.model().device()), past);
    forget();
    return hidden;
  }

  /// The likeliest token after the last one, as far as the head knows.
  ///
  /// @param following as in [#read]; the last of them is the last one of the text
  /// @param adjusted what is done to logits before a token is chosen
  int next(int[] following, UnaryOperator<float[]> adjusted) {
    try (var _ = Scope.withoutGradient()) {
      var hidden = read(following);
      var last = hidden.narrow(1, following.length - 1, 1);
      float[] logits = adjusted.apply(head.model().logits(last).floats());
      int best = 0; // whatever the head says, NaN too, the model has the last word
      for (int id = 1; id < logits.length; id++) {
        best = logits[id] > logits[best] ? id : best;
      }
      drafted++;
      return best;
    }
  }

  /// Takes note that the model has chosen the token that was drafted.
  void accept() {
    accepted++;
  }

  private void forget() {
    if (waiting != null) {
      waiting.close();
      waiting = null;
    }
  }

  @Override
  public void close() {
    forget();
    state.close();
  }
}
