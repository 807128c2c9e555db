package dev.sluice.openai;

import dev.sluice.generation.Restriction;
import java.util.Arrays;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/// Lets an answer be nothing but one call of a tool: the tokens that begin it, then what another
/// restriction allows until it says that the call is whole, the tokens that end it, and an end.
final class ForcedCall implements Restriction {
  /// What a call is between its ends.
  interface Body extends Restriction {
    /// Whether nothing can follow.
    boolean isComplete();
  }

  private final int[] begin;
  private final @Nullable Body body;
  private final int[] end;
  private final Set<Integer> ends;
  private int begun;
  private int ended;

  /// @param body null where it may be anything, also an end
  /// @param ends tokens that end an answer
  ForcedCall(int[] begin, @Nullable Body body, int[] end, Set<Integer> ends) {
    this.begin = begin;
    this.body = body;
    this.end = end;
    this.ends = ends;
  }

  @Override
  public void restrict(float[] logits) {
    if (begun < begin.length) {
      leave(logits, Set.of(begin[begun]));
    } else if (body != null && !body.isComplete()) {
      body.restrict(logits);
    } else if (body != null) {
      leave(logits, ended < end.length ? Set.of(end[ended]) : ends);
    }
  }

  @Override
  public void chosen(int token) {
    if (begun < begin.length) {
      begun++;
    } else if (body != null && !body.isComplete()) {
      body.chosen(token);
    } else {
      ended++;
    }
  }

  /// A token is chosen by itself, however unlikely it was.
  private static void leave(float[] logits, Set<Integer> tokens) {
    float[] left = new float[logits.length];
    Arrays.fill(left, Float.NEGATIVE_INFINITY);
    tokens.forEach(token -> left[token] = Float.isFinite(logits[token]) ? logits[token] : 0);
    System.arraycopy(left, 0, logits, 0, logits.length);
  }
}
