package dev.sluice.training;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/// How much memory the process holds.
public final class ResidentMemory {
  private static final Path STATUS = Path.of("/proc/self/status");

  private ResidentMemory() {}

  /// Bytes resident now; 0 where the system does not say.
  public static long now() {
    return field("VmRSS:");
  }

  /// The most bytes that were resident at a time; 0 where the system does not say.
  public static long peak() {
    return field("VmHWM:");
  }

  private static long field(String name) {
    try {
      for (String line : Files.readAllLines(STATUS)) {
        if (line.startsWith(name)) {
          return Long.parseLong(line.replaceAll("\\D+", "")) * 1024;
        }
      }
    } catch (IOException e) {
      return 0; // not Linux
    }
    return 0;
  }
}
