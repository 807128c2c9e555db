package dev.sluice.evaluation;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.tokenizer.Tokenizer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/// From texts to requests, by the rules of lm-evaluation-harness.
///
/// A context and its continuation are tokenized as one text and cut after as many tokens as the
/// context alone has; white space at the end of the context counts as the continuation's. Where a
/// token reaches over the border, the cut is therefore not the text's, and the model sees the
/// context's own tokens before it. Of all it sees the last L at most, L being its context. An empty
/// context is the prefix token: the one that begins a text, else the one that ends a document.
public final class RequestEncoder {
  /// Which token stands before every text.
  public enum StartToken {
    /// What the tokenizer's template says.
    TOKENIZER,
    /// The prefix token.
    ALWAYS,
    NEVER
  }

  private static final int SHOWN = 60;

  private final Tokenizer tokenizer;
  private final int longest;
  private final int[] start;
  private final int prefix;
  private final Map<String, int[]> contexts = new HashMap<>();

  /// @param longest L, in tokens
  public RequestEncoder(Tokenizer tokenizer, int longest, StartToken startToken) {
    this.tokenizer = tokenizer;
    this.longest = longest;
    this.prefix = tokenizer.beginOfText().orElseGet(tokenizer::endOfText);
    this.start =
        switch (startToken) {
          case TOKENIZER -> templateStart(tokenizer);
          case ALWAYS -> new int[] {prefix};
          case NEVER -> new int[0];
        };
  }

  /// What the template puts before a text. What it puts behind one would stand between context and
  /// continuation.
  private static int[] templateStart(Tokenizer tokenizer) {
    int[] plain = tokenizer.encode("a");
    int[] framed = tokenizer.encodeFramed("a");
    int before = framed.length - plain.length;
    if (before < 0 || !Arrays.equals(plain, Arrays.copyOfRange(framed, before, framed.length))) {
      throw new InvalidInputException(
          "the tokenizer %s puts tokens behind every text (%s), which would stand between a context and what follows it; pass --start-token always or never"
              .formatted(tokenizer.describe(), Arrays.toString(framed)));
    }
    return Arrays.copyOf(framed, before);
  }

  /// L, the most tokens that the model sees at a time.
  public int longest() {
    return longest;
  }

  /// The tokens that stand before every text.
  public int[] startTokens() {
    return start.clone();
  }

  /// A text with its start tokens, unless it begins with the prefix token itself.
  public int[] encode(String text) {
    int[] ids = tokenizer.encode(text);
    return ids.length > 0 && ids[0] == prefix ? ids : joined(start, ids);
  }

  /// How likely a continuation is after a context.
  ///
  /// @param where what the texts belong to, for messages: `row 3 of piqa.jsonl`
  /// @throws InvalidInputException if there is nothing to score, or more than the model's context
  public TokenRequest pair(String context, String continuation, String where) {
    if (context.isEmpty()) {
      int[] ids = tokenizer.encode(continuation);
      if (ids.length == 0) {
        throw new InvalidInputException(
            "%s has an empty continuation, which no model can score; give it a text"
                .formatted(where));
      }
      boolean begun = ids[0] == prefix && ids.length > 1;
      return request(begun ? ids : joined(new int[] {prefix}, ids), 1, where);
    }
    String bare = withoutSpaceAtEnd(context);
    String moved = context.substring(bare.length()) + continuation;
    if (bare.isEmpty()) {
      throw new InvalidInputException(
          "%s has a context of white space alone, which belongs to the continuation, so that nothing is left before it; leave the context empty"
              .formatted(where));
    }
    int[] whole = encode(bare + moved);
    int[] before = contexts.computeIfAbsent(bare, this::encode);
    if (before.length == 0 || whole.length <= before.length) {
      throw new InvalidInputException(
          "%s leaves no token to score: the tokenizer joins the continuation '%s' with the context before it; change one of them"
              .formatted(where, Printable.brief(continuation, SHOWN)));
    }
    int[] after = Arrays.copyOfRange(whole, before.length, whole.length);
    return request(joined(before, after), before.length, where);
  }

  private TokenRequest request(int[] sequence, int context, String where) {
    int targets = sequence.length - context;
    if (targets > longest) {
      throw new InvalidInputException(
          "%s has a continuation of %d tokens, more than the model's context of %d; shorten it"
              .formatted(where, targets, longest));
    }
    int cut = Math.max(0, sequence.length - (longest + 1));
    return TokenRequest.after(
        Arrays.copyOfRange(sequence, cut, sequence.length), context - cut, cut);
  }

  /// How likely a whole text is, each token predicted once: in windows of L tokens, the first after
  /// the prefix token, each other after the last token of the one before it; the last window is
  /// filled up with tokens from before it. Empty for an empty text.
  public List<TokenRequest> rolling(String text) {
    int[] ids = encode(text);
    List<TokenRequest> windows = new ArrayList<>();
    int first = Math.min(longest, ids.length);
    if (first > 0) {
      windows.add(TokenRequest.after(joined(new int[] {prefix}, Arrays.copyOf(ids, first)), 1, 0));
    }
    for (int done = first; done < ids.length; ) {
      int predicted = Math.min(longest, ids.length - done);
      int end = done + predicted;
      int[] window = Arrays.copyOfRange(ids, end - longest - 1, end);
      windows.add(TokenRequest.after(window, window.length - predicted, 0));
      done = end;
    }
    return windows;
  }

  private static int[] joined(int[] first, int[] second) {
    int[] all = Arrays.copyOf(first, first.length + second.length);
    System.arraycopy(second, 0, all, first.length, second.length);
    return all;
  }

  /// The text without what Python calls white space at its end.
  private static String withoutSpaceAtEnd(String text) {
    int end = text.length();
    while (end > 0 && isSpace(text.charAt(end - 1))) {
      end--;
    }
    return text.substring(0, end);
  }

  private static boolean isSpace(char c) {
    return Character.isWhitespace(c) || Character.isSpaceChar(c) || c == '\u0085';
  }
}
