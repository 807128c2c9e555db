package dev.sluice.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.files.DirectoryLock;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.stream.Stream;

/// Runs commands as a user would, and checks how they end.
final class Cli {
  /// What a command answered.
  record Answer(int code, String out, String err) {
    /// Nothing but one sentence, and the exit code for input at fault.
    String refusal() {
      assertEquals(Main.BAD_INPUT, code, this::toString);
      return sentence();
    }

    /// The one line on standard error.
    String sentence() {
      List<String> lines = err.lines().toList();
      assertEquals(1, lines.size(), this::toString);
      assertTrue(lines.getFirst().startsWith("sluice: "), this::toString);
      assertTrue(lines.getFirst().endsWith("."), this::toString);
      assertFalse(err.contains("Exception"), this::toString);
      return lines.getFirst();
    }

    Answer succeeded() {
      assertEquals(0, code, this::toString);
      return this;
    }
  }

  private Cli() {}

  static Answer run(Object... arguments) {
    var out = new ByteArrayOutputStream();
    var err = new ByteArrayOutputStream();
    int code =
        Main.run(
            new PrintStream(out, true, StandardCharsets.UTF_8),
            new PrintStream(err, true, StandardCharsets.UTF_8),
            Arrays.stream(arguments).map(String::valueOf).toArray(String[]::new));
    return new Answer(
        code, out.toString(StandardCharsets.UTF_8), err.toString(StandardCharsets.UTF_8));
  }

  /// `train` with a model of a few thousand parameters.
  static Object[] tiny(Path data, Path output, Object... more) {
    List<Object> arguments =
        new ArrayList<>(
            List.of(
                "train", "--data", data, "--output", output, "--layers", 2, "--hidden-size", 32));
    arguments.addAll(
        List.of("--intermediate-size", 64, "--attention-heads", 2, "--key-value-heads", 1));
    arguments.addAll(
        List.of("--head-dim", 16, "--sequence-length", 64, "--batch-size", 2, "--device", "cpu"));
    arguments.addAll(
        List.of("--held-out-windows", 2, "--evaluate-every", 2, "--save-every", 2, "--steps", 4));
    arguments.addAll(List.of("--warmup-steps", 2, "--sample-tokens", 4));
    for (int i = 0; i < more.length; i += 2) {
      int at = arguments.indexOf(more[i]);
      if (at < 0) {
        arguments.add(more[i]);
        arguments.add(more[i + 1]);
      } else {
        arguments.set(at + 1, more[i + 1]);
      }
    }
    return arguments.toArray();
  }

  /// Some 40 kB of text that does not repeat.
  static Path text(Path file) throws IOException {
    var text = new StringBuilder();
    for (int i = 0; text.length() < 40_000; i++) {
      text.append("Line ").append(i).append(" of the log: wind ").append(i * i % 97).append(".\n");
    }
    return Files.writeString(file, text);
  }

  /// Takes a lock.
  interface Locking {
    DirectoryLock lock() throws IOException;
  }

  /// A lock that another thread took: to this one it is in the way.
  static DirectoryLock ofAnother(Locking locking) {
    return CompletableFuture.supplyAsync(
            () -> {
              try {
                return locking.lock();
              } catch (IOException e) {
                throw new UncheckedIOException(e);
              }
            })
        .join();
  }

  /// Copies the files of a directory that are not named.
  static Path copy(Path from, Path to, String... without) throws IOException {
    try (Stream<Path> files = Files.walk(from)) {
      for (Path file : files.toList()) {
        Path relative = from.relativize(file);
        boolean left = false;
        for (Path part : relative) {
          left |= List.of(without).contains(part.toString());
        }
        if (!left) {
          Files.copy(file, to.resolve(relative));
        }
      }
    }
    return to;
  }

  /// Every file below a directory and its bytes.
  static Map<String, String> contents(Path directory) throws IOException {
    Map<String, String> contents = new TreeMap<>();
    try (Stream<Path> files = Files.walk(directory)) {
      for (Path file : files.filter(Files::isRegularFile).toList()) {
        contents.put(
            directory.relativize(file).toString(),
            Files.readString(file, StandardCharsets.ISO_8859_1));
      }
    }
    return contents;
  }
}
