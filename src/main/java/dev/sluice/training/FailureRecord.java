package dev.sluice.training;

import dev.sluice.files.WholeFile;
import dev.sluice.tokenizer.Tokenizer;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.PropertyNamingStrategies;
import tools.jackson.databind.SerializationFeature;
import tools.jackson.databind.json.JsonMapper;

/// What a run leaves of the step that ended it, in `failure/step-00000123/`: the batch as ids and
/// as text, the statistics, and the command that meets the same step again.
final class FailureRecord {
  /// The directory's name in a run directory.
  static final String DIRECTORY = "failure";

  private static final JsonMapper JSON =
      JsonMapper.builder()
          .propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE)
          .enable(SerializationFeature.INDENT_OUTPUT)
          .build();

  /// What was known of the step.
  ///
  /// @param step that was not accepted, or in which the program failed
  /// @param fromStep of the checkpoint that it follows; 0 for new weights
  /// @param loss in nats, null when it was not reached
  /// @param gradientNorm before clipping, null when it was not reached
  /// @param notFinite weights whose gradient was not finite
  /// @param guard what the guard remembers, with its events
  /// @param error what was thrown, or null
  record Statistics(
      int step,
      int fromStep,
      @Nullable Double loss,
      @Nullable Double gradientNorm,
      List<String> notFinite,
      SpikeGuard.State guard,
      @Nullable String error) {}

  private FailureRecord() {}

  /// Where the record of a step is.
  static Path place(Path run, long step) {
    return run.resolve(DIRECTORY).resolve(String.format(Locale.ROOT, "step-%08d", step));
  }

  /// Writes the record, over an earlier one of the same step; gives its directory.
  ///
  /// @param firstBatch index of the first micro-batch
  /// @param microBatches each of rows of `sequenceLength + 1` ids
  static Path write(
      Path run,
      Statistics statistics,
      long firstBatch,
      List<long[]> microBatches,
      int sequenceLength,
      Tokenizer tokenizer)
      throws IOException {
    Path place = place(run, statistics.step());
    Files.createDirectories(place);
    Map<String, Object> batch = new LinkedHashMap<>();
    batch.put("step", statistics.step());
    batch.put("first_batch", firstBatch);
    batch.put("sequence_length", sequenceLength);
    var rows = rows(microBatches, sequenceLength + 1);
    batch.put("token_ids", rows);
    WholeFile.write(place.resolve("batch.json"), JSON.writeValueAsString(batch) + "\n");
    WholeFile.write(place.resolve("batch.txt"), text(rows, tokenizer));
    WholeFile.write(place.resolve("statistics.json"), JSON.writeValueAsString(statistics) + "\n");
    WholeFile.write(
        place.resolve("command.txt"),
        "# Goes on after step %d and meets step %d again with the same batch.\n./sluice train --resume %s\n"
            .formatted(statistics.fromStep(), statistics.step(), run));
    return place;
  }

  private static List<long[]> rows(List<long[]> microBatches, int row) {
    var rows = new ArrayList<long[]>();
    for (long[] batch : microBatches) {
      for (int at = 0; at < batch.length; at += row) {
        rows.add(Arrays.copyOfRange(batch, at, at + row));
      }
    }
    return rows;
  }

  private static String text(List<long[]> rows, Tokenizer tokenizer) {
    var text = new StringBuilder();
    for (int i = 0; i < rows.size(); i++) {
      int[] ids = Arrays.stream(rows.get(i)).mapToInt(Math::toIntExact).toArray();
      text.append("---- row %d%n".formatted(i + 1)).append(tokenizer.decode(ids)).append('\n');
    }
    return text.toString();
  }
}
