package dev.sluice.training;

import dev.sluice.InvalidInputException;
import dev.sluice.statistics.Statistics;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/// What a run recorded in `metrics.jsonl` or `timings.jsonl`.
public final class RunMetrics {
  /// One quantity over steps.
  public record Curve(double[] steps, double[] values) {}

  private static final JsonMapper JSON = JsonMapper.builder().build();

  private final List<JsonNode> records;

  private RunMetrics(List<JsonNode> records) {
    this.records = records;
  }

  /// Reads `metrics.jsonl` of a run directory.
  public static RunMetrics read(Path runDirectory) {
    return readFile(runDirectory.resolve(MetricsWriter.METRICS));
  }

  /// Reads `timings.jsonl` of a run directory.
  public static RunMetrics timings(Path runDirectory) {
    return readFile(runDirectory.resolve(MetricsWriter.TIMINGS));
  }

  private static RunMetrics readFile(Path file) {
    List<JsonNode> records = new ArrayList<>();
    try {
      for (String line : Files.readAllLines(file)) {
        records.add(JSON.readTree(line));
      }
    } catch (IOException | JacksonException e) {
      throw new InvalidInputException("cannot read " + file + "; name a run directory", e);
    }
    return new RunMetrics(records);
  }

  /// The median of a field, 0 when no step recorded it.
  public double median(String field) {
    double[] values = curve(field).values();
    return values.length == 0 ? 0 : Statistics.median(values);
  }

  /// A field over the steps that recorded it, such as `loss` or `held_out_bits_per_byte`.
  public Curve curve(String field) {
    var having = records.stream().filter(line -> line.path(field).isNumber()).toList();
    return new Curve(
        having.stream().mapToDouble(line -> line.path("step").asDouble()).toArray(),
        having.stream().mapToDouble(line -> line.path(field).asDouble()).toArray());
  }
}
