package dev.sluice.training;

import dev.sluice.InvalidInputException;
import dev.sluice.files.AppendedFile;
import dev.sluice.files.WholeFile;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.TreeMap;
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

  private final AppendedFile metrics;
  private final AppendedFile timings;

  private MetricsWriter(AppendedFile metrics, AppendedFile timings) {
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
    var metrics = AppendedFile.open(runDirectory.resolve(METRICS));
    try {
      return new MetricsWriter(metrics, AppendedFile.open(runDirectory.resolve(TIMINGS)));
    } catch (IOException e) {
      metrics.close();
      throw e;
    }
  }

  /// Appends values that depend on the seed alone.
  public void metrics(long step, Map<String, ? extends Number> values) throws IOException {
    metrics.line(line(step, values));
  }

  /// Appends values that depend on the machine.
  public void timings(long step, Map<String, ? extends Number> values) throws IOException {
    timings.line(line(step, values));
  }

  private static String line(long step, Map<String, ? extends Number> values) {
    if (values.containsKey("step")) {
      throw new IllegalArgumentException("step is given apart from the values " + values);
    }
    Map<String, Number> line = new LinkedHashMap<>();
    line.put("step", step);
    // Sorted, because the order of `Map.of` changes from one JVM to the next.
    line.putAll(new TreeMap<>(values));
    return JSON.writeValueAsString(line);
  }

  /// Waits until everything is on the disk. Call it before a checkpoint is saved: a resumed run
  /// does not write again what came before its checkpoint.
  public void sync() throws IOException {
    metrics.sync();
    timings.sync();
  }

  @Override
  public void close() throws IOException {
    try (timings) {
      metrics.close();
    }
  }

  private static void truncate(Path file, long step) throws IOException {
    if (Files.notExists(file)) {
      return;
    }
    // Should the rename itself be lost, the old file is there and the next resume does this again.
    WholeFile.write(
        file,
        out ->
            RunMetrics.lines(
                file,
                (line, object) -> {
                  if (object.path("step").longValue() <= step) {
                    out.write(line);
                    out.write('\n');
                  }
                }));
  }
}
