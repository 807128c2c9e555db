package dev.sluice.provenance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class RunManifestTest {
  @TempDir Path directory;

  @Test
  void whatIsWrittenIsRead() throws IOException {
    Map<String, Object> config = new LinkedHashMap<>();
    config.put("rope_theta", 10000.0);
    config.put("layers", List.of(Map.of("gate", "sdpa-headwise"), 7));
    config.put("absent", null);
    var manifest =
        new RunManifest(
            "0123abcd",
            List.of("sluice", "train", "--steps", "10"),
            config,
            Map.of("init", 1L, "data", Long.MIN_VALUE),
            "sha256:00ff",
            "libtorch 2.13.0",
            RunManifest.Machine.current(),
            Instant.parse("2026-01-02T03:04:05.678Z"));
    Path file = directory.resolve(RunManifest.FILE_NAME);
    manifest.write(file);
    assertEquals(manifest, RunManifest.read(file));
    String json = Files.readString(file);
    assertTrue(json.contains("\"sluice_commit\" : \"0123abcd\""), json);
    assertTrue(json.contains("\"started_at\" : \"2026-01-02T03:04:05.678Z\""), json);
    assertTrue(json.contains("\"rope_theta\" : 10000.0"), json);
    assertTrue(json.endsWith("}\n"), json);
  }

  @Test
  void machineIsDescribed() {
    var machine = RunManifest.Machine.current();
    assertTrue(machine.java().contains(System.getProperty("java.runtime.version")));
    assertTrue(machine.os().startsWith(System.getProperty("os.name")));
    assertTrue(machine.cores() > 0 && machine.memoryBytes() > 0, machine.toString());
  }

  @Test
  void badManifestIsRefused() throws IOException {
    Path file = directory.resolve(RunManifest.FILE_NAME);
    assertBad(file, "does not exist");
    Files.writeString(file, "{\"sluice_commit\":");
    assertBad(file, "is not valid JSON");
    Files.writeString(file, "{\"sluice_commit\":\"1\"}");
    assertBad(file, "command_line");
  }

  private static void assertBad(Path file, String message) {
    var e = assertThrows(InvalidInputException.class, () -> RunManifest.read(file));
    assertTrue(e.getMessage().contains(message), e.getMessage());
    assertTrue(e.getMessage().startsWith(file.toString()), e.getMessage());
  }
}
