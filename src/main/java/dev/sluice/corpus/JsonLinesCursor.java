package dev.sluice.corpus;

import dev.sluice.InvalidInputException;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.StringReader;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JacksonException;
import tools.jackson.core.JsonParser;
import tools.jackson.core.JsonToken;
import tools.jackson.core.ObjectReadContext;
import tools.jackson.core.StreamReadConstraints;
import tools.jackson.core.json.JsonFactory;

/// One JSON object a line; one of its fields is the document. Empty lines are skipped.
final class JsonLinesCursor implements DocumentCursor {
  /// A book in one line is longer than the parser's own limit.
  private static final JsonFactory JSON =
      JsonFactory.builder()
          .streamReadConstraints(
              StreamReadConstraints.builder().maxStringLength(Integer.MAX_VALUE).build())
          .build();

  private final String name;
  private final String textField;
  private final BufferedReader lines;
  private long lineNumber;

  JsonLinesCursor(Path file, String name, String textField) {
    this.name = name;
    this.textField = textField;
    this.lines = new BufferedReader(TextInput.open(file, name), 1 << 16);
  }

  @Override
  public @Nullable Document next() {
    try {
      while (true) {
        String line = lines.readLine();
        lineNumber++;
        if (line == null) {
          return null;
        }
        if (!line.isBlank()) {
          return new Document(name + ":" + lineNumber, new StringReader(text(line)));
        }
      }
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private String text(String line) {
    String text = null;
    List<String> others = new ArrayList<>();
    try (JsonParser parser = JSON.createParser(ObjectReadContext.empty(), line)) {
      if (parser.nextToken() != JsonToken.START_OBJECT) {
        throw new InvalidInputException(malformed("it is no object"));
      }
      while (parser.nextToken() == JsonToken.PROPERTY_NAME) {
        String field = parser.currentName();
        JsonToken value = parser.nextToken();
        if (!field.equals(textField)) {
          others.add(field);
          parser.skipChildren();
        } else if (value == JsonToken.VALUE_STRING) {
          text = parser.getString();
        } else {
          throw new InvalidInputException(
              "%s:%d: the field '%s' is not a string; name the field that has the text."
                  .formatted(name, lineNumber, textField));
        }
      }
      if (parser.nextToken() != null) {
        throw new InvalidInputException(malformed("something follows the object"));
      }
    } catch (JacksonException e) {
      String why = e.getOriginalMessage().lines().findFirst().orElse("not JSON");
      throw new InvalidInputException(malformed(why), e);
    }
    if (text == null) {
      throw new InvalidInputException(
          "%s:%d has no field '%s' but %s; name the field that has the text."
              .formatted(name, lineNumber, textField, others));
    }
    return text;
  }

  private String malformed(String why) {
    return "%s:%d is not one JSON object in one line (%s); correct or remove the line."
        .formatted(name, lineNumber, why);
  }

  @Override
  public void close() {
    try {
      lines.close();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
