package dev.sluice.chat;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.sluice.generation.Restriction;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

class AfterThoughtsTest {
  private static final int BEGIN = 3;
  private static final int END = 4;

  /// Allows token 0 alone, and keeps what was chosen.
  private static final class OnlyZero implements Restriction {
    private final List<Integer> chosen = new ArrayList<>();

    @Override
    public void restrict(float[] logits) {
      for (int i = 1; i < logits.length; i++) {
        logits[i] = Float.NEGATIVE_INFINITY;
      }
    }

    @Override
    public void chosen(int token) {
      chosen.add(token);
    }
  }

  private static List<Integer> allowed(Restriction restriction) {
    float[] logits = {1, 1, 1, 1, 1};
    restriction.restrict(logits);
    return IntStream.range(0, 5).filter(i -> logits[i] == 1).boxed().toList();
  }

  @Test
  void thoughtsAreFreeAndTheAnswerIsNot() {
    var answer = new OnlyZero();
    var restriction = new AfterThoughts(answer, true, BEGIN, END);
    assertEquals(List.of(0, 1, 2, 3, 4), allowed(restriction));
    restriction.chosen(2);
    restriction.chosen(END);
    assertEquals(List.of(0), allowed(restriction));
    restriction.chosen(0);
    assertEquals(List.of(0), answer.chosen);
  }

  @Test
  void aModelMayBeginToThinkOrNot() {
    var answer = new OnlyZero();
    var thinking = new AfterThoughts(answer, false, BEGIN, END);
    assertEquals(List.of(0, BEGIN), allowed(thinking));
    thinking.chosen(BEGIN);
    assertEquals(List.of(0, 1, 2, 3, 4), allowed(thinking));
    thinking.chosen(END);
    assertEquals(List.of(0), allowed(thinking));
    assertEquals(List.of(), answer.chosen);

    var atOnce = new AfterThoughts(answer, false, BEGIN, END);
    atOnce.chosen(0);
    assertEquals(List.of(0), allowed(atOnce));
    assertEquals(List.of(0), answer.chosen);
  }
}
