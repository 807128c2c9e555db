package dev.sluice.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.files.Trees;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.spi.ToolProvider;
import org.jspecify.annotations.Nullable;

/// A command in a process of its own, with the options that the launcher gives and, as there, with
/// the classes in an archive: tests start some seventy of them. They are over before the second
/// compiler's code would pay.
final class SluiceProcess {
  /// What a command may take on a busy machine.
  static final int SECONDS = 180;

  private static final List<String> OPTIONS =
      List.of(
          "--add-exports=java.base/jdk.internal.module=ALL-UNNAMED",
          "-XX:+UnlockExperimentalVMOptions",
          "-XX:+EnableVectorSupport",
          "--enable-native-access=ALL-UNNAMED",
          "-Xmx256m",
          "-XX:+UseSerialGC",
          "-XX:-UsePerfData",
          "-XX:TieredStopAtLevel=1",
          "-Xlog:cds=off",
          "-Xlog:aot=off");

  private static @Nullable String classPath;
  private static Path archive = Path.of("");

  private SluiceProcess() {}

  static Process start(Path errors, String limits, Object... arguments) throws IOException {
    return start(errors, Map.of(), limits, arguments);
  }

  /// A process that is started by a shell's background job ignores Ctrl-C; `env` undoes that.
  static Process start(
      Path errors, Map<String, String> environment, String limits, Object... arguments)
      throws IOException {
    String path = prepare();
    String option = "-XX:SharedArchiveFile=" + archive;
    return launch(path, errors, environment, limits, option, arguments);
  }

  /// A command at a terminal of its own, to which goes what is written to the process; what the
  /// terminal shows is in the file. `script` has the command begun by the user's shell, which must
  /// make way for it: one that waits there, as dash does before a trailing blank, is ended by the
  /// Ctrl-C that the command handles.
  static Process startAtTerminal(Path shown, Object... arguments) throws IOException {
    String path = prepare();
    var command = command(path, "", "-XX:SharedArchiveFile=" + archive, arguments);
    command.set(2, "exec script -qfec \"exec $(printf '%q ' \"$@\")\" /dev/null");
    var builder = new ProcessBuilder(command).redirectOutput(shown.toFile());
    builder
        .environment()
        .putAll(Map.of("TERM", "xterm", "SHELL", "/bin/bash")); // whose quotes %q gives
    return builder.start();
  }

  private static Process launch(
      String path,
      Path errors,
      Map<String, String> environment,
      String limits,
      String option,
      Object... arguments)
      throws IOException {
    var builder =
        new ProcessBuilder(command(path, limits, option, arguments))
            .redirectError(errors.toFile())
            .redirectOutput(ProcessBuilder.Redirect.DISCARD);
    builder.environment().putAll(environment);
    return builder.start();
  }

  private static List<String> command(
      String path, String limits, String option, Object... arguments) {
    List<String> command =
        new ArrayList<>(
            List.of("bash", "-c", limits + "exec env --default-signal=INT \"$@\"", "bash"));
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.addAll(OPTIONS);
    command.addAll(List.of(option, "-cp", path, "dev.sluice.cli.Main"));
    for (Object argument : arguments) {
      command.add(String.valueOf(argument));
    }
    return command;
  }

  /// Makes the archive by a short run, once for all tests; gives the class path, in which the
  /// directories of this one are jars, since an archive takes classes out of jars only.
  private static synchronized String prepare() throws IOException {
    if (classPath != null) {
      return classPath;
    }
    Path directory = Files.createTempDirectory("sluice-process");
    directory.toFile().deleteOnExit();
    List<String> entries = new ArrayList<>();
    for (String entry : System.getProperty("java.class.path").split(File.pathSeparator)) {
      if (Files.isDirectory(Path.of(entry))) {
        Path jar = directory.resolve(entries.size() + ".jar");
        jar.toFile().deleteOnExit();
        var tool = ToolProvider.findFirst("jar").orElseThrow();
        assertEquals(0, tool.run(System.out, System.err, "-cf", jar.toString(), "-C", entry, "."));
        entries.add(jar.toString());
      } else {
        entries.add(entry);
      }
    }
    String path = String.join(File.pathSeparator, entries);
    archive = directory.resolve("classes.jsa");
    archive.toFile().deleteOnExit();
    Path run = Files.createTempDirectory("sluice-process-run");
    Path errors = run.resolve("errors.txt");
    var process =
        launch(
            path,
            errors,
            Map.of(),
            "",
            "-XX:ArchiveClassesAtExit=" + archive,
            Cli.tiny(Cli.text(run.resolve("log.txt")), run.resolve("run"), "--steps", 2));
    assertEquals(0, end(process), () -> read(errors));
    assertTrue(Files.exists(archive), () -> read(errors));
    Trees.remove(run);
    classPath = path;
    return path;
  }

  static int end(Process process) {
    try {
      assertTrue(process.waitFor(SECONDS, TimeUnit.SECONDS), "the command did not end");
      return process.exitValue();
    } catch (InterruptedException e) {
      throw new IllegalStateException(e);
    } finally {
      process.destroyForcibly();
    }
  }

  static String read(Path file) {
    try {
      return Files.readString(file);
    } catch (IOException e) {
      return e.toString();
    }
  }
}
