package dev.sluice.generation;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.Decoder;
import dev.sluice.generation.Generation.Ending;
import dev.sluice.probe.Probe;
import dev.sluice.state.Past;
import dev.sluice.state.SequenceState;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.function.IntPredicate;
import org.jspecify.annotations.Nullable;

/// Continues a list of tokens: the prompt goes through the model piece by piece, then one token at
/// a time, with a cache of keys and values. So beside that cache the memory does not grow with the
/// prompt, and of logits there are only those after its last token.
///
/// @param decoder the model; it stays its owner's
/// @param piece the most tokens of the prompt at a time
public record Generator(Decoder decoder, int piece) {
  /// Tokens of a piece of the prompt.
  private static final int USUAL_PIECE = 2048;

  /// Tokens of a text, whatever context a model claims: a limit of memory.
  private static final int MOST_TOKENS = 1 << 20;

  public Generator {
    if (piece < 1) {
      throw new IllegalArgumentException("a piece has at least 1 token, not " + piece);
    }
  }

  /// Reads prompts in pieces of the usual length.
  public Generator(Decoder decoder) {
    this(decoder, USUAL_PIECE);
  }

  /// Generates without watching.
  public Generation generate(
      int[] prompt, Sampler sampler, int maxNewTokens, Set<Integer> stopIds) {
    return generate(prompt, sampler, maxNewTokens, stopIds, _ -> true);
  }

  /// Continues `prompt` until a stop token, until `maxNewTokens`, or until the caller wants no
  /// more.
  ///
  /// @param stopIds tokens that end the text; the one that does is not part of it
  /// @param onToken receives each new token at once; false ends the text after it
  public Generation generate(
      int[] prompt, Sampler sampler, int maxNewTokens, Set<Integer> stopIds, IntPredicate onToken) {
    requireRoom(prompt, maxNewTokens);
    var random = sampler.random();
    List<Integer> tokens = new ArrayList<>();
    // The last token is chosen but never fed.
    int capacity = prompt.length + maxNewTokens - 1;
    try (var state = new SequenceState(1, capacity)) {
      var past = state.past(state.take());
      float[] logits = read(prompt, past);
      while (true) {
        int token = sampler.choose(logits, random);
        if (stopIds.contains(token)) {
          return new Generation(tokens, Ending.STOP_TOKEN);
        }
        tokens.add(token);
        if (!onToken.test(token)) {
          return new Generation(tokens, Ending.CALLER);
        }
        if (tokens.size() == maxNewTokens) {
          return new Generation(tokens, Ending.LENGTH);
        }
        logits = next(new int[] {token}, past);
      }
    }
  }

  /// The likeliest continuation of `length` tokens by definition: no cache, everything computed
  /// anew for each token.
  public int[] greedyWithoutCache(int[] prompt, int length) {
    requireRoom(prompt, length);
    var random = Sampler.GREEDY.random();
    int[] text = prompt;
    for (int i = 0; i < length; i++) {
      int token = Sampler.GREEDY.choose(next(text, null), random);
      text = Arrays.copyOf(text, text.length + 1);
      text[text.length - 1] = token;
    }
    return Arrays.copyOfRange(text, prompt.length, text.length);
  }

  /// The logits after the last token of a prompt.
  private float[] read(int[] prompt, Past past) {
    int from = 0;
    for (; prompt.length - from > piece; from += piece) {
      try (var _ = Scope.withoutGradient()) {
        hidden(Arrays.copyOfRange(prompt, from, from + piece), past);
      }
    }
    return next(Arrays.copyOfRange(prompt, from, prompt.length), past);
  }

  /// The logits after the last of `tokens`.
  private float[] next(int[] tokens, @Nullable Past past) {
    try (var _ = Scope.withoutGradient()) {
      var hidden = hidden(tokens, past);
      return decoder.logits(hidden.narrow(1, tokens.length - 1, 1)).floats();
    }
  }

  private Tensor hidden(int[] tokens, @Nullable Past past) {
    long[] ids = Arrays.stream(tokens).asLongStream().toArray();
    return decoder.hiddenStates(
        Tensor.of(ids, 1, ids.length).to(decoder.device()), past, Probe.NONE);
  }

  private void requireRoom(int[] prompt, int maxNewTokens) {
    if (prompt.length == 0) {
      throw new InvalidInputException(
          "the prompt has no tokens; give some text, or the token that begins a text");
    }
    if (maxNewTokens < 1) {
      throw new InvalidInputException(
          "the number of new tokens must be at least 1, not " + maxNewTokens);
    }
    decoder.config().requireInVocabulary(Arrays.stream(prompt).asLongStream().toArray());
    int limit = decoder.config().context();
    if ((long) prompt.length + maxNewTokens > limit) {
      throw new InvalidInputException(
          ("%d prompt tokens and %d new ones exceed the model's context of %d tokens;"
                  + " shorten the prompt or ask for fewer")
              .formatted(prompt.length, maxNewTokens, limit));
    }
    if ((long) prompt.length + maxNewTokens > MOST_TOKENS) {
      throw new InvalidInputException(
          "%d prompt tokens and %d new ones are more than the %d of which keys and values are kept; ask for fewer"
              .formatted(prompt.length, maxNewTokens, MOST_TOKENS));
    }
  }
}
