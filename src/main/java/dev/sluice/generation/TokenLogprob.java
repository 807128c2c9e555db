package dev.sluice.generation;

import dev.sluice.tokenizer.Tokenizer;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;

/// A token of a text with its log-probability: the natural logarithm of the softmax over all
/// tokens, of the logits as the model gives them, before temperature, penalties and whatever else
/// decides among them.
///
/// @param likeliest the likeliest tokens at that place, the likeliest first
public record TokenLogprob(int token, double logprob, List<TokenLogprob> likeliest) {
  public TokenLogprob {
    likeliest = List.copyOf(likeliest);
  }

  /// @param count how many of the likeliest
  public static TokenLogprob of(int token, float[] logits, int count) {
    double largest = Double.NEGATIVE_INFINITY;
    for (float logit : logits) {
      largest = Math.max(largest, logit);
    }
    double sum = 0;
    for (float logit : logits) {
      sum += Math.exp(logit - largest);
    }
    double logSum = largest + Math.log(sum);
    List<TokenLogprob> first = new ArrayList<>();
    if (count > 0) {
      IntStream.range(0, logits.length)
          .boxed()
          .sorted((a, b) -> Float.compare(logits[b], logits[a])) // stable: equals by id
          .limit(count)
          .forEach(id -> first.add(new TokenLogprob(id, logits[id] - logSum, List.of())));
    }
    return new TokenLogprob(token, logits[token] - logSum, first);
  }

  /// As JSON has it: the token's number, its text alone and its log-probability.
  public Map<String, Object> shown(Tokenizer tokenizer) {
    Map<String, Object> shown = new LinkedHashMap<>();
    shown.put("id", token);
    shown.put("text", tokenizer.decode(new int[] {token}));
    shown.put("logprob", logprob);
    if (!likeliest.isEmpty()) {
      shown.put("likeliest", likeliest.stream().map(each -> each.shown(tokenizer)).toList());
    }
    return shown;
  }
}
