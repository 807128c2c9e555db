package dev.sluice.ruler;

import dev.sluice.InvalidInputException;
import dev.sluice.files.AppendedFile;
import dev.sluice.files.JsonFile;
import java.io.IOException;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.Optional;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.DeserializationFeature;
import tools.jackson.databind.PropertyNamingStrategies;
import tools.jackson.databind.json.JsonMapper;

/// What models answered, kept line by line as it comes, so that a killed run goes on. An answer is
/// known again by the model and the prompt themselves; so more samples, tasks and lengths may be
/// asked for later.
public final class Answers implements AutoCloseable {
  /// Its name in the output directory.
  public static final String FILE = "answers.jsonl";

  private static final JsonMapper JSON =
      JsonFile.mapper()
          .propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE)
          .enable(DeserializationFeature.FAIL_ON_MISSING_CREATOR_PROPERTIES)
          .enable(DeserializationFeature.FAIL_ON_NULL_CREATOR_PROPERTIES)
          .build();

  /// @param model its fingerprint
  /// @param prompt its fingerprint
  /// @param task of the sample, for readers of the file
  /// @param maxLength of the sample, for readers of the file
  /// @param number of the sample, for readers of the file
  /// @param promptTokens how many tokens the model read
  /// @param prediction what the model answered
  /// @param seconds how long that took
  public record Answer(
      String model,
      String prompt,
      String task,
      int maxLength,
      int number,
      int promptTokens,
      String prediction,
      double seconds) {}

  private record Key(String model, String prompt) {}

  private final Map<Key, Answer> answers = new HashMap<>();
  private final AppendedFile file;

  private Answers(AppendedFile file) {
    this.file = file;
  }

  /// Opens the answers of a directory, none at first. A last line that was cut off is removed.
  public static Answers open(Path directory) throws IOException {
    Path path = directory.resolve(FILE);
    var rows = AppendedFile.lines(path, JsonFile.LARGE, "choose another --output");
    var answers = new Answers(AppendedFile.open(path));
    try {
      int line = 0;
      for (String row : rows) {
        line++;
        if (!row.isEmpty()) {
          answers.take(path, line, row);
        }
      }
      return answers;
    } catch (RuntimeException e) {
      answers.close();
      throw e;
    }
  }

  private void take(Path path, int line, String row) {
    try {
      var answer = JSON.readValue(row, Answer.class);
      answers.put(new Key(answer.model(), answer.prompt()), answer);
    } catch (JacksonException e) {
      throw new InvalidInputException(
          "%s, line %d, is not an answer that Sluice wrote; remove the line, or choose another --output"
              .formatted(path, line),
          e);
    }
  }

  /// The answer of a model to a prompt, if it gave one.
  public Optional<Answer> find(String model, Sample sample) {
    return Optional.ofNullable(answers.get(new Key(model, sample.fingerprint())));
  }

  /// Keeps an answer.
  public void add(Answer answer) throws IOException {
    file.line(JSON.writeValueAsString(answer));
    answers.put(new Key(answer.model(), answer.prompt()), answer);
  }

  @Override
  public void close() throws IOException {
    file.close();
  }
}
