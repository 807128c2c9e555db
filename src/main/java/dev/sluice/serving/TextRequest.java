package dev.sluice.serving;

import dev.sluice.generation.Choice;
import java.util.Set;

/// What is asked of an [Engine]: that one or several texts continue a prompt.
///
/// @param ids of the prompt
/// @param turnStarts places of the tokens that begin a turn, where passes end and the cache keeps
///   what was read
/// @param choice how tokens are chosen; its restrictions are made and used by the engine's thread
/// @param mostTokens of each text
/// @param stopIds tokens that end a text, the one that does is not part of it
/// @param sequences how many texts
/// @param logprobs of how many of the likeliest tokens each token tells the log-probabilities,
///   besides its own; [#NO_LOGPROBS] for not even that
/// @param reusesPrefixes whether what was read for others is taken and what is read is kept
/// @param isWatched whether each token tells what was seen of the pass from which it was chosen;
///   the tokens are the same
@SuppressWarnings("ArrayRecordComponent") // is only read, right after it was made
public record TextRequest(
    int[] ids,
    int[] turnStarts,
    Choice choice,
    int mostTokens,
    Set<Integer> stopIds,
    int sequences,
    int logprobs,
    boolean reusesPrefixes,
    boolean isWatched) {
  /// No log-probabilities.
  public static final int NO_LOGPROBS = -1;

  public TextRequest {
    if (ids.length == 0 || mostTokens < 1 || sequences < 1) {
      throw new IllegalArgumentException(
          "%d tokens, %d more for each of %d texts".formatted(ids.length, mostTokens, sequences));
    }
    stopIds = Set.copyOf(stopIds);
  }

  /// The most tokens of a text with its prompt.
  public int length() {
    return Math.addExact(ids.length, mostTokens);
  }
}
