package dev.sluice.training;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class MetricsWriterTest {
  @TempDir Path run;

  private Path metrics() {
    return run.resolve("metrics.jsonl");
  }

  private static void steps(MetricsWriter writer, long from, long to) throws IOException {
    for (long step = from; step <= to; step++) {
      writer.metrics(step, Map.of("loss", 5.0 / step, "grad_norm", 1.5f, "tokens", 256 * step));
      writer.timings(step, Map.of("seconds", 0.25, "tokens_per_second", 1e6 / step));
    }
  }

  @Test
  void oneLineARecordWithSortedFields() throws IOException {
    try (var writer = MetricsWriter.start(run)) {
      writer.metrics(1, Map.of("loss", 0.1f, "grad_norm", 1e-7, "tokens", 1L << 40));
      writer.metrics(2, Map.of("loss", Double.NaN));
      // Nothing waits in a buffer.
      assertEquals(
          """
          {"step":1,"grad_norm":1.0E-7,"loss":0.1,"tokens":1099511627776}
          {"step":2,"loss":"NaN"}
          """,
          Files.readString(metrics()));
      assertThrows(IllegalArgumentException.class, () -> writer.metrics(3, Map.of("step", 4)));
    }
  }

  @Test
  void interruptedRunLeavesTheSameFile() throws IOException {
    try (var writer = MetricsWriter.start(run)) {
      steps(writer, 1, 20);
    }
    String uninterrupted = Files.readString(metrics());
    Files.delete(metrics());
    Files.delete(run.resolve("timings.jsonl"));
    try (var writer = MetricsWriter.start(run)) {
      steps(writer, 1, 13);
    }
    Files.writeString(metrics(), "{\"step\":14,\"lo", StandardOpenOption.APPEND);
    try (var writer = MetricsWriter.resume(run, 10)) {
      assertEquals(10, Files.readAllLines(metrics()).size());
      assertEquals(10, Files.readAllLines(run.resolve("timings.jsonl")).size());
      steps(writer, 11, 20);
    }
    assertEquals(uninterrupted, Files.readString(metrics()));
    try (var left = Files.list(run)) {
      assertEquals(2, left.count());
    }
  }

  @Test
  void lastLineThatLacksOnlyItsEndIsKept() throws IOException {
    Files.writeString(metrics(), "{\"step\":9}\n{\"step\":10}");
    MetricsWriter.resume(run, 10).close();
    assertEquals("{\"step\":9}\n{\"step\":10}\n", Files.readString(metrics()));
  }

  @Test
  void lastLineOfGarbageIsDropped() throws IOException {
    Files.write(
        metrics(),
        new byte[] {'{', '"', 's', 't', 'e', 'p', '"', ':', '1', '}', '\n', 0, 0, -1, '\n'});
    MetricsWriter.resume(run, 10).close();
    assertEquals("{\"step\":1}\n", Files.readString(metrics()));
  }

  @Test
  void damageWithinIsNamedAndLeftAlone() throws IOException {
    String damaged = "{\"step\":9}\n{\"st\n{\"step\":10}\n";
    Files.writeString(metrics(), damaged);
    var e = assertThrows(InvalidInputException.class, () -> MetricsWriter.resume(run, 10));
    assertTrue(e.getMessage().contains("is damaged in line 2"), e.getMessage());
    assertEquals(damaged, Files.readString(metrics()));
  }

  @Test
  void resumeWithoutFilesBeginsThem() throws IOException {
    MetricsWriter.resume(run, 10).close();
    assertEquals("", Files.readString(metrics()));
  }

  @Test
  void startRefusesAnEarlierRun() throws IOException {
    Files.createFile(run.resolve("timings.jsonl"));
    var e = assertThrows(InvalidInputException.class, () -> MetricsWriter.start(run));
    assertTrue(e.getMessage().contains("belongs to an earlier run"), e.getMessage());
    assertFalse(Files.exists(metrics()));
  }
}
