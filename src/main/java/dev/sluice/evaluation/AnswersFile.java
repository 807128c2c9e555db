package dev.sluice.evaluation;

import dev.sluice.InvalidInputException;
import dev.sluice.files.AppendedFile;
import dev.sluice.files.JsonFile;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.DeserializationFeature;
import tools.jackson.databind.json.JsonMapper;

/// A model's answers to a task's questions, a document a line, as they come: so that a run that was
/// stopped goes on.
public final class AnswersFile implements AutoCloseable {
  private static final String WAY_OUT = "remove it, so that the questions are asked again";

  /// @param row of the data, for readers
  private record Line(int document, int row, List<Response> answers) {}

  private static final JsonMapper JSON =
      JsonFile.mapper().enable(DeserializationFeature.FAIL_ON_MISSING_CREATOR_PROPERTIES).build();

  private final AppendedFile file;
  private final Map<Integer, List<Response>> answers;

  private AnswersFile(AppendedFile file, Map<Integer, List<Response>> answers) {
    this.file = file;
    this.answers = answers;
  }

  /// Opens the file for the answers that are missing.
  public static AnswersFile open(Path path, TaskData data) throws IOException {
    Map<Integer, List<Response>> answers = new TreeMap<>();
    AppendedFile.lines(path, JsonFile.LARGE, WAY_OUT)
        .forEach(line -> read(path, line, data, answers));
    return new AnswersFile(AppendedFile.open(path), answers);
  }

  private static void read(
      Path path, String text, TaskData data, Map<Integer, List<Response>> answers) {
    try {
      var line = JSON.readValue(text, Line.class);
      var documents = data.documents();
      if (line.document() < 0
          || line.document() >= documents.size()
          || line.answers() == null
          || line.answers().size() != documents.get(line.document()).questions().size()) {
        throw new InvalidInputException(
            "%s has answers to other questions than these; %s".formatted(path, WAY_OUT));
      }
      answers.put(line.document(), line.answers());
    } catch (JacksonException e) {
      throw new InvalidInputException(
          "%s has a line that is no answer (%s); %s"
              .formatted(path, JsonFile.problem(text, e), WAY_OUT),
          e);
    }
  }

  /// Those of all documents so far, by their place.
  public Map<Integer, List<Response>> answers() {
    return Map.copyOf(answers);
  }

  /// Takes the answers to a document.
  public void add(int document, TaskDocument of, List<Response> responses) throws IOException {
    file.line(JSON.writeValueAsString(new Line(document, of.row(), responses)));
    answers.put(document, responses);
  }

  @Override
  public void close() throws IOException {
    file.close();
  }
}
