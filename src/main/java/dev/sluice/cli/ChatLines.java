package dev.sluice.cli;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import org.jline.reader.EndOfFileException;
import org.jline.reader.LineReader;
import org.jline.reader.LineReaderBuilder;
import org.jline.reader.UserInterruptException;
import org.jline.terminal.Terminal;
import org.jline.terminal.TerminalBuilder;
import org.jspecify.annotations.Nullable;

/// What the user says in a chat: lines of a terminal, with editing and those of before at the arrow
/// keys, or lines of standard input as they are.
final class ChatLines implements AutoCloseable {
  private static final String PROMPT = "> ";
  private static final String SEVERAL = "\"\"\"";

  private final @Nullable Terminal terminal;
  private final @Nullable LineReader reader;
  private final @Nullable BufferedReader input;

  private ChatLines(
      @Nullable Terminal terminal, @Nullable LineReader reader, @Nullable BufferedReader input) {
    this.terminal = terminal;
    this.reader = reader;
    this.input = input;
  }

  /// @param interrupted is run on Ctrl-C while no line is read, on a terminal
  static ChatLines open(Runnable interrupted) throws IOException {
    if (!Console.isTerminal()) {
      return new ChatLines(
          null, null, new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8)));
    }
    var terminal = TerminalBuilder.builder().system(true).build();
    terminal.handle(Terminal.Signal.INT, _ -> interrupted.run());
    var reader =
        LineReaderBuilder.builder()
            .terminal(terminal)
            .option(LineReader.Option.DISABLE_EVENT_EXPANSION, true)
            .option(LineReader.Option.BRACKETED_PASTE, true)
            .build();
    return new ChatLines(terminal, reader, null);
  }

  /// The next message, or null where there are no more. Lines from one that begins with `"""` to
  /// one that ends so are one.
  @Nullable String next() throws IOException {
    String line = line(PROMPT);
    if (line == null || !line.strip().startsWith(SEVERAL)) {
      return line;
    }
    String message = line.strip().substring(SEVERAL.length());
    while (!message.stripTrailing().endsWith(SEVERAL)) {
      String more = line("… ");
      if (more == null) {
        Console.note("The last message begins with \"\"\" and does not end; it is taken as it is.");
        return message;
      }
      message += "\n" + more;
    }
    String whole = message.stripTrailing();
    return whole.substring(0, whole.length() - SEVERAL.length());
  }

  /// Whether a user sits there.
  boolean isTerminal() {
    return terminal != null;
  }

  private @Nullable String line(String prompt) throws IOException {
    if (reader == null) {
      return input == null ? null : input.readLine();
    }
    while (true) {
      try {
        return reader.readLine(prompt);
      } catch (UserInterruptException e) {
        if (e.getPartialLine().isEmpty()) {
          Console.note("Ctrl-D ends the chat.");
        }
      } catch (EndOfFileException _) {
        return null;
      }
    }
  }

  @Override
  public void close() throws IOException {
    if (terminal != null) {
      terminal.close();
    }
  }
}
