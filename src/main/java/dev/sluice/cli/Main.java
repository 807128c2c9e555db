package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import dev.sluice.training.RunConfig;
import java.io.IOException;
import java.io.PrintStream;
import java.io.PrintWriter;
import java.nio.charset.StandardCharsets;
import java.util.Set;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/// `sluice`: runs one command. Exit code 0 when it did what was asked, 1 when a check or the
/// machine failed, 2 when the input was at fault, 130 after Ctrl-C.
@Command(
    name = "sluice",
    description = {
      "Gated attention for the JVM: train it, study it, measure it, run it.",
      "",
      "The main job, on bundled text, in a few minutes:  ./sluice study"
    },
    subcommands = {StudyCommand.class, TrainCommand.class, ParityCommand.class},
    synopsisSubcommandLabel = "COMMAND",
    mixinStandardHelpOptions = true,
    versionProvider = Version.class,
    footer = {
      "",
      "Examples:",
      "  ./sluice study",
      "  ./sluice train --data book.txt --gate sdpa-headwise --steps 500",
      "  ./sluice inspect runs/NAME --data book.txt",
      "  ./sluice generate runs/NAME --prompt \"It was\"",
      "  ./sluice COMMAND --help"
    })
public final class Main implements Runnable {
  static final int FAILED = 1;
  static final int BAD_INPUT = 2;

  @Spec private CommandSpec spec;

  @SuppressWarnings("NullAway.Init") // picocli sets the spec
  private Main() {}

  /// Runs the command and exits with its code.
  public static void main(String[] args) {
    var out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    var err = new PrintStream(System.err, true, StandardCharsets.UTF_8);
    int code = run(out, err, args);
    if (!Interruption.finished()) {
      System.exit(code); // libtorch's threads would not let the process end
    }
  }

  /// Runs the command; prints to `out` and `err` and gives the exit code.
  static int run(PrintStream out, PrintStream err, String... args) {
    Console.set(out, err);
    var commandLine = new CommandLine(new Main());
    SettingFlags.addTo(commandLine, "train", RunConfig.DEFAULTS, Set.of());
    SettingFlags.addTo(commandLine, "study", StudyCommand.DEFAULTS, Set.of("gate"));
    commandLine.setOut(new PrintWriter(out, true, StandardCharsets.UTF_8));
    commandLine.setErr(new PrintWriter(err, true, StandardCharsets.UTF_8));
    commandLine.setParameterExceptionHandler(Main::explainParameter);
    commandLine.setExecutionExceptionHandler((e, _, _) -> explain(e));
    commandLine.setUsageHelpAutoWidth(true);
    return commandLine.execute(args);
  }

  private static int explainParameter(ParameterException e, String[] args) {
    if (e.getCause() instanceof InvalidInputException cause) {
      return explain(cause);
    }
    Console.error(
        sentence(e.getMessage())
            + " See: ./"
            + e.getCommandLine().getCommandSpec().qualifiedName()
            + " --help");
    return BAD_INPUT;
  }

  private static int explain(Exception e) {
    if (e instanceof InvalidInputException) {
      Console.error(sentence(e.getMessage()));
      return BAD_INPUT;
    }
    if (e instanceof IOException) {
      Console.error(sentence(e.getMessage() == null ? e.toString() : e.getMessage()));
      return FAILED;
    }
    Console.error("This is a fault in Sluice, not in your input: " + e);
    e.printStackTrace(Console.err());
    return FAILED;
  }

  private static String sentence(@Nullable String message) {
    String text = message == null || message.isBlank() ? "unknown error" : message.strip();
    text = Character.toUpperCase(text.charAt(0)) + text.substring(1);
    return text.endsWith(".") || text.endsWith("!") || text.endsWith("?") ? text : text + ".";
  }

  @Override
  public void run() {
    spec.commandLine().usage(spec.commandLine().getOut());
  }
}
