package dev.sluice.generation;

import dev.sluice.tokenizer.Tokenizer;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

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
    for (int id : likeliest(logits, count)) {
      first.add(new TokenLogprob(id, logits[id] - logSum, List.of()));
    }
    return new TokenLogprob(token, logits[token] - logSum, first);
  }

  /// The ids of the largest logits, the largest first, equal ones by id.
  private static int[] likeliest(float[] logits, int count) {
    int[] ids = new int[Math.min(count, logits.length)];
    int found = 0;
    for (int id = 0; id < logits.length && ids.length > 0; id++) {
      if (found == ids.length && !(logits[id] > logits[ids[found - 1]])) {
        continue;
      }
      int at = found < ids.length ? found++ : found - 1;
      for (; at > 0 && logits[id] > logits[ids[at - 1]]; at--) {
        ids[at] = ids[at - 1];
      }
      ids[at] = id;
    }
    return ids;
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
