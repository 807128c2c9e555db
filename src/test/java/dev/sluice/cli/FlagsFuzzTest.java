package dev.sluice.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.Printable;
import dev.sluice.fuzz.Mutations;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import picocli.CommandLine;
import picocli.CommandLine.Model.OptionSpec;

/// Commands with flags and values that nobody would give. Whatever comes: an exit code that says
/// whose fault it is, one clean sentence, no trace, and the run that was named is as it was.
class FlagsFuzzTest {
  @TempDir static Path directory;
  static Path data;
  static Path run;

  @BeforeAll
  static void train() throws IOException {
    data = Cli.text(directory.resolve("log.txt"));
    run = directory.resolve("run");
    Cli.run(Cli.tiny(data, run, "--gate", "sdpa-headwise")).succeeded();
  }

  /// Flags that take what they are given: time, processes, or another directory.
  private static final Set<String> LEFT =
      Set.of(
          "--steps",
          "--nproc",
          "--output",
          "--json",
          "--data",
          "--resume",
          "--rank-timeout",
          "--gpus",
          "--help",
          "--version",
          "-h",
          "-V",
          "--profile",
          "--turns",
          "--max-tokens");

  private static String[] command(Mutations mutations, int number) {
    List<Object> command = new ArrayList<>();
    switch (number % 6) {
      case 0 -> command.add("plan");
      case 1 -> command.addAll(List.of("generate", run, "--prompt", "Line", "--max-tokens", 2));
      case 2 ->
          command.addAll(
              List.of(
                  "inspect",
                  run,
                  "--data",
                  data,
                  "--tokens",
                  16,
                  "--windows",
                  1,
                  "--output",
                  directory.resolve("inspect")));
      case 3 ->
          command.addAll(
              List.of(
                  Cli.tiny(
                      data,
                      directory.resolve("train-" + number),
                      "--steps",
                      1,
                      "--sample-tokens",
                      0,
                      "--warmup-steps",
                      0)));
      case 4 ->
          command.addAll(
              List.of(
                  "study",
                  "--gates",
                  "none",
                  "--seeds",
                  1,
                  "--steps",
                  1,
                  "--data",
                  data,
                  "--layers",
                  1,
                  "--hidden-size",
                  16,
                  "--intermediate-size",
                  16,
                  "--attention-heads",
                  1,
                  "--key-value-heads",
                  1,
                  "--head-dim",
                  16,
                  "--sequence-length",
                  32,
                  "--batch-size",
                  1,
                  "--held-out-windows",
                  1,
                  "--output",
                  directory.resolve("study-" + number)));
      default -> command.addAll(List.of("verify", run));
    }
    List<OptionSpec> options = options(String.valueOf(command.getFirst()));
    for (int n = 1 + mutations.below(2); n > 0 && !options.isEmpty(); n--) {
      OptionSpec option = mutations.oneOf(options);
      int at = command.indexOf(option.longestName());
      if (at >= 0) {
        command.set(at + 1, mutations.argument());
      } else {
        command.add(option.longestName());
        command.add(mutations.argument());
      }
    }
    if (mutations.below(10) == 0) {
      command.add(mutations.argument());
    }
    return command.stream()
        .map(String::valueOf)
        .map(argument -> argument.replace("\0", "?")) // no system passes one on
        .toArray(String[]::new);
  }

  private static List<OptionSpec> options(String command) {
    var line = new CommandLine(CommandLine.Model.CommandSpec.forAnnotatedObject(Main.command()));
    Main.prepare(line, command);
    return line.getSubcommands().get(command).getCommandSpec().options().stream()
        .filter(option -> !LEFT.contains(option.longestName()))
        .toList();
  }

  @Test
  void flags() throws IOException {
    Map<String, String> before = Cli.contents(run);
    int count = Integer.getInteger("fuzz", 250) / 2;
    int refused = 0;
    for (int i = 0; i < count; i++) {
      String[] command = command(new Mutations(77_000L + i), i);
      String what = i + ": " + Printable.brief(String.join(" ", command), 600);
      var answer = Cli.run((Object[]) command);
      assertTrue(
          answer.code() == 0 || answer.code() == 1 || answer.code() == 2,
          () -> what + " → " + answer);
      assertFalse(answer.err().contains("\tat "), () -> what + " → " + answer);
      assertFalse(answer.err().contains("fault in Sluice"), () -> what + " → " + answer);
      assertEquals(clean(answer.err()), answer.err(), what);
      assertEquals(clean(answer.out()), answer.out(), what);
      if (answer.code() == Main.BAD_INPUT) {
        refused++;
        assertEquals(1, answer.err().lines().filter(l -> l.startsWith("sluice: ")).count(), what);
      }
    }
    var after = Cli.contents(run);
    after.keySet().removeIf(name -> name.startsWith("inspect"));
    assertEquals(before, after);
    System.out.printf("fuzz flags: %d commands, %d refused%n", count, refused);
    assertTrue(refused > count / 4, refused + " of " + count);
  }

  private static String clean(String text) {
    return Printable.lines(text);
  }
}
