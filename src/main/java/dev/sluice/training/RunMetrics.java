package dev.sluice.training;

import dev.sluice.InvalidInputException;
import dev.sluice.files.Failures;
import dev.sluice.files.JsonFile;
import dev.sluice.files.RegularFile;
import dev.sluice.statistics.Statistics;
import java.io.BufferedInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.node.ObjectNode;

/// What a run recorded in `metrics.jsonl` or `timings.jsonl`.
public final class RunMetrics {
  /// One quantity over steps.
  public record Curve(double[] steps, double[] values) {}

  static final int LONGEST_LINE = 1 << 20;

  /// A field's values so far.
  private static final class Column {
    private double[] steps = new double[16];
    private double[] values = new double[16];
    private int size;

    void add(double step, double value) {
      if (size == steps.length) {
        steps = Arrays.copyOf(steps, 2 * size);
        values = Arrays.copyOf(values, 2 * size);
      }
      steps[size] = step;
      values[size++] = value;
    }

    Curve curve() {
      return new Curve(Arrays.copyOf(steps, size), Arrays.copyOf(values, size));
    }
  }

  private static final Column NOTHING = new Column();

  private final Map<String, Column> columns = new HashMap<>();
  private long lastStep;

  RunMetrics() {}

  /// Reads `metrics.jsonl` of a run directory.
  public static RunMetrics read(Path runDirectory) {
    return readFile(runDirectory.resolve(MetricsWriter.METRICS));
  }

  /// Reads `timings.jsonl` of a run directory.
  public static RunMetrics timings(Path runDirectory) {
    return readFile(runDirectory.resolve(MetricsWriter.TIMINGS));
  }

  private static RunMetrics readFile(Path file) {
    var metrics = new RunMetrics();
    lines(file, (_, object) -> metrics.add(object));
    return metrics;
  }

  /// Hears of each line of a run's record, which is a JSON object.
  @FunctionalInterface
  interface Line {
    void read(byte[] bytes, ObjectNode object) throws IOException;
  }

  /// Reads a run's record line by line. A last line that is no object is one that a crash tore, or
  /// that is being written: it is passed over.
  ///
  /// @throws InvalidInputException if another line is no JSON object with a step
  static void lines(Path file, Line each) {
    RegularFile.require(file, "name a run directory");
    try (var in = new BufferedInputStream(Files.newInputStream(file), 1 << 16)) {
      var line = new ByteArrayOutputStream();
      InvalidInputException torn = null;
      int number = 1;
      for (int b = in.read(); b >= 0 || line.size() > 0; b = in.read()) {
        if (b >= 0 && b != '\n') {
          line.write(b);
          if (line.size() > LONGEST_LINE) {
            throw damaged(file, number, "it is longer than " + LONGEST_LINE + " bytes");
          }
          continue;
        }
        if (torn != null) {
          throw torn;
        }
        byte[] bytes = line.toByteArray();
        line.reset();
        var object = object(file, bytes);
        if (object == null) {
          torn = damaged(file, number, "it is not a JSON object with a step");
        } else {
          each.read(bytes, object);
        }
        number++;
      }
    } catch (IOException e) {
      throw new InvalidInputException(
          "%s cannot be read (%s); check its permissions".formatted(file, Failures.words(e)), e);
    }
  }

  /// Takes up a line.
  void add(ObjectNode line) {
    lastStep = line.path("step").longValue();
    for (var field : line.properties()) {
      if (field.getValue().isNumber() && !field.getKey().equals("step")) {
        columns
            .computeIfAbsent(field.getKey(), _ -> new Column())
            .add((double) lastStep, field.getValue().asDouble());
      }
    }
  }

  /// A line of a record, or null where it is no JSON object with a step.
  static @Nullable ObjectNode object(Path file, byte[] line) {
    try {
      return JsonFile.read(file, line, "") instanceof ObjectNode node
              && node.path("step").isIntegralNumber()
              && node.path("step").canConvertToLong()
          ? node
          : null;
    } catch (InvalidInputException e) {
      return null;
    }
  }

  private static InvalidInputException damaged(Path file, int number, String what) {
    return new InvalidInputException(
        "%s is damaged in line %d: %s; repair or remove that line".formatted(file, number, what));
  }

  /// The median of a field, 0 when no step recorded it.
  public double median(String field) {
    double[] values = curve(field).values();
    return values.length == 0 ? 0 : Statistics.median(values);
  }

  /// A field over the steps that recorded it, such as `loss` or `held_out_bits_per_byte`.
  public Curve curve(String field) {
    return columns.getOrDefault(field, NOTHING).curve();
  }

  /// The step that was recorded last, 0 before any.
  public long lastStep() {
    return lastStep;
  }
}
