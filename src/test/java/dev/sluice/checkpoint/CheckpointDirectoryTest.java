package dev.sluice.checkpoint;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.files.WholeFile;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class CheckpointDirectoryTest {
  @TempDir Path run;

  private Path checkpoints() {
    return run.resolve("checkpoints");
  }

  private Path save(long step) throws IOException {
    Path target = checkpoints().resolve(CheckpointDirectory.name(step));
    CheckpointDirectory.save(
        target,
        directory -> {
          Files.writeString(directory.resolve("state.json"), "{\"step\":" + step + "}");
          Files.createDirectory(directory.resolve("rank-0"));
          Files.writeString(directory.resolve("rank-0/optimizer.safetensors"), "moments");
          Files.createFile(directory.resolve("a b"));
        });
    return target;
  }

  @Test
  void savesWhatItPromises() throws IOException {
    Path saved = save(1000);
    CheckpointDirectory.verify(saved);
    assertEquals("step-00001000", saved.getFileName().toString());
    // As sha256sum prints them.
    assertEquals(
        """
        e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  a b
        690a8d18f75dfaa79dd8134ac62cdad42fffe0f34cb78dd14e2d3aae3ae83ad3  rank-0/optimizer.safetensors
        62d062a9787a953a3907666660ad400971ecc32c033c315ee3884a94b6cd45c2  state.json
        """,
        Files.readString(saved.resolve("SHA256SUMS")));
    try (var left = Files.list(checkpoints())) {
      assertEquals(List.of(saved), left.toList());
    }
    assertEquals(Optional.of(saved), CheckpointDirectory.latest(checkpoints()));
  }

  @Test
  void latestIsTheHighestCompleteStep() throws IOException {
    assertEquals(Optional.empty(), CheckpointDirectory.latest(checkpoints()));
    save(99_999_999);
    Path newest = save(100_000_000);
    save(5);
    Path incomplete = checkpoints().resolve(CheckpointDirectory.name(200_000_000));
    Files.createDirectory(incomplete);
    Files.writeString(incomplete.resolve("model.safetensors"), "");
    Files.createDirectory(checkpoints().resolve("step-latest"));
    Files.createFile(checkpoints().resolve(CheckpointDirectory.name(300_000_000)));
    assertEquals(Optional.of(newest), CheckpointDirectory.latest(checkpoints()));
  }

  @Test
  void aSaveThatWasKilledIsIgnoredAndCleaned() throws IOException {
    Path good = save(1000);
    Path partial =
        checkpoints().resolve(".step-00002000.partial-00000000-0000-0000-0000-000000000000");
    Files.createDirectories(partial.resolve("rank-0"));
    Files.writeString(partial.resolve("rank-0/model.safetensors"), "half");
    Files.writeString(partial.resolve("SHA256SUMS"), "");
    assertEquals(Optional.of(good), CheckpointDirectory.latest(checkpoints()));
    assertEquals(List.of(partial), CheckpointDirectory.cleanPartials(checkpoints()));
    assertFalse(Files.exists(partial));
    CheckpointDirectory.verify(good);
    assertEquals(List.of(), CheckpointDirectory.cleanPartials(checkpoints()));
    assertEquals(List.of(), CheckpointDirectory.cleanPartials(run.resolve("absent")));
    Path now = WholeFile.partial(checkpoints().resolve("step-00002000"));
    Files.createDirectories(now.resolve("rank-0"));
    assertEquals(List.of(now), CheckpointDirectory.cleanPartials(checkpoints()));
    assertFalse(Files.exists(now));
  }

  /// Names that a save in progress does not have are not ours to remove.
  @Test
  void whatOnlyLooksLikeASaveStays() throws IOException {
    save(1000);
    for (String name :
        List.of(
            ".step-00002000.partial",
            ".step-00002000.partial-mine",
            ".step-00002000.0123456789abcde.partial",
            "step-00002000.0123456789abcdef.partial",
            "step-00002000.set-aside")) {
      Files.createDirectory(checkpoints().resolve(name));
    }
    assertEquals(List.of(), CheckpointDirectory.cleanPartials(checkpoints()));
  }

  /// A link is no checkpoint, and nothing that it leads to is listed, set right or removed.
  @Test
  void linksAreNotFollowed() throws IOException {
    Path good = save(1000);
    Path others = Files.createDirectories(run.resolve("other run"));
    Path other = others.resolve("step-00009000");
    CheckpointDirectory.save(other, place -> Files.writeString(place.resolve("w"), "weights"));
    Path link = checkpoints().resolve("step-00009000");
    Files.createSymbolicLink(link, other);
    assertEquals(List.of(good), CheckpointDirectory.complete(checkpoints()));
    assertEquals(Optional.of(good), CheckpointDirectory.latest(checkpoints()));
    assertFalse(CheckpointDirectory.isWhole(link));
    CheckpointDirectory.remove(link);
    CheckpointDirectory.removeIncomplete(link);
    Path partial = WholeFile.partial(checkpoints().resolve("step-00002000"));
    Files.createSymbolicLink(partial, other);
    assertEquals(List.of(), CheckpointDirectory.cleanPartials(checkpoints()));
    CheckpointDirectory.verify(other);
    CheckpointDirectory.verify(link); // the user may name it so
    assertThrows(InvalidInputException.class, () -> save(9000));

    Path hollow = Files.createDirectory(checkpoints().resolve("step-00003000"));
    Files.createSymbolicLink(hollow.resolve("SHA256SUMS"), other.resolve("SHA256SUMS"));
    assertEquals(List.of(good), CheckpointDirectory.complete(checkpoints()));
    CheckpointDirectory.removeIncomplete(hollow);
    assertFalse(Files.exists(hollow));
    CheckpointDirectory.verify(other);
  }

  @Test
  void aLinkWithinACheckpointIsRefused() throws IOException {
    Path saved = save(1000);
    Path outside = run.resolve("outside");
    Files.move(saved.resolve("state.json"), outside);
    Files.createSymbolicLink(saved.resolve("state.json"), outside);
    assertBad(saved, "state.json is a link or a device; a checkpoint holds nothing but files");
    Files.delete(saved.resolve("state.json"));
    Files.move(outside, saved.resolve("state.json"));
    CheckpointDirectory.verify(saved);
    Path elsewhere = run.resolve("elsewhere");
    Files.move(saved.resolve("rank-0"), elsewhere);
    Files.createSymbolicLink(saved.resolve("rank-0"), elsewhere);
    assertBad(saved, "rank-0 is a link or a device");
    CheckpointDirectory.remove(saved);
    assertFalse(Files.exists(saved));
    assertTrue(Files.exists(elsewhere.resolve("optimizer.safetensors")));

    var e =
        assertThrows(
            IOException.class,
            () ->
                CheckpointDirectory.save(
                    checkpoints().resolve("step-00000007"),
                    place -> Files.createSymbolicLink(place.resolve("w"), elsewhere)));
    assertTrue(e.getMessage().contains("w is a link or a device"), e.getMessage());
  }

  @Test
  void fullDiskLeavesTheLastGoodCheckpoint() throws IOException {
    Path good = save(1000);
    Path next = checkpoints().resolve(CheckpointDirectory.name(2000));
    CheckpointDirectory.Contents fullDisk =
        directory -> {
          Files.writeString(directory.resolve("model.safetensors"), "half");
          throw new IOException("No space left on device");
        };
    var e = assertThrows(IOException.class, () -> CheckpointDirectory.save(next, fullDisk));
    assertEquals(
        next
            + " was not saved (No space left on device); the last good checkpoint step-00001000 is"
            + " kept",
        e.getMessage());
    CheckpointDirectory.Contents wrapped =
        _ -> {
          throw new UncheckedIOException(new IOException("No space left on device"));
        };
    var unwrapped = assertThrows(IOException.class, () -> CheckpointDirectory.save(next, wrapped));
    assertEquals(e.getMessage(), unwrapped.getMessage());
    CheckpointDirectory.Contents mistake =
        _ -> {
          throw new IllegalStateException("mistake");
        };
    assertThrows(IllegalStateException.class, () -> CheckpointDirectory.save(next, mistake));
    CheckpointDirectory.verify(good);
    try (var left = Files.list(checkpoints())) {
      assertEquals(List.of(good), left.toList());
    }
  }

  @Test
  void fullDiskWithoutAnEarlierCheckpoint() {
    CheckpointDirectory.Contents fullDisk =
        _ -> {
          throw new IOException("No space left on device");
        };
    var e =
        assertThrows(
            IOException.class,
            () -> CheckpointDirectory.save(checkpoints().resolve("step-00000001"), fullDisk));
    assertTrue(e.getMessage().endsWith("; there is no earlier checkpoint beside it"));
  }

  @Test
  void aFileInTheWayIsNamed() throws IOException {
    Files.createFile(checkpoints());
    var e = assertThrows(IOException.class, () -> save(1));
    assertTrue(e.getMessage().contains("a file is in the way: " + checkpoints()), e.getMessage());
  }

  @Test
  void existingCheckpointIsNotReplaced() throws IOException {
    Path saved = save(1000);
    var e = assertThrows(InvalidInputException.class, () -> save(1000));
    assertTrue(e.getMessage().contains("exists already"), e.getMessage());
    CheckpointDirectory.verify(saved);
  }

  @Test
  void verifyNamesTheFile() throws IOException {
    Path saved = save(1000);
    Path optimizer = saved.resolve("rank-0/optimizer.safetensors");
    byte[] bytes = Files.readAllBytes(optimizer);
    bytes[3] ^= 1;
    Files.write(optimizer, bytes);
    assertBad(saved, optimizer + " is damaged (SHA-256 ");
    Files.delete(optimizer);
    assertBad(saved, optimizer + " is missing though SHA256SUMS lists it");
    bytes[3] ^= 1;
    Files.write(optimizer, bytes);
    CheckpointDirectory.verify(saved);
    Files.writeString(saved.resolve("notes.txt"), "mine");
    assertBad(saved, saved.resolve("notes.txt") + " is not listed in SHA256SUMS");
    Files.delete(saved.resolve("notes.txt"));
    Path sums = saved.resolve("SHA256SUMS");
    String lines = Files.readString(sums);
    Files.writeString(sums, lines + "garbage\n");
    assertBad(saved, sums + " has the line 'garbage'");
    Files.writeString(sums, "0".repeat(64) + "  ../../outside\n");
    assertBad(saved, "which is not a checksum and a file name");
    Files.delete(sums);
    assertBad(saved, "holds no SHA256SUMS");
  }

  private static void assertBad(Path checkpoint, String message) {
    var e = assertThrows(InvalidInputException.class, () -> CheckpointDirectory.verify(checkpoint));
    assertTrue(e.getMessage().contains(message), e.getMessage());
  }
}
