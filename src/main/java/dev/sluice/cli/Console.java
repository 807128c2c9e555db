package dev.sluice.cli;

import dev.sluice.report.Progress;
import java.io.PrintStream;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/// Where commands print: results to standard output, progress and errors to standard error.
final class Console {
  private static final int COLUMNS = 100;
  private static final long LOG_EVERY_NANOS = 10_000_000_000L;

  private static @Nullable PrintStream out;
  private static @Nullable PrintStream err;
  private static boolean progressShown;
  private static long lastLogged;

  private Console() {}

  static void set(PrintStream standardOutput, PrintStream standardError) {
    out = standardOutput;
    err = standardError;
    progressShown = false;
    lastLogged = 0;
  }

  static PrintStream out() {
    return Objects.requireNonNull(out);
  }

  static PrintStream err() {
    return Objects.requireNonNull(err);
  }

  /// Prints a line of the result.
  static void print(String line) {
    clearProgress();
    out().println(line);
  }

  /// Prints a piece of generated text at once. Control characters, which a model may well emit, are
  /// shown as U+FFFD: text must not be able to steer the terminal.
  static void stream(String text) {
    clearProgress();
    out().print(printable(text));
    out().flush();
  }

  static String printable(String text) {
    return text.codePoints()
        .map(c -> Character.isISOControl(c) && c != '\n' && c != '\t' && c != '\r' ? 0xFFFD : c)
        .collect(StringBuilder::new, StringBuilder::appendCodePoint, StringBuilder::append)
        .toString();
  }

  /// Breaks a paragraph into lines of the console's width.
  static String wrap(String paragraph) {
    var wrapped = new StringBuilder();
    int column = 0;
    for (String word : paragraph.split(" ")) {
      if (column > 0 && column + 1 + word.length() > COLUMNS) {
        wrapped.append('\n');
        column = 0;
      }
      if (column > 0) {
        wrapped.append(' ');
        column++;
      }
      wrapped.append(word);
      column += word.length();
    }
    return wrapped.toString();
  }

  /// Prints a line of news that is not part of the result.
  static void note(String line) {
    clearProgress();
    err().println(line);
  }

  static void error(String sentence) {
    clearProgress();
    err().println("sluice: " + sentence);
  }

  /// Shows progress: one line that is overwritten on a terminal, a line now and then elsewhere.
  static void progress(Progress progress) {
    if (isTerminal()) {
      err().print("\r" + progress.terminalLine(COLUMNS));
      err().flush();
      progressShown = true;
      return;
    }
    long now = System.nanoTime();
    if (lastLogged == 0 || now - lastLogged > LOG_EVERY_NANOS) {
      lastLogged = now;
      err().println(progress.logLine());
    }
  }

  private static void clearProgress() {
    if (progressShown) {
      err().print("\r" + " ".repeat(COLUMNS) + "\r");
      progressShown = false;
    }
  }

  @SuppressWarnings("SystemConsoleNull") // it is null when standard input is not a terminal
  private static boolean isTerminal() {
    var console = System.console();
    return console != null && console.isTerminal();
  }
}
