package dev.sluice.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

class TextTableTest {
  private static final Table LOSS =
      Table.titled("Validation loss")
          .columns("arm", "seeds", "loss", "first-token attention")
          .row(Cell.of("ungated"), Cell.of(5), Cell.interval(2.1342, 0.0121), Cell.percent(.467, 1))
          .row(
              Cell.of("gate on the output of attention"),
              Cell.of(12),
              Cell.interval(2.0991, 0.0088),
              Cell.missing())
          .footnote("95 % intervals over seeds.");

  @Test
  void numbersStandRightAndIntervalsShareTheirDecimals() {
    assertEquals(
        """
        Validation loss
        ──────────────────────────────────────────────────────────────────────────────
        arm                              seeds             loss  first-token attention
        ──────────────────────────────────────────────────────────────────────────────
        ungated                              5  2.1342 ± 0.0121                 46.7 %
        gate on the output of attention     12  2.0991 ± 0.0088                      –
        ──────────────────────────────────────────────────────────────────────────────
        95 % intervals over seeds.
        """,
        TextTable.of(LOSS).toString());
  }

  @Test
  void wordsAndHeadersAreWrappedWhereTheTableIsTooWide() {
    assertEquals(
        """
        Validation loss
        ────────────────────────────────────────────────────────────
                                                         first-token
        arm                      seeds             loss    attention
        ────────────────────────────────────────────────────────────
        ungated                      5  2.1342 ± 0.0121       46.7 %
        gate on the output of       12  2.0991 ± 0.0088            –
        attention
        ────────────────────────────────────────────────────────────
        95 % intervals over seeds.
        """,
        new TextTable(LOSS, 60).toString());
  }

  @Test
  void aTokenCannotSteerTheTerminal() {
    Table table = Table.titled("t\u001b[2J").columns("a\r", "b").row(Cell.of("x\ny"), Cell.of(1));
    String text = TextTable.of(table).toString();
    assertFalse(text.contains("\u001b") || text.contains("\r"), text);
    assertTrue(text.contains("t␛[2J") && text.contains("x␊y"), text);
  }

  /// Ideographs take two columns of a terminal, accents on the letter before none.
  @Test
  void columnsLineUpWhateverTheScript() {
    Table table =
        Table.titled("")
            .columns("name", "n")
            .row(Cell.of("門控"), Cell.of(1))
            .row(Cell.of("ga\u0302te"), Cell.of(22));
    assertEquals(
        """
        ────────
        name   n
        ────────
        門控   1
        ga\u0302te  22
        ────────
        """,
        TextTable.of(table).toString());
    Table narrow = Table.titled("").columns("name").row(Cell.of("門".repeat(50)));
    var lines = new TextTable(narrow, 21).toString().lines().toList();
    assertTrue(lines.stream().allMatch(line -> TextWidth.of(line) <= 21), lines.toString());
    assertEquals(50, lines.stream().mapToLong(l -> l.chars().filter(c -> c == '門').count()).sum());
  }

  @Test
  void aHugeCellIsShortened() {
    Table table = Table.titled("").columns("name").row(Cell.of("n".repeat(100_000)));
    assertTrue(TextTable.of(table).toString().length() < 2000);
    Table one = Table.titled("").columns("m").row(Cell.of("門"));
    assertTrue(new TextTable(one, 1).toString().contains("門"));
  }

  @Test
  void aLongWordIsCutAndAnEmptyTableIsStillOne() {
    Table path = Table.titled("").columns("path").row(Cell.of("/a".repeat(60)));
    assertTrue(new TextTable(path, 40).toString().lines().allMatch(line -> line.length() <= 40));
    assertEquals("─\n\n─\n─\n", new TextTable(Table.titled(""), 40).toString());
  }

  /// A gate's name stays in one piece, even where numbers leave no room for it.
  @Test
  void aNameIsNotCut() {
    Table gates =
        Table.titled("").columns("gate", "step, ms").row(Cell.of("sdpa-elementwise"), Cell.of(3));
    assertTrue(new TextTable(gates, 14).toString().contains("sdpa-elementwise"));
  }

  @Test
  void aRowOfTheWrongLengthIsRefused() {
    assertThrows(
        IllegalArgumentException.class, () -> Table.titled("t").columns("a", "b").row(Cell.of(1)));
  }
}
