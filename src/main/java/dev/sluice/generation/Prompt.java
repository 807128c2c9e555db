package dev.sluice.generation;

import dev.sluice.state.PrefixCache;
import dev.sluice.state.PrefixCache.Reuse;
import dev.sluice.state.SequenceState;
import dev.sluice.state.Slot;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;

/// A prompt that is read in passes which prompts that begin alike share.
///
/// Passes end before each turn, before the last token, and after as many tokens as a piece may
/// have. They depend on the prompt alone and not on what is cached, so that with [Reuse#EXACT]
/// neither do the answer's bits; a prompt without a cache is read in the same passes.
public final class Prompt {
  private final int[] ids;
  private final int[] turnStarts;
  private final boolean inTurns;
  private final @Nullable PrefixCache cache;
  private final Reuse reuse;

  private Prompt(
      int[] ids, int[] turnStarts, boolean inTurns, @Nullable PrefixCache cache, Reuse reuse) {
    this.ids = ids.clone();
    this.turnStarts = turnStarts.clone();
    this.inTurns = inTurns;
    this.cache = cache;
    this.reuse = reuse;
  }

  /// @param turnStarts places of the tokens that begin a turn, of the model's too, also the one
  ///   that it is to answer with; places that are not within the prompt count for nothing
  /// @param cache of this model, which stays its owner's; null for none
  /// @param reuse with [Reuse#LONGEST] answers are kept too, so that they are not read again when
  ///   they have become a part of the next prompt
  public Prompt(int[] ids, int[] turnStarts, @Nullable PrefixCache cache, Reuse reuse) {
    this(ids, turnStarts, true, cache, reuse);
  }

  /// A prompt that is read in as few passes as there can be.
  public static Prompt of(int[] ids) {
    return new Prompt(ids, new int[0], false, null, Reuse.EXACT);
  }

  /// Its tokens; not to be written to.
  public int[] ids() {
    return ids;
  }

  /// Where passes end, but for the last one.
  ///
  /// @param piece the most tokens of one
  int[] ends(int piece) {
    var ends = IntStream.builder();
    int begin = 0;
    for (int stop : stops()) {
      for (; stop - begin > piece; begin += piece) {
        ends.add(begin + piece);
      }
      if (stop < ids.length) {
        ends.add(stop);
      }
      begin = stop;
    }
    return ends.build().toArray();
  }

  /// Where passes end whatever a piece may have; the last stop is the prompt's end.
  private int[] stops() {
    int last = ids.length - 1;
    var within =
        inTurns
            ? IntStream.concat(Arrays.stream(turnStarts), IntStream.of(last))
                .filter(stop -> 0 < stop && stop <= last)
            : IntStream.empty();
    return IntStream.concat(within, IntStream.of(ids.length)).sorted().distinct().toArray();
  }

  /// A slot with what is cached of the prompt.
  Slot begin(SequenceState state, int piece) {
    return cache == null ? state.take() : cache.restore(state, ids, ends(piece), reuse);
  }

  /// Keeps what was read until now.
  void keep(SequenceState state, Slot slot) {
    if (cache != null) {
      cache.keep(state, slot, ids);
    }
  }

  /// Keeps the tokens of an answer that have been read.
  public void keepAnswer(SequenceState state, Slot slot, List<Integer> answer) {
    if (cache != null && reuse == Reuse.LONGEST && slot.length() > ids.length) {
      int[] all = Arrays.copyOf(ids, ids.length + answer.size());
      for (int i = ids.length; i < all.length; i++) {
        all[i] = answer.get(i - ids.length);
      }
      cache.keep(state, slot, all);
    }
  }
}
