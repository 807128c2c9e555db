package dev.sluice;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

class PrintableTest {
  @Test
  void controlCharactersAreShownByTheirPictures() {
    assertEquals("a␛[31mb␇c␀d␡e", Printable.line("a\u001B[31mb\u0007c\0d\u007Fe"));
    assertEquals("one␊two␍␉three", Printable.line("one\ntwo\r\tthree"));
    assertEquals("one\ntwo␍\n\tthree", Printable.lines("one\ntwo\r\n\tthree").replace("\r", "␍"));
  }

  /// Text that is drawn in another order than it stands, or not at all, hides what a name is.
  @Test
  void whatReordersOrHidesTextIsReplaced() {
    assertEquals("�gpj.exe", Printable.line("\u202Egpj.exe"));
    assertEquals("a�b", Printable.line("a\u2028b"));
    assertEquals("a�b", Printable.line("a\u009Bb"));
    assertEquals("a�b", Printable.line("a\uD83Db"));
    assertEquals("tag�", Printable.line("tag" + Character.toString(0xE0041)));
  }

  @Test
  void whatPeopleWriteStays() {
    String text = "Ünïcödé 東京 👩‍👩‍👧 – “quoted” ½ ×";
    assertEquals(text, Printable.line(text));
  }

  @Test
  void noCharacterSteersTheTerminal() {
    IntStream.rangeClosed(0, Character.MAX_CODE_POINT)
        .filter(c -> Character.isISOControl(c) || Character.getType(c) == Character.LINE_SEPARATOR)
        .mapToObj(c -> Printable.line(Character.toString(c)))
        .forEach(shown -> assertFalse(Character.isISOControl(shown.codePointAt(0)), shown));
  }

  /// Its end, where the way out stands, stays.
  @Test
  void aLongLineLosesItsMiddle() {
    String line = Printable.line("Start " + "x".repeat(1_000_000) + "; the way out");
    assertTrue(line.length() < 3000);
    assertTrue(line.startsWith("Start x"));
    assertTrue(line.endsWith("; the way out"));
  }

  @Test
  void messagesAreOneLine() {
    var e =
        new InvalidInputException("the name '\u001B]0;title\u0007\n' is not known; take another");
    assertEquals("the name '␛]0;title␇␊' is not known; take another", e.getMessage());
  }
}
