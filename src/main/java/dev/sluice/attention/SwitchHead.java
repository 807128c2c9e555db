package dev.sluice.attention;

import dev.sluice.InvalidInputException;
import dev.sluice.operations.Operations;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Tensor;
import java.util.Locale;
import java.util.regex.Pattern;

/// Values, or keys and values, chosen among experts: each key/value head has n projections of the
/// hidden state instead of one, and takes the sum of the k with the largest scores, each times its
/// score: `v_m = Σ_{e ∈ top k} σ(x w_{e,m}) (x W_{e,m})` (SwitchHead, arXiv 2312.07987, section 2;
/// paper, table 6). With one expert of one this is the headwise gate on the values.
///
/// All experts are computed and the chosen ones taken: the projections of values are a small part
/// of a layer's work.
///
/// @param keys whether keys are chosen too, by scores of their own, before norm and rotation
/// @param experts n; 0 for a plain projection
/// @param chosen k
public record SwitchHead(boolean keys, int experts, int chosen) {
  public static final SwitchHead NONE = new SwitchHead(false, 0, 0);

  private static final Pattern NAME = Pattern.compile("(value|key-value)-(\\d+)-choose-(\\d+)");

  public SwitchHead {
    if (chosen > experts || chosen < Math.min(1, experts)) {
      throw new InvalidInputException(
          "of %d experts of a head at least 1 and at most as many are chosen, not %d"
              .formatted(experts, chosen));
    }
  }

  /// Reads `none`, `value-N-choose-K` or `key-value-N-choose-K`.
  public static SwitchHead parse(String word) {
    if (word.equalsIgnoreCase("none")) {
      return NONE;
    }
    var name = NAME.matcher(word.toLowerCase(Locale.ROOT));
    if (!name.matches() || name.group(2).length() > 4 || name.group(3).length() > 4) {
      throw new InvalidInputException(
          "unknown switch head '"
              + word
              + "'; use none, value-N-choose-K or key-value-N-choose-K, such as value-4-choose-2");
    }
    return new SwitchHead(
        name.group(1).equals("key-value"),
        Integer.parseInt(name.group(2)),
        Integer.parseInt(name.group(3)));
  }

  public String word() {
    return experts == 0 ? "none" : (keys ? "key-value-" : "value-") + experts + "-choose-" + chosen;
  }

  /// Heads of the value projection.
  int valueHeads(int keyValueHeads) {
    return keyValueHeads * Math.max(1, experts);
  }

  /// Heads of the key projection.
  int keyHeads(int keyValueHeads) {
    return keys ? valueHeads(keyValueHeads) : keyValueHeads;
  }

  /// The definition. The result has the element type of the logits.
  ///
  /// @param yBTEH every expert's projection, `[B, T, n · M, H]`, expert by expert
  /// @param logitsBTE `[B, T, n · M]`
  /// @return `[B, T, M, H]`
  Tensor composed(Tensor yBTEH, Tensor logitsBTE) {
    var scores =
        logitsBTE
            .to(ElementType.FLOAT32)
            .sigmoid()
            .times(mask(logitsBTE, 1, 0))
            .reshape(yBTEH.size(0), yBTEH.size(1), yBTEH.size(2), 1);
    return sum(yBTEH.to(ElementType.FLOAT32).times(scores)).to(logitsBTE.type());
  }

  /// The same by the fused gate, which a logit of −∞ shuts.
  Tensor apply(Tensor yBTEH, Tensor logitsBTE) {
    var logits =
        chosen == experts
            ? logitsBTE
            : logitsBTE.plus(mask(logitsBTE, 0, Float.NEGATIVE_INFINITY)).to(logitsBTE.type());
    return sum(Operations.of(yBTEH).sigmoidGate(yBTEH, logits)).to(logitsBTE.type());
  }

  /// Over a head's experts.
  private Tensor sum(Tensor yBTEH) {
    if (experts == 1) {
      return yBTEH;
    }
    long heads = yBTEH.size(2) / experts;
    return yBTEH
        .to(ElementType.FLOAT32)
        .reshape(yBTEH.size(0), yBTEH.size(1), experts, heads, yBTEH.size(3))
        .mean(2)
        .times(experts)
        .reshape(yBTEH.size(0), yBTEH.size(1), heads, yBTEH.size(3));
  }

  /// `[B, T, n · M]` of one number for the chosen experts and another for the rest; of equal logits
  /// the first expert is taken.
  private Tensor mask(Tensor logitsBTE, float taken, float left) {
    float[] logits = logitsBTE.detach().to(ElementType.FLOAT32).floats();
    int width = Math.toIntExact(logitsBTE.size(2));
    int heads = width / experts;
    float[] mask = new float[logits.length];
    for (int row = 0; row < logits.length; row += width) {
      for (int head = 0; head < heads; head++) {
        for (int expert = 0; expert < experts; expert++) {
          int at = row + expert * heads + head;
          int before = 0; // experts that come before this one
          for (int other = 0; other < experts; other++) {
            float logit = logits[row + other * heads + head];
            before += logit > logits[at] || (logit == logits[at] && other < expert) ? 1 : 0;
          }
          mask[at] = before < chosen ? taken : left;
        }
      }
    }
    return Tensor.of(mask, logitsBTE.shape()).to(logitsBTE.device());
  }
}
