package dev.sluice.fuzz;

import dev.sluice.checkpoint.CheckpointDirectory;
import dev.sluice.files.Sha256;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.stream.Stream;

/// Makes the checksums of a checkpoint anew, so that a test reaches what lies behind them: whoever
/// can change a file can change its checksum.
public final class Checksums {
  private Checksums() {}

  public static void renew(Path checkpoint) throws IOException {
    var lines = new StringBuilder();
    try (Stream<Path> files = Files.list(checkpoint)) {
      for (Path file : files.filter(Files::isRegularFile).sorted().toList()) {
        String name = file.getFileName().toString();
        if (!name.equals(CheckpointDirectory.CHECKSUMS)) {
          lines.append(Sha256.hex(file)).append("  ").append(name).append('\n');
        }
      }
    }
    Files.writeString(checkpoint.resolve(CheckpointDirectory.CHECKSUMS), lines);
  }
}
