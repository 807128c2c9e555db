package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.files.Failures;
import dev.sluice.tensor.NativeCall;
import dev.sluice.training.RunConfig;
import java.io.IOException;
import java.io.PrintStream;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;
import picocli.CommandLine.TypeConversionException;
import picocli.CommandLine.UnmatchedArgumentException;

/// `sluice`: runs one command. Exit code 0 when it did what was asked, 1 when a check or the
/// machine failed, 2 when the input was at fault, 130 after Ctrl-C.
@Command(
    name = "sluice",
    description = {
      "Gated attention for the JVM: train it, study it, measure it, run it.",
      "",
      "The main job, on bundled text, in a few minutes:  ./sluice study"
    },
    synopsisSubcommandLabel = "COMMAND",
    mixinStandardHelpOptions = true,
    versionProvider = Version.class,
    footer = {
      "",
      "Examples:",
      "  ./sluice study",
      "  ./sluice train --data book.txt --gate sdpa-headwise --steps 500",
      "  ./sluice watch runs/NAME",
      "  ./sluice inspect runs/NAME --data book.txt",
      "  ./sluice retrofit runs/NAME --gate sdpa-headwise --control",
      "  ./sluice evaluate runs/NAME --task piqa=piqa.jsonl",
      "  ./sluice generate runs/NAME --prompt \"It was\"",
      "  ./sluice serve path/to/qwen3",
      "  ./sluice COMMAND --help"
    })
public final class Main implements Runnable {
  private static final List<Class<?>> COMMANDS =
      List.of(
          StudyCommand.class,
          TrainCommand.class,
          WatchCommand.class,
          VerifyCommand.class,
          InspectCommand.class,
          RetrofitCommand.class,
          ExtendCommand.class,
          EvaluateCommand.class,
          RulerCommand.class,
          GenerateCommand.class,
          ChatCommand.class,
          ServeCommand.class,
          ConvertCommand.class,
          ParityCommand.class,
          PlanCommand.class,
          BenchCommand.class);

  static final int FAILED = 1;
  static final int BAD_INPUT = 2;

  /// A digit other than 0 before the exponent.
  private static final Pattern NOT_ZERO = Pattern.compile("^[^eEpP]*[1-9]");

  @Spec private CommandSpec spec;

  @SuppressWarnings("NullAway.Init") // picocli sets the spec
  private Main() {}

  /// The command line before flags are added to it.
  static Object command() {
    return new Main();
  }

  /// Runs the command and exits with its code.
  public static void main(String[] args) {
    Locale.setDefault(Locale.ROOT); // names, numbers and files are the same everywhere
    var out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    var err = new PrintStream(System.err, true, StandardCharsets.UTF_8);
    int code = run(out, err, args);
    if (!Interruption.requested()) { // an interruption ends the process itself
      System.exit(code); // libtorch's threads would not let the process end
    }
  }

  /// Runs the command; prints to `out` and `err` and gives the exit code.
  static int run(PrintStream out, PrintStream err, String... args) {
    Console.set(out, err);
    var commandLine = new CommandLine(new Main());
    prepare(commandLine, args.length == 0 ? "" : args[0]);
    commandLine.setOut(new PrintWriter(out, true, StandardCharsets.UTF_8));
    commandLine.setErr(new PrintWriter(err, true, StandardCharsets.UTF_8));
    commandLine.setParameterExceptionHandler(Main::explainParameter);
    commandLine.setExecutionExceptionHandler((e, _, _) -> explain(e));
    commandLine.setUsageHelpAutoWidth(true);
    commandLine.setExpandAtFiles(false); // a prompt may begin with @
    commandLine.registerConverter(Double.class, Main::finite);
    commandLine.registerConverter(double.class, Main::finite);
    commandLine.registerConverter(SamplingOptions.Bias.class, SamplingOptions.Bias::parse);
    commandLine.registerConverter(Path.class, Main::path);
    try {
      CudaKernels.use(System.getenv());
      int code = commandLine.execute(args);
      return out.checkError() && code == 0 ? explain(new Console.OutputLost()) : code;
    } catch (InvalidInputException | Error e) { // picocli hands over exceptions only
      return explain(e);
    } finally {
      Interruption.finished();
    }
  }

  static double finite(String text) {
    double number = Double.parseDouble(text); // what it throws picocli explains
    if (!Double.isFinite(number)) {
      throw new TypeConversionException("'%s' is not a finite number".formatted(text));
    }
    if (number == 0 && NOT_ZERO.matcher(text).find()) {
      throw new TypeConversionException("'%s' is too near to zero".formatted(text));
    }
    return number;
  }

  /// Nothing is not the present directory: it is what a shell makes of a variable without a value.
  private static Path path(String text) {
    if (text.isBlank()) {
      throw new TypeConversionException(
          "'%s' names no file or directory; . is the present one".formatted(text));
    }
    try {
      return Path.of(text);
    } catch (InvalidPathException e) {
      throw new TypeConversionException(notAName(e));
    }
  }

  /// Adds the commands, and what only some of them need. Where one is named, it alone is: every
  /// command is to start at once, and each that is added takes milliseconds.
  static void prepare(CommandLine commandLine, String command) {
    var named =
        COMMANDS.stream()
            .filter(c -> c.getAnnotation(Command.class).name().equals(command))
            .toList();
    (named.isEmpty() ? COMMANDS : named).forEach(commandLine::addSubcommand);
    switch (command) {
      case "train" -> SettingFlags.addTo(commandLine, "train", RunConfig.DEFAULTS, Set.of());
      case "study" ->
          SettingFlags.addTo(
              commandLine, "study", StudyCommand.defaults(), Set.of("gate", "match_parameters"));
      case "retrofit" ->
          SettingFlags.addTo(
              commandLine, "retrofit", RetrofitCommand.defaults(), RetrofitCommand.decided());
      case "extend" ->
          SettingFlags.addTo(
              commandLine, "extend", ExtendCommand.defaults(), ExtendCommand.decided());
      case "plan" ->
          SettingFlags.addTo(commandLine, "plan", PlanCommand.defaults(), PlanCommand.others());
      default -> {}
    }
  }

  private static int explainParameter(ParameterException e, String[] args) {
    if (e.getCause() instanceof InvalidInputException cause) {
      return explain(cause);
    }
    String message = String.valueOf(e.getMessage()).strip().replaceAll("\\s*\\R\\s*", " ");
    List<String> similar =
        e instanceof UnmatchedArgumentException unmatched ? unmatched.getSuggestions() : List.of();
    if (!similar.isEmpty()) {
      message += " (did you mean " + String.join(" or ", similar) + "?)";
    }
    message += "; see ./";
    Console.error(
        sentence(message + e.getCommandLine().getCommandSpec().qualifiedName() + " --help"));
    return BAD_INPUT;
  }

  private static int explain(Throwable e) {
    Console.error(oneSentence(e));
    if (isFault(e)) {
      var trace = new StringWriter();
      e.printStackTrace(new PrintWriter(trace));
      Console.note(trace.toString());
    }
    return e instanceof InvalidInputException || e instanceof InvalidPathException
        ? BAD_INPUT
        : FAILED;
  }

  /// What went wrong and the way out, in a sentence.
  static String oneSentence(Throwable e) {
    return switch (e) {
      case InvalidInputException _ -> sentence(e.getMessage());
      case InvalidPathException path -> sentence(notAName(path));
      case UncheckedIOException _, IOException _ -> sentence(Failures.words(e));
      case Throwable failure when NativeCall.ranOutOfDeviceMemory(failure) ->
          sentence(
              "The card has not enough memory; make the batch or the sequence smaller, or train"
                  + " with --recompute blocks. It said: "
                  + NativeCall.words(failure));
      case Throwable failure when NativeCall.ranOutOfMemory(failure) ->
          "There is not enough memory; make the batch, the sequence or the model smaller, or"
              + " set SLUICE_HEAP if Java's heap is too small.";
      case Throwable failure when NativeCall.isNative(failure) ->
          sentence(
              "This is a fault in Sluice, not in your input: libtorch said: "
                  + NativeCall.words(failure));
      default -> "This is a fault in Sluice, not in your input: " + e;
    };
  }

  private static String notAName(InvalidPathException e) {
    return "'%s' is not the name of a file (%s); name another%s"
        .formatted(
            Printable.brief(e.getInput(), 200),
            e.getReason(),
            e.getInput().chars().allMatch(c -> c < 128)
                ? ""
                : ", or begin with LC_ALL=C.UTF-8, since the locale has no such characters");
  }

  private static boolean isFault(Throwable e) {
    return !(e instanceof InvalidInputException
        || e instanceof InvalidPathException
        || e instanceof IOException
        || e instanceof UncheckedIOException
        || NativeCall.ranOutOfMemory(e));
  }

  /// As it is but for the full stop: it may begin with a path.
  static String sentence(@Nullable String message) {
    String text = message == null || message.isBlank() ? "unknown error" : message.strip();
    return text.endsWith(".") || text.endsWith("!") || text.endsWith("?") ? text : text + ".";
  }

  @Override
  public void run() {
    spec.commandLine().usage(spec.commandLine().getOut());
  }
}
