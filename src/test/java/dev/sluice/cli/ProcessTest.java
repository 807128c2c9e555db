package dev.sluice.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.checkpoint.CheckpointDirectory;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

/// What only a process of its own can show: Ctrl-C, and a disk that takes no more.
@EnabledOnOs(OS.LINUX)
class ProcessTest {
  private static final int STEPS = 100;

  @TempDir static Path directory;

  /// After a step that is further than the run was.
  static void signalAfterAStep(String signal, Process process, Path run, Path errors)
      throws IOException, InterruptedException {
    KillTest.awaitStepAfter(process, errors, run, KillTest.lastStep(run));
    int killed =
        new ProcessBuilder("kill", "-" + signal, String.valueOf(process.pid())).start().waitFor();
    assertEquals(0, killed);
  }

  /// One story, because starting a process takes seconds: a run is interrupted, cannot save when it
  /// goes on because the disk is full, and in the end is what it would have been undisturbed.
  @Test
  void interruptedRunSurvivesAFullDiskAndEndsAsIfNothingHadHappened() throws Exception {
    Path data = Cli.text(directory.resolve("log.txt"));
    Object[] settings = {
      "--steps", STEPS, "--evaluate-every", 20, "--save-every", 100_000, "--sample-tokens", 0
    };
    Path run = directory.resolve("run");
    Path errors = directory.resolve("errors.txt");

    var process = SluiceProcess.start(errors, "", Cli.tiny(data, run, settings));
    signalAfterAStep("INT", process, run, errors);
    assertEquals(130, SluiceProcess.end(process), () -> SluiceProcess.read(errors));
    assertTrue(
        SluiceProcess.read(errors).contains("./sluice train --resume " + run),
        () -> SluiceProcess.read(errors));
    assertFalse(SluiceProcess.read(errors).contains("\tat "), () -> SluiceProcess.read(errors));
    Path saved = CheckpointDirectory.latest(run.resolve("checkpoints")).orElseThrow();
    CheckpointDirectory.verify(saved);
    assertTrue(CheckpointDirectory.step(saved).orElseThrow() < STEPS, saved::toString);

    // The weights fit below this limit of 1 KiB blocks, the optimizer's state does not.
    long limit = Files.size(saved.resolve("optimizer.safetensors")) / 1024 - 8;
    assertTrue(Files.size(saved.resolve("model.safetensors")) / 1024 < limit);
    assertEquals(
        Main.FAILED,
        SluiceProcess.end(
            SluiceProcess.start(errors, "ulimit -f " + limit + "; ", "train", "--resume", run)));
    List<String> sentences =
        SluiceProcess.read(errors).lines().filter(line -> line.startsWith("sluice: ")).toList();
    assertEquals(1, sentences.size(), () -> SluiceProcess.read(errors));
    assertTrue(sentences.getFirst().contains("was not saved"), sentences::getFirst);
    assertTrue(
        sentences.getFirst().contains("last good checkpoint " + saved.getFileName()),
        sentences::getFirst);
    assertFalse(SluiceProcess.read(errors).contains("\tat "), () -> SluiceProcess.read(errors));
    CheckpointDirectory.verify(saved);
    assertEquals(List.of(saved.getFileName().toString()), names(run.resolve("checkpoints")));

    Cli.run("train", "--resume", run).succeeded();
    Path undisturbed = directory.resolve("undisturbed");
    Cli.run(Cli.tiny(data, undisturbed, settings)).succeeded();
    assertArrayEquals(
        Files.readAllBytes(undisturbed.resolve("metrics.jsonl")),
        Files.readAllBytes(run.resolve("metrics.jsonl")));
  }

  /// The command that is told goes on with all that was asked for.
  @Test
  void anInterruptedRetrofitTellsItsWholeCommand() throws Exception {
    Path run = directory.resolve("plain");
    Cli.run(Cli.tiny(Cli.text(directory.resolve("plain.txt")), run, "--gate", "none")).succeeded();
    Path output = directory.resolve("gated");
    Path errors = directory.resolve("gated-errors.txt");
    Object[] retrofit = {
      "retrofit",
      run,
      "--output",
      output,
      "--steps",
      10_000,
      "--held-out-windows",
      2,
      "--evaluate-every",
      10_000,
      "--save-every",
      10_000,
      "--device",
      "cpu",
      "--control",
      "--packing",
      "query_head"
    };
    var process = SluiceProcess.start(errors, "", retrofit);
    signalAfterAStep("INT", process, output, errors);
    assertEquals(130, SluiceProcess.end(process), () -> SluiceProcess.read(errors));
    assertTrue(
        SluiceProcess.read(errors)
            .contains("./sluice retrofit --resume " + output + " --control --packing query_head\n"),
        () -> SluiceProcess.read(errors));
  }

  /// A disk that is full is no fault of the input.
  @Test
  void aCorpusThatCannotBeWrittenIsTheMachinesFault() throws Exception {
    Path data = Cli.text(directory.resolve("full.txt"));
    Path run = directory.resolve("full");
    Path errors = directory.resolve("full-errors.txt");
    var process = SluiceProcess.start(errors, "ulimit -f 8; ", Cli.tiny(data, run));
    assertEquals(Main.FAILED, SluiceProcess.end(process), () -> SluiceProcess.read(errors));
    assertEquals(
        "sluice: The prepared corpus cannot be written to %s (%s cannot be written (File too large)); make room there, or choose another folder."
            .formatted(run.resolve("corpus"), run.resolve("corpus/train.tokens")),
        SluiceProcess.read(errors).lines().toList().getLast());
  }

  /// What a scheduler sends before it takes the machine away.
  @Test
  void terminatedRunSavesAndSaysHowToGoOn() throws Exception {
    Path data = Cli.text(directory.resolve("terminated.txt"));
    Path run = directory.resolve("terminated");
    Path errors = directory.resolve("terminated-errors.txt");
    var process =
        SluiceProcess.start(
            errors,
            "",
            Cli.tiny(data, run, "--steps", 100_000, "--save-every", 100_000, "--sample-tokens", 0));
    signalAfterAStep("TERM", process, run, errors);
    assertEquals(128 + 15, SluiceProcess.end(process), () -> SluiceProcess.read(errors));
    assertTrue(
        SluiceProcess.read(errors).contains("./sluice train --resume " + run),
        () -> SluiceProcess.read(errors));
    Path saved = CheckpointDirectory.latest(run.resolve("checkpoints")).orElseThrow();
    CheckpointDirectory.verify(saved);
    List<String> steps = Files.readAllLines(run.resolve("metrics.jsonl"));
    assertTrue(
        steps
            .getLast()
            .startsWith("{\"step\":" + CheckpointDirectory.step(saved).orElseThrow() + ","),
        steps::getLast);
  }

  /// One works, the others say who holds the run; when that is killed, nothing holds it.
  @Test
  void aSecondProcessIsToldWhoHoldsTheRun() throws Exception {
    Path data = Cli.text(directory.resolve("held.txt"));
    Path run = directory.resolve("held");
    Path errors = directory.resolve("held-errors.txt");
    var process =
        SluiceProcess.start(
            errors, "", Cli.tiny(data, run, "--steps", 100_000, "--sample-tokens", 0));
    try {
      signalAfterAStep("CONT", process, run, errors); // which does nothing
      String holder = "(process " + process.pid() + " on ";
      for (var second :
          List.of(
              Cli.run("train", "--resume", run),
              Cli.run("verify", run),
              Cli.run("verify", run.getParent()))) {
        assertTrue(second.refusal().contains("is in use by sluice train --data"), second::err);
        assertTrue(second.refusal().contains(holder), second::err);
      }
      // what only reads a complete checkpoint works
      if (CheckpointDirectory.latest(run.resolve("checkpoints")).isPresent()) {
        Cli.run("generate", run, "--prompt", "Line", "--max-tokens", 2).succeeded();
      }
      assertTrue(process.isAlive(), () -> SluiceProcess.read(errors));
    } finally {
      process.destroyForcibly();
      process.waitFor();
    }
    Cli.run("verify", run).succeeded();
  }

  /// A result that nobody gets is no success.
  @Test
  void anOutputThatIsLostIsToldOnce() throws Exception {
    Path errors = directory.resolve("full-errors.txt");
    for (String command : List.of("plan", "--help")) {
      assertEquals(
          Main.FAILED,
          SluiceProcess.end(SluiceProcess.start(errors, "exec >/dev/full; ", command)),
          () -> command + ": " + SluiceProcess.read(errors));
      List<String> sentences =
          SluiceProcess.read(errors).lines().filter(line -> line.startsWith("sluice: ")).toList();
      assertEquals(1, sentences.size(), () -> SluiceProcess.read(errors));
      assertTrue(sentences.getFirst().contains("standard output"), sentences::getFirst);
    }
  }

  private static List<String> names(Path folder) throws IOException {
    try (Stream<Path> files = Files.list(folder)) {
      return files.map(file -> file.getFileName().toString()).toList();
    }
  }

  /// In a locale whose digits are others, names and numbers of files are what they are everywhere.
  @Test
  void aRunDoesNotDependOnTheLocale() throws Exception {
    Path data = Cli.text(directory.resolve("text.txt"));
    Path run = directory.resolve("persian");
    Path errors = directory.resolve("persian.txt");
    var environment = Map.of("JAVA_TOOL_OPTIONS", "-Duser.language=fa -Duser.country=IR");
    var process = SluiceProcess.start(errors, environment, "", Cli.tiny(data, run));
    assertEquals(0, SluiceProcess.end(process), () -> SluiceProcess.read(errors));
    CheckpointDirectory.verify(run.resolve("checkpoints/step-00000004"));
    assertTrue(
        Files.readString(run.resolve("report.html"))
            .chars()
            .noneMatch(c -> c >= 0x6F0 && c <= 0x6F9));
  }
}
