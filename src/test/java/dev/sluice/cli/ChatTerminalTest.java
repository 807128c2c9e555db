package dev.sluice.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

/// A conversation at a terminal, which `script` makes.
@Execution(ExecutionMode.CONCURRENT)
@EnabledOnOs(OS.LINUX)
class ChatTerminalTest {
  private static final int CONTROL_C = 3;

  @TempDir Path directory;

  private final long deadline =
      System.nanoTime() + TimeUnit.SECONDS.toNanos(2L * SluiceProcess.SECONDS);

  @Test
  void controlCStopsTheAnswerAndNotTheProgram() throws Exception {
    assumeTrue(Files.isExecutable(Path.of("/usr/bin/script")), "there is no script");
    Path run = directory.resolve("run");
    // Without an end token and with room, so that an answer takes longer than this test.
    Object[] settings = {
      "--tokenizer",
      "src/test/resources/dev/sluice/tokenizer/tokenizer.json",
      "--context",
      1_000_000,
      "--sample-tokens",
      0
    };
    Path errors = directory.resolve("errors.txt");
    var training =
        SluiceProcess.start(
            errors, "", Cli.tiny(Cli.text(directory.resolve("log.txt")), run, settings));
    assertEquals(0, SluiceProcess.end(training), () -> SluiceProcess.read(errors));
    Path template =
        Files.writeString(
            directory.resolve("chat.jinja"), "{% for m in messages %}{{ m.content }}{% endfor %}:");
    Path shown = directory.resolve("shown.txt");
    var chat =
        SluiceProcess.startAtTerminal(
            shown, "chat", run, "--chat-template", template, "--logit-bias", "384=-Infinity");
    try (var keys = chat.getOutputStream()) {
      await(chat, shown, "/help says");
      keys.write("the whale\n".getBytes(StandardCharsets.UTF_8));
      keys.flush();
      long before = Files.size(shown);
      while (Files.size(shown) < before + 200) { // the answer has begun
        pause(chat, shown);
      }
      keys.write(CONTROL_C);
      keys.flush();
      await(chat, shown, "Stopped. ");
      keys.write("/exit\n".getBytes(StandardCharsets.UTF_8));
      keys.flush();
      assertTrue(
          chat.waitFor(SluiceProcess.SECONDS, TimeUnit.SECONDS), () -> SluiceProcess.read(shown));
    } finally {
      chat.destroyForcibly();
    }
    assertEquals(0, chat.exitValue(), () -> SluiceProcess.read(shown));
    assertFalse(SluiceProcess.read(shown).contains("Exception"), () -> SluiceProcess.read(shown));
  }

  private void await(Process process, Path shown, String text) throws Exception {
    while (!SluiceProcess.read(shown).contains(text)) {
      pause(process, shown);
    }
  }

  private void pause(Process process, Path shown) throws IOException, InterruptedException {
    assertTrue(process.isAlive(), () -> SluiceProcess.read(shown));
    assertTrue(System.nanoTime() < deadline, () -> SluiceProcess.read(shown));
    Thread.sleep(20);
  }
}
