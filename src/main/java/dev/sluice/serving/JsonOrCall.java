package dev.sluice.serving;

import dev.sluice.generation.Restriction;
import org.jspecify.annotations.Nullable;

/// Lets an answer be JSON or a call of a tool, which its first token decides.
final class JsonOrCall implements Restriction {
  private final Restriction json;
  private final Restriction call;
  private final int mark;
  private @Nullable Restriction chosen;

  /// @param mark the token that begins a call
  JsonOrCall(Restriction json, Restriction call, int mark) {
    this.json = json;
    this.call = call;
    this.mark = mark;
  }

  @Override
  public void restrict(float[] logits) {
    if (chosen == null) {
      float ofCall = logits[mark];
      json.restrict(logits);
      logits[mark] = ofCall;
    } else {
      chosen.restrict(logits);
    }
  }

  @Override
  public void chosen(int token) {
    if (chosen == null) {
      chosen = token == mark ? call : json;
    }
    chosen.chosen(token);
  }
}
