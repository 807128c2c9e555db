package dev.sluice.attention;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.sluice.InvalidInputException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class PositionsTest {
  @Test
  void negativeWindowsAreRefused() {
    var refused =
        assertThrows(InvalidInputException.class, () -> Positions.NONE.withWindow(-3)).getMessage();
    assertEquals("sliding_window must be a positive number, or 0 for none, not -3", refused);
  }

  /// Within half a key of the mean over all queries, counted.
  @ParameterizedTest
  @CsvSource({"1,0", "1,1", "100,0", "100,1", "100,7", "100,99", "100,100", "100,1000"})
  void meanKeysIsThatOfTheQueries(int tokens, int window) {
    double sum = 0;
    for (int i = 0; i < tokens; i++) {
      sum += window == 0 ? i + 1 : Math.min(i + 1, window);
    }
    double mean = Positions.NONE.withWindow(window).meanKeys(tokens);
    assertEquals(sum / tokens, mean, 0.5);
    if (window == 0 || window >= tokens) {
      assertEquals(tokens / 2.0, mean);
    }
  }
}
