package dev.sluice.training;

import dev.sluice.InvalidInputException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.TreeMap;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/// A run's numbers, one JSON object a line: `{"step":100,"loss":2.25,…}`, fields sorted by name.
///
/// What follows from the seed goes to [#METRICS], so that two runs of one seed leave the same bytes
/// whether or not they were interrupted; what the clock and the machine decide goes to [#TIMINGS].
/// Every line is handed to the system before the call returns. A value that JSON cannot hold is
/// written as `"NaN"`, `"Infinity"` or `"-Infinity"`.
public final class MetricsWriter implements AutoCloseable {
  /// Loss, gradient norm, learning rate: what the same seed repeats.
  public static final String METRICS = "metrics.jsonl";

  /// Tokens per second, seconds, resident memory: what no seed repeats.
  public static final String TIMINGS = "timings.jsonl";

  private static final JsonMapper JSON = JsonMapper.builder().build();

  private final FileChannel metrics;
  private final FileChannel timings;

  private MetricsWriter(FileChannel metrics, FileChannel timings) {
    this.metrics = metrics;
    this.timings = timings;
  }

  /// Begins the files of a new run; a directory that has them already is refused.
  public static MetricsWriter start(Path runDirectory) throws IOException {
    for (String name : new String[] {METRICS, TIMINGS}) {
      if (Files.exists(runDirectory.resolve(name))) {
        throw new InvalidInputException(
            runDirectory.resolve(name)
                + " belongs to an earlier run; resume it or choose another directory");
      }
    }
    return append(runDirectory);
  }

  /// Goes on after `step`: lines of later steps, which the resumed run will write again, and a last
  /// line that was torn by a crash are dropped.
  public static MetricsWriter resume(Path runDirectory, long step) throws IOException {
    truncate(runDirectory.resolve(METRICS), step);
    truncate(runDirectory.resolve(TIMINGS), step);
    return append(runDirectory);
  }

  private static MetricsWriter append(Path runDirectory) throws IOException {
    var metrics = append(runDirectory, METRICS);
    try {
      return new MetricsWriter(metrics, append(runDirectory, TIMINGS));
    } catch (IOException e) {
      metrics.close();
      throw e;
    }
  }

  private static FileChannel append(Path runDirectory, String name) throws IOException {
    return FileChannel.open(
        runDirectory.resolve(name), StandardOpenOption.CREATE, StandardOpenOption.APPEND);
  }

  /// Appends values that depend on the seed alone.
  public void metrics(long step, Map<String, ? extends Number> values) throws IOException {
    write(metrics, step, values);
  }

  /// Appends values that depend on the machine.
  public void timings(long step, Map<String, ? extends Number> values) throws IOException {
    write(timings, step, values);
  }

  private static void write(FileChannel file, long step, Map<String, ? extends Number> values)
      throws IOException {
    if (values.containsKey("step")) {
      throw new IllegalArgumentException("step is given apart from the values " + values);
    }
    Map<String, Number> line = new LinkedHashMap<>();
    line.put("step", step);
    // Sorted, because the order of `Map.of` changes from one JVM to the next.
    line.putAll(new TreeMap<>(values));
    var bytes =
        ByteBuffer.wrap((JSON.writeValueAsString(line) + "\n").getBytes(StandardCharsets.UTF_8));
    while (bytes.hasRemaining()) {
      file.write(bytes);
    }
  }

  /// Waits until everything is on the disk. Call it before a checkpoint is saved: a resumed run
  /// does not write again what came before its checkpoint.
  public void sync() throws IOException {
    metrics.force(true);
    timings.force(true);
  }

  @Override
  public void close() throws IOException {
    try (metrics;
        timings) {
      sync();
    }
  }

  private static void truncate(Path file, long step) throws IOException {
    if (Files.notExists(file)) {
      return;
    }
    byte[] lines = Files.readAllBytes(file);
    Path beside = file.resolveSibling("." + file.getFileName() + ".partial");
    try (var output =
        FileChannel.open(
            beside,
            StandardOpenOption.CREATE,
            StandardOpenOption.WRITE,
            StandardOpenOption.TRUNCATE_EXISTING)) {
      int number = 1;
      for (int begin = 0; begin < lines.length; number++) {
        int end = endOfLine(lines, begin);
        byte[] line = Arrays.copyOfRange(lines, begin, end);
        Long found = step(line);
        requireLine(file, number, found, end, lines.length);
        if (found != null && found <= step) {
          var kept =
              ByteBuffer.wrap(Arrays.copyOf(line, line.length + 1)).put(line.length, (byte) '\n');
          while (kept.hasRemaining()) {
            output.write(kept);
          }
        }
        begin = end + 1;
      }
      output.force(true);
    }
    // Should the rename itself be lost, the old file is there and the next resume does this again.
    Files.move(beside, file, StandardCopyOption.ATOMIC_MOVE);
  }

  /// Refuses a file with a line that is not a JSON object with a step; the last may be torn by a
  /// crash.
  static void requireLines(Path file) {
    byte[] lines;
    try {
      lines = Files.readAllBytes(file);
    } catch (IOException e) {
      throw new InvalidInputException(
          "%s cannot be read (%s); check its permissions".formatted(file, e), e);
    }
    int number = 1;
    for (int begin = 0; begin < lines.length; number++) {
      int end = endOfLine(lines, begin);
      requireLine(file, number, step(Arrays.copyOfRange(lines, begin, end)), end, lines.length);
      begin = end + 1;
    }
  }

  private static void requireLine(
      Path file, int number, @Nullable Long step, int end, int fileLength) {
    if (step == null && end < fileLength - 1) {
      throw new InvalidInputException(
          ("%s is damaged in line %d, which is not a JSON object with a step;"
                  + " repair or remove that line")
              .formatted(file, number));
    }
  }

  private static int endOfLine(byte[] lines, int begin) {
    int end = begin;
    while (end < lines.length && lines[end] != '\n') {
      end++;
    }
    return end;
  }

  /// The step of a line; null if the line is torn.
  private static @Nullable Long step(byte[] line) {
    try {
      JsonNode step = JSON.readTree(line).path("step");
      return step.isIntegralNumber() ? step.longValue() : null;
    } catch (JacksonException e) {
      return null;
    }
  }
}
