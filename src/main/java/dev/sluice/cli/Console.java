package dev.sluice.cli;

import dev.sluice.Printable;
import dev.sluice.report.Progress;
import java.io.IOException;
import java.io.PrintStream;
import java.io.UncheckedIOException;
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
    out().println(Printable.lines(line));
    requireOutput();
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

  /// Prints a piece of generated text at once; a model may well emit control characters.
  static void stream(String text) {
    clearProgress();
    out().print(Printable.lines(text));
    out().flush();
    requireOutput();
  }

  /// Prints a piece of text that is not part of the result at once, in pale letters on a terminal.
  static void aside(String text) {
    clearProgress();
    String shown = Printable.lines(text);
    err().print(isTerminal() ? "\u001b[2m" + shown + "\u001b[0m" : shown);
    err().flush();
  }

  /// Ends the command when nothing can be printed any more: a result that nobody gets must not look
  /// like one that was given.
  private static void requireOutput() {
    if (out().checkError()) {
      throw new UncheckedIOException(new OutputLost());
    }
  }

  /// Standard output takes no more.
  static final class OutputLost extends IOException {
    private static final long serialVersionUID = 1;

    OutputLost() {
      super("standard output cannot be written, so the result is lost; send it elsewhere");
    }
  }

  /// Prints news that is not part of the result.
  static void note(String lines) {
    clearProgress();
    err().println(Printable.lines(lines));
  }

  static void error(String sentence) {
    clearProgress();
    err().println("sluice: " + Printable.line(sentence));
  }

  /// Shows progress: one line that is overwritten on a terminal, a line now and then elsewhere.
  static void progress(Progress progress) {
    if (isTerminal()) {
      err().print("\r" + Printable.line(progress.terminalLine(COLUMNS)));
      err().flush();
      progressShown = true;
      return;
    }
    long now = System.nanoTime();
    if (lastLogged == 0 || now - lastLogged > LOG_EVERY_NANOS) {
      lastLogged = now;
      err().println(Printable.line(progress.logLine()));
    }
  }

  private static void clearProgress() {
    if (progressShown) {
      err().print("\r" + " ".repeat(COLUMNS) + "\r");
      progressShown = false;
    }
  }

  /// Whether a user sits at both ends.
  @SuppressWarnings("SystemConsoleNull") // it is null when standard input is not a terminal
  static boolean isTerminal() {
    var console = System.console();
    return console != null && console.isTerminal();
  }
}
