package dev.sluice.generation;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.sluice.InvalidInputException;
import java.util.List;
import org.junit.jupiter.api.Test;

class StopStringsTest {
  /// Cut into pieces of every length, a text ends before the first of the strings.
  @Test
  void endsTheTextHoweverItComes() {
    String text = "one </s two </stop> three";
    for (int length = 1; length <= text.length(); length++) {
      var stops = new StopStrings(List.of("zzz", "</stop>", "stop>"));
      var written = new StringBuilder();
      for (int at = 0; at < text.length() && !stops.found(); at += length) {
        written.append(stops.add(text.substring(at, Math.min(text.length(), at + length))));
      }
      written.append(stops.finish());
      assertEquals("one </s two ", written.toString(), "pieces of " + length);
    }
  }

  @Test
  void whatOnlyBeginsAStringIsPartOfTheText() {
    var stops = new StopStrings(List.of("\n\nQ:"));
    assertEquals("a", stops.add("a\n\n"));
    assertEquals("", stops.add("Q"));
    assertEquals("\n\nQ", stops.finish());
    assertEquals("b", new StopStrings(List.of()).add("b"));
  }

  @Test
  void anEmptyStringIsRefused() {
    assertThrows(InvalidInputException.class, () -> new StopStrings(List.of("a", "")));
  }
}
