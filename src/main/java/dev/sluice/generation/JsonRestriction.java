package dev.sluice.generation;

import dev.sluice.schema.JsonState;
import dev.sluice.schema.TokenMask;
import java.util.OptionalInt;

/// Lets a text be nothing but a JSON value as a schema wants it, from the start or from the first
/// token of a kind on, such as `</think>`: before that, any token may come. A text that its end
/// token ended after that is valid; where it ended otherwise, [#isComplete] tells.
public final class JsonRestriction implements Restriction {
  private final TokenMask mask;
  private final OptionalInt after;
  private boolean armed;
  private JsonState state;

  /// @param mask which several texts of one thread may share
  /// @param after the token after which the value begins; empty where the text begins with it
  public JsonRestriction(TokenMask mask, OptionalInt after) {
    this.mask = mask;
    this.after = after;
    this.armed = after.isEmpty();
    this.state = mask.start();
  }

  @Override
  public void restrict(float[] logits) {
    if (armed) {
      mask.restrict(state, logits);
    }
  }

  @Override
  public void chosen(int token) {
    if (!armed) {
      armed = after.getAsInt() == token;
    } else if (!mask.isEnd(token)) {
      state = mask.after(state, token);
    }
  }

  /// Whether the value is there and whole.
  public boolean isComplete() {
    return armed && state.isComplete();
  }
}
