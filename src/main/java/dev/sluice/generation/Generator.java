package dev.sluice.generation;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.MultiTokenPrediction;
import dev.sluice.generation.Generation.Ending;
import dev.sluice.probe.Probe;
import dev.sluice.state.Past;
import dev.sluice.state.PrefixCache;
import dev.sluice.state.Slot;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Objects;
import java.util.Set;
import java.util.function.IntPredicate;
import org.jspecify.annotations.Nullable;

/// Continues a list of tokens: the prompt goes through the model piece by piece, then one token at
/// a time, with a cache of keys and values. So beside that cache the memory does not grow with the
/// prompt, and of logits there are only those after its last token.
///
/// With a head that drafts the token after the next, both are given to the model at once, which
/// costs little more than one, since its weights are read once. Where the model chooses as was
/// drafted, it has said two tokens; else the second is taken back. Each token is chosen from the
/// model's own logits, with the random number that is its own, so that a text is the same with and
/// without a head. To the bit it is for a model that was opened to run
/// (`ModelDirectory.openInPlace`): there a token's bits do not depend on the one that is read with
/// it (decision 0025).
///
/// @param decoder the model; it stays its owner's
/// @param piece the most tokens of the prompt at a time
/// @param head which drafts, for one text at a time; null for none
public record Generator(Decoder decoder, int piece, @Nullable MultiTokenPrediction head) {
  /// Tokens of a piece of the prompt.
  private static final int USUAL_PIECE = 2048;

  /// Tokens of a text, whatever context a model claims: a limit of memory.
  private static final int MOST_TOKENS = 1 << 20;

  public Generator {
    if (piece < 1) {
      throw new IllegalArgumentException("a piece has at least 1 token, not " + piece);
    }
  }

  /// Drafts nothing.
  public Generator(Decoder decoder, int piece) {
    this(decoder, piece, null);
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
    return generate(
            Prompt.of(prompt),
            new Choice(sampler),
            maxNewTokens,
            stopIds,
            1,
            (_, token, _) -> onToken.test(token))
        .getFirst();
  }

  /// Hears of each new token at once.
  @FunctionalInterface
  public interface Listener {
    /// Hears that some tokens of the prompt have been read, out of `total`.
    ///
    /// @return false to stop: there is no text then
    default boolean onRead(int tokens, int total) {
      return true;
    }

    /// @param sequence of several at once, from 0
    /// @param logits from which the token was chosen, as the model gave them, until this returns
    /// @return false to end that sequence after this token
    boolean onToken(int sequence, int token, float[] logits);
  }

  /// One of the texts that continue a prompt, and where it stands.
  private record Text(int number, Slot slot, Continuation continuation) {
    boolean hasEnded() {
      return continuation.ending() != null;
    }
  }

  /// Continues a prompt several times at once: it is read once, and a pass goes through the model
  /// for all sequences that have not ended. Each draws random numbers of its own. What the prompt's
  /// cache holds of its beginning is not read again, and it keeps what is read.
  ///
  /// @param stopIds tokens that end a text; the one that does is not part of it
  public List<Generation> generate(
      Prompt prompt,
      Choice choice,
      int maxNewTokens,
      Set<Integer> stopIds,
      int sequences,
      Listener listener) {
    int[] ids = prompt.ids();
    requireRoom(ids, maxNewTokens);
    int vocabulary = decoder.config().vocabSize();
    choice.adjustments().requireTokens(vocabulary);
    if (head != null && sequences > 1) {
      throw new InvalidInputException(
          "%d texts at once are not speculated on, only one is; ask for one, or leave speculation out"
              .formatted(sequences));
    }
    // The last token is chosen but never fed.
    int capacity = ids.length + maxNewTokens - 1;
    try (var state = decoder.newState(sequences, capacity);
        var drafts = head == null ? null : new Drafts(head, capacity)) {
      var reading = new PromptReading(decoder, prompt, state, piece);
      reading.expect(capacity);
      var first = reading.slot();
      float[] logits = read(reading, drafts, listener);
      if (logits == null) {
        return Collections.nCopies(
            sequences, new Generation(List.of(), Ending.CALLER, reading.cachedTokens(), 0, 0));
      }
      var texts = new ArrayList<Text>();
      for (int i = 0; i < sequences; i++) {
        var slot = i == 0 ? first : state.copyPrefix(first, ids.length);
        texts.add(
            new Text(i, slot, new Continuation(i, choice, ids, vocabulary, maxNewTokens, stopIds)));
        choose(texts.getLast(), logits, listener);
      }
      var open = new ArrayList<>(texts);
      open.removeIf(Text::hasEnded);
      float[][] next = rows(drafts == null ? open.size() : 2);
      while (!open.isEmpty()) {
        var one = open.getFirst();
        var text = one.continuation;
        if (drafts != null && text.tokens().size() <= maxNewTokens - 2) {
          int guess = drafts.next(last(ids, text.tokens(), drafts.waiting()), text::adjusted);
          int[] both = {text.last(), guess};
          try (var _ = Scope.withoutGradient()) {
            var hidden = hidden(both, state.tentative(one.slot));
            decoder.logits(hidden).readRows(next);
            choose(one, next[0], listener);
            if (!one.hasEnded() && text.last() == guess) {
              drafts.accept();
              drafts.hear(hidden);
              choose(one, next[1], listener);
            } else {
              state.retract(one.slot);
              drafts.hear(hidden.narrow(1, 0, 1));
            }
          }
          open.removeIf(Text::hasEnded);
          continue;
        }
        int[] last = open.stream().mapToInt(each -> each.continuation.last()).toArray();
        step(last, state.past(open.stream().map(each -> each.slot).toList()), Probe.NONE, next);
        Continuation.draw(open.stream().map(each -> each.continuation).toList(), next);
        for (int i = 0; i < last.length; i++) {
          choose(open.get(i), next[i], listener);
        }
        open.removeIf(Text::hasEnded);
      }
      texts.forEach(text -> prompt.keepAnswer(state, text.slot, text.continuation.tokens()));
      return texts.stream()
          .map(
              text ->
                  new Generation(
                      text.continuation.tokens(),
                      Objects.requireNonNull(text.continuation.ending()),
                      reading.cachedTokens(),
                      drafts == null ? 0 : drafts.drafted(),
                      drafts == null ? 0 : drafts.accepted()))
          .toList();
    }
  }

  /// The last tokens of a text and its prompt.
  private static int[] last(int[] prompt, List<Integer> tokens, int count) {
    int[] last = new int[count];
    for (int i = 0; i < count; i++) {
      int at = tokens.size() - count + i;
      last[i] = at < 0 ? prompt[prompt.length + at] : tokens.get(at);
    }
    return last;
  }

  private static void choose(Text text, float[] logits, Listener listener) {
    var continuation = text.continuation;
    if (continuation.choose(logits)
        && !listener.onToken(text.number, continuation.last(), logits)) {
      continuation.stop();
    }
  }

  /// The likeliest continuation of `length` tokens by definition: no cache, everything computed
  /// anew for each token.
  public int[] greedyWithoutCache(int[] prompt, int length) {
    requireRoom(prompt, length);
    var random = Sampler.GREEDY.random();
    int[] text = prompt;
    for (int i = 0; i < length; i++) {
      int token = Sampler.GREEDY.choose(next(text), random);
      text = Arrays.copyOf(text, text.length + 1);
      text[text.length - 1] = token;
    }
    return Arrays.copyOfRange(text, prompt.length, text.length);
  }

  /// Reads a cache that [PrefixCache#save] has written.
  ///
  /// @param model what the cache was made with: all that its states depend on
  /// @throws InvalidInputException in one sentence if the file is not what was written for this
  ///   model; the caller goes on with a new cache
  public PrefixCache loadPrefixes(Path file, String model, long budgetBytes) {
    try (var state = decoder.newState(1, 1);
        var _ = Scope.withoutGradient()) {
      var slot = state.take();
      hidden(new int[1], state.past(slot)); // what it leaves shows what this model's layers keep
      return PrefixCache.load(file, model, budgetBytes, slot);
    }
  }

  /// The logits after the last token of a prompt; null where the listener wants no more.
  private static float @Nullable [] read(
      PromptReading reading, @Nullable Drafts drafts, Listener listener) {
    float[] logits = reading.next(drafts, Probe.NONE);
    while (logits == null) {
      if (!listener.onRead(reading.slot().length(), reading.total())) {
        return null;
      }
      logits = reading.next(drafts, Probe.NONE);
    }
    return logits;
  }

  /// The logits after the last of `tokens`, which are the whole text.
  private float[] next(int[] tokens) {
    try (var _ = Scope.withoutGradient()) {
      var hidden = hidden(tokens, null);
      return decoder.logits(hidden.narrow(1, tokens.length - 1, 1)).floats();
    }
  }

  /// Reads the logits after the next token of each of several sequences.
  ///
  /// @param tokens one for each row of the past
  /// @param probe which watches the pass
  /// @param logits a row for each token and perhaps more, of a number for each of the vocabulary
  public void step(int[] tokens, Past past, Probe probe, float[][] logits) {
    try (var _ = Scope.withoutGradient()) {
      long[] ids = Arrays.stream(tokens).asLongStream().toArray();
      var hidden =
          decoder.hiddenStates(Tensor.of(ids, ids.length, 1).to(decoder.device()), past, probe);
      decoder.logits(hidden).readRows(logits);
    }
  }

  /// Memory for logits after each of several tokens: they are megabytes, and new ones for each
  /// token would take longer than reading them.
  public float[][] rows(int tokens) {
    return new float[tokens][decoder.config().vocabSize()];
  }

  private Tensor hidden(int[] tokens, @Nullable Past past) {
    return PromptReading.hidden(decoder, tokens, past, Probe.NONE);
  }

  /// How many tokens may follow a prompt of so many; none where it is 0 or less.
  public int room(int promptTokens) {
    return Math.min(decoder.config().context(), MOST_TOKENS) - promptTokens;
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
