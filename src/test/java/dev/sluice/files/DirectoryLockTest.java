package dev.sluice.files;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeFalse;

import dev.sluice.InvalidInputException;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class DirectoryLockTest {
  @TempDir Path directory;

  /// A second process: takes a lock, says so, and holds it until it is killed.
  static final class Holder {
    public static void main(String[] args) throws IOException, InterruptedException {
      Path directory = Path.of(args[1]);
      try {
        var _ =
            args[0].equals("own")
                ? DirectoryLock.own(directory, "train \u001B[31m--resume it")
                : DirectoryLock.read(directory, "verify");
        System.out.println("held");
      } catch (InvalidInputException e) {
        System.out.println(e.getMessage());
        System.exit(2);
      }
      Thread.sleep(60_000);
    }
  }

  private record Second(Process process, String said) implements AutoCloseable {
    @Override
    public void close() {
      process.destroyForcibly();
      process.onExit().join(); // kill -9, and nothing else
    }
  }

  private Second second(String how) throws IOException {
    var process =
        new ProcessBuilder(
                ProcessHandle.current().info().command().orElseThrow(),
                "-XX:TieredStopAtLevel=1",
                "-XX:+UseSerialGC",
                "-cp",
                System.getProperty("java.class.path"),
                Holder.class.getName(),
                how,
                directory.toString())
            .redirectError(ProcessBuilder.Redirect.INHERIT)
            .start();
    var out =
        new BufferedReader(new InputStreamReader(process.getInputStream(), StandardCharsets.UTF_8));
    return new Second(process, out.readLine());
  }

  private String refused(boolean own) {
    return assertThrows(
            InvalidInputException.class,
            () -> {
              var _ =
                  own ? DirectoryLock.own(directory, "train") : DirectoryLock.read(directory, "it");
            })
        .getMessage();
  }

  @Test
  void whoComesSecondIsToldWhoWasFirstUntilThatIsKilled() throws IOException {
    try (var holder = second("own")) {
      assertEquals("held", holder.said);
      String refused = refused(true);
      assertTrue(
          refused.startsWith(
              "%s is in use by train ␛[31m--resume it (process %d on "
                  .formatted(directory, holder.process.pid())),
          refused);
      assertEquals(refused, refused(false));
    }
    try (var lock = DirectoryLock.own(directory, "train")) {
      assertNull(lock.warning());
    }
  }

  /// As on a medium that cannot be written; a superuser can write everything else.
  @Test
  void aReaderNeedsNotWriteTheLock() throws IOException {
    DirectoryLock.own(directory, "train").close();
    Path lock = directory.resolve(".lock");
    Files.setPosixFilePermissions(lock, PosixFilePermissions.fromString("r--r--r--"));
    assumeFalse(Files.isWritable(lock));
    DirectoryLock.read(directory, "verify").close();
  }

  @Test
  void aDirectoryThatCannotBeMadeIsNamed() throws IOException {
    Path file = Files.writeString(directory.resolve("file"), "");
    for (Path place : new Path[] {file.resolve("run"), directory.resolve("n".repeat(300))}) {
      String refused =
          assertThrows(InvalidInputException.class, () -> DirectoryLock.own(place, "train"))
              .getMessage();
      assertTrue(refused.startsWith("the directory " + place + " cannot be made ("), refused);
    }
  }

  @Test
  void readersKeepOwnersAwayAndNotEachOther() throws IOException {
    try (var holder = second("read");
        var _ = DirectoryLock.read(directory, "verify")) {
      assertEquals("held", holder.said);
      assertTrue(refused(true).contains("is in use by"), refused(true));
    }
    try (var _ = DirectoryLock.own(directory, "train")) {
      try (var holder = second("read")) {
        assertTrue(holder.said.contains("is in use by train (process "), holder.said);
      }
    }
    // what an owner wrote is not said of readers that come after it
    try (var holder = second("read")) {
      assertEquals("held", holder.said);
      assertTrue(refused(true).contains("another process, which reads it"), refused(true));
    }
  }

  @Test
  void aThreadMayAskAgainAndAnotherMayNot() throws IOException {
    try (var _ = DirectoryLock.own(directory, "train")) {
      try (var _ = DirectoryLock.own(directory, "train")) {
        assertTrue(DirectoryLock.isKnown(directory));
      }
      var other =
          CompletableFuture.supplyAsync(
              () -> {
                try (var lock = DirectoryLock.own(directory, "train")) {
                  return lock;
                } catch (IOException e) {
                  throw new AssertionError(e);
                }
              });
      var e = assertThrows(CompletionException.class, other::join);
      assertTrue(e.getCause() instanceof InvalidInputException, () -> "" + e.getCause());
      try (var holder = second("own")) { // the inner one's end did not let others in
        assertTrue(holder.said.contains("is in use by"), holder.said);
      }
    }
    try (var holder = second("own")) {
      assertEquals("held", holder.said);
    }
  }

  @Test
  void partsOfADirectoryHaveOwnersOfTheirOwn() throws IOException {
    try (var _ = DirectoryLock.read(directory, "study");
        var _ = DirectoryLock.ownPart(directory, "1-of-2", "study --shard 1/2");
        var _ = DirectoryLock.ownPart(directory, "2-of-2", "study --shard 2/2")) {
      try (var holder = second("own")) {
        assertTrue(holder.said.contains("is in use by"), holder.said);
      }
    }
  }

  @Test
  void aLinkIsNoLock() throws IOException {
    Path other = Files.writeString(directory.resolve("other"), "another's");
    Files.createSymbolicLink(directory.resolve(".lock"), other);
    assertTrue(refused(true).contains("is a link"), refused(true));
    assertEquals("another's", Files.readString(other));
  }
}
