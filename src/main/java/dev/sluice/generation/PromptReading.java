package dev.sluice.generation;

import dev.sluice.decoder.Decoder;
import dev.sluice.probe.Probe;
import dev.sluice.state.Past;
import dev.sluice.state.SequenceState;
import dev.sluice.state.Slot;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.Arrays;
import org.jspecify.annotations.Nullable;

/// A prompt on its way through a model, one pass after the other, in a slot of its own. What its
/// cache holds of the beginning is not read.
public final class PromptReading {
  private final Decoder decoder;
  private final Prompt prompt;
  private final SequenceState state;
  private final int[] ends;
  private final Slot slot;
  private final int cachedTokens;

  /// Takes a free slot with what is cached.
  ///
  /// @param piece the most tokens of a pass
  public PromptReading(Decoder decoder, Prompt prompt, SequenceState state, int piece) {
    this.decoder = decoder;
    this.prompt = prompt;
    this.state = state;
    this.ends = prompt.ends(piece);
    this.slot = prompt.begin(state, piece);
    this.cachedTokens = slot.length();
  }

  /// Where the prompt stands; its length says how much of it was read.
  public Slot slot() {
    return slot;
  }

  /// How many tokens were not read, as the cache held them.
  public int cachedTokens() {
    return cachedTokens;
  }

  /// Says how long the text may become with what is written after the prompt, before the first
  /// pass. There is room at once for the prompt and an answer of its length.
  public void expect(int tokens) {
    slot.expect((int) Math.min(tokens, 2L * total()));
  }

  /// How many tokens there are to be read in the end.
  public int total() {
    return prompt.ids().length;
  }

  /// Reads the next pass, and keeps what it leaves.
  ///
  /// @param probe which watches the last pass, whose logits are given
  /// @return the logits after the prompt's last token if that was the last pass, else null
  public float @Nullable [] next(Probe probe) {
    return next(null, probe);
  }

  /// @param drafts hears what is read
  float @Nullable [] next(@Nullable Drafts drafts, Probe probe) {
    int[] ids = prompt.ids();
    int begin = slot.length();
    int end =
        Arrays.stream(ends).filter(candidate -> candidate > begin).findFirst().orElse(ids.length);
    boolean isLast = end == ids.length;
    try (var _ = Scope.withoutGradient()) {
      int[] tokens = Arrays.copyOfRange(ids, begin, end);
      var hidden = hidden(decoder, tokens, state.past(slot), isLast ? probe : Probe.NONE);
      if (drafts != null) {
        drafts.hear(hidden);
        if (!isLast) {
          drafts.read(Arrays.copyOfRange(ids, begin + 1, end + 1));
        }
      }
      if (isLast) {
        return decoder.logits(hidden.narrow(1, end - begin - 1, 1)).floats();
      }
    }
    prompt.keep(state, slot);
    return null;
  }

  /// The hidden states of the next tokens of one sequence.
  ///
  /// @param past that of the sequence; null where these are its first and nothing is kept
  static Tensor hidden(Decoder decoder, int[] tokens, @Nullable Past past, Probe probe) {
    long[] ids = Arrays.stream(tokens).asLongStream().toArray();
    return decoder.hiddenStates(Tensor.of(ids, 1, ids.length).to(decoder.device()), past, probe);
  }
}
