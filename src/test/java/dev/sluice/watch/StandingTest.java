package dev.sluice.watch;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.files.DirectoryLock;
import dev.sluice.files.DirectoryLock.Presence;
import dev.sluice.report.HtmlReport.State;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.time.Instant;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class StandingTest {
  @TempDir private Path directory;

  private Standing after(long step) {
    return Standing.of(directory, step, 100, 0.5);
  }

  private void recorded(Instant when) throws Exception {
    Path metrics = directory.resolve("metrics.jsonl");
    Files.writeString(metrics, "");
    Files.setLastModifiedTime(metrics, FileTime.from(when));
  }

  private void owner(String words) throws Exception {
    Files.writeString(directory.resolve(".lock"), words);
  }

  @Test
  void whoeverOwnsTheDirectoryTrains() throws Exception {
    recorded(Instant.now());
    try (var _ = DirectoryLock.own(directory, "sluice train")) {
      assertEquals(Presence.RUNS, DirectoryLock.owner(directory).orElseThrow().presence());
      assertEquals("Training", after(5).words());
      assertTrue(after(100).words().startsWith("All steps are done"));
      recorded(Instant.now().minusSeconds(300));
      assertTrue(after(5).words().contains("no step has been recorded for 5m00s"));
      assertTrue(after(5).trains());
    }
    assertTrue(DirectoryLock.owner(directory).isEmpty());
    assertTrue(after(5).words().startsWith("Stopped after step 5 of 100; `./sluice train"));
    assertFalse(after(5).trains());
    recorded(Instant.now());
    assertTrue(after(5).words().startsWith("Stopped just now"), after(5).words());
    assertEquals(State.DONE, after(100).state());
  }

  @Test
  void anOwnerThatWasKilledIsNamed() throws Exception {
    recorded(Instant.now());
    String host = Files.readString(Path.of("/proc/sys/kernel/hostname")).strip();
    long pid = ProcessHandle.current().pid();
    // The number of a process that began later is another's.
    for (String process :
        new String[] {
          "(process 999999999 on %s, since 2026-01-01T00:00:00Z)".formatted(host),
          "(process %d on %s, since 2001-01-01T00:00:00Z)".formatted(pid, host)
        }) {
      owner("sluice train --steps 100 " + process);
      assertEquals(Presence.ENDED, DirectoryLock.owner(directory).orElseThrow().presence());
      assertEquals(State.TROUBLED, after(5).state());
      assertTrue(after(5).words().contains(process), after(5).words());
      assertFalse(after(5).trains());
    }
  }

  @Test
  void anotherMachineIsBelievedWhileTheRecordGrows() throws Exception {
    owner("sluice train (process 1 on some-other-host, since 2026-01-01T00:00:00Z)");
    recorded(Instant.now().minusSeconds(30));
    assertTrue(after(5).words().startsWith("Training on another machine"), after(5).words());
    recorded(Instant.now().minusSeconds(7200));
    assertFalse(after(5).trains());
  }

  @Test
  void theStepThatEndedARunIsNamed() throws Exception {
    recorded(Instant.now().minusSeconds(30));
    Files.createDirectories(directory.resolve("failure").resolve("step-00000006"));
    assertTrue(after(5).words().contains("failure/step-00000006"), after(5).words());
    assertFalse(after(9).words().contains("failure"), after(9).words());
  }
}
