package dev.sluice.evaluation;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.stream.Collectors;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ObjectNode;

/// A text with fields of a row in it: `Question: {question}\nAnswer:`.
///
/// `{choices.text}` is the field `text` within `choices`, `{choices.0}` the first of a list. After
/// a bar stand words that change the field's text, one after the other: `{text|last-word}`. Braces
/// of the text itself are written twice.
public final class Template {
  /// What can be done with a field's text.
  private enum Change {
    /// What follows the last space.
    LAST_WORD,
    /// What stands before it.
    WITHOUT_LAST_WORD,
    STRIP,
    LOWER,
    CAPITALIZE,
    /// What follows the first space.
    WITHOUT_FIRST_WORD,
    /// What stands before the first `_`.
    BEFORE_BLANK,
    /// What follows it.
    AFTER_BLANK;

    String word() {
      return name().toLowerCase(Locale.ROOT).replace('_', '-');
    }

    String apply(String text) {
      return switch (this) {
        case LAST_WORD -> text.substring(text.lastIndexOf(' ') + 1);
        case WITHOUT_LAST_WORD -> text.substring(0, Math.max(0, text.lastIndexOf(' ')));
        case STRIP -> text.strip();
        case LOWER -> text.toLowerCase(Locale.ROOT);
        case CAPITALIZE ->
            text.isEmpty()
                ? text
                : text.substring(0, 1).toUpperCase(Locale.ROOT)
                    + text.substring(1).toLowerCase(Locale.ROOT);
        case WITHOUT_FIRST_WORD -> text.substring(text.indexOf(' ') + 1);
        case BEFORE_BLANK -> text.substring(0, Math.max(0, text.indexOf('_')));
        case AFTER_BLANK -> text.substring(text.indexOf('_') + 1).strip();
      };
    }
  }

  private sealed interface Part {
    record Words(String text) implements Part {}

    record Field(String path, List<Change> changes) implements Part {}
  }

  private static final int SHOWN = 60;

  private final String source;
  private final List<Part> parts;

  private Template(String source, List<Part> parts) {
    this.source = source;
    this.parts = List.copyOf(parts);
  }

  /// Reads a template.
  ///
  /// @param where for messages: `context of the task piqa`
  static Template parse(String source, String where) {
    List<Part> parts = new ArrayList<>();
    var words = new StringBuilder();
    for (int i = 0; i < source.length(); i++) {
      char c = source.charAt(i);
      boolean twice = i + 1 < source.length() && source.charAt(i + 1) == c;
      if ((c == '{' || c == '}') && twice) {
        words.append(c);
        i++;
      } else if (c == '{' && source.indexOf('}', i) > i + 1) {
        parts.add(new Part.Words(words.toString()));
        words.setLength(0);
        int end = source.indexOf('}', i);
        parts.add(field(source.substring(i + 1, end), where));
        i = end;
      } else if (c == '{' || c == '}') {
        throw new InvalidInputException(
            "%s has a brace without its partner in '%s'; write {field}, and a brace of the text twice"
                .formatted(where, Printable.brief(source, SHOWN)));
      } else {
        words.append(c);
      }
    }
    parts.add(new Part.Words(words.toString()));
    parts.removeIf(part -> part instanceof Part.Words(String text) && text.isEmpty());
    return new Template(source, parts);
  }

  private static Part field(String text, String where) {
    String[] pieces = text.split("\\|", -1);
    List<Change> changes = new ArrayList<>();
    for (int i = 1; i < pieces.length; i++) {
      String word = pieces[i].strip();
      changes.add(
          List.of(Change.values()).stream()
              .filter(change -> change.word().equals(word))
              .findFirst()
              .orElseThrow(
                  () ->
                      new InvalidInputException(
                          "%s asks for '%s' of a field; known are %s"
                              .formatted(
                                  where,
                                  Printable.brief(word, SHOWN),
                                  List.of(Change.values()).stream()
                                      .map(Change::word)
                                      .collect(Collectors.joining(", "))))));
    }
    return new Part.Field(pieces[0].strip(), changes);
  }

  String source() {
    return source;
  }

  /// The text for a row.
  ///
  /// @param where the row, for messages: `row 3 of piqa.jsonl`
  String of(ObjectNode row, String where) {
    var text = new StringBuilder();
    for (var part : parts) {
      switch (part) {
        case Part.Words(String words) -> text.append(words);
        case Part.Field field -> text.append(text(value(row, field.path(), where), field, where));
      }
    }
    return text.toString();
  }

  /// The texts of the list that the field of a template without other words has.
  List<String> list(ObjectNode row, String where) {
    if (parts.size() == 1 && parts.getFirst() instanceof Part.Field field) {
      var value = value(row, field.path(), where);
      if (value.isArray()) {
        List<String> texts = new ArrayList<>();
        value.forEach(each -> texts.add(text(each, field, where)));
        return texts;
      }
    }
    throw new InvalidInputException(
        "%s has no list in '%s'; name a field that is one, such as {choices}, or write the texts as a list"
            .formatted(where, Printable.brief(source, SHOWN)));
  }

  private static String text(JsonNode value, Part.Field field, String where) {
    if (value.isContainer() || value.isNull()) {
      throw new InvalidInputException(
          "%s has %s in the field '%s' where a text belongs; name another field"
              .formatted(
                  where,
                  value.isNull() ? "null" : value.isArray() ? "a list" : "an object",
                  field.path()));
    }
    String text = value.asString();
    for (var change : field.changes()) {
      text = change.apply(text);
    }
    return text;
  }

  private static JsonNode value(ObjectNode row, String path, String where) {
    JsonNode at = row;
    if (row.has(path)) {
      return row.path(path);
    }
    for (String name : path.split("\\.", -1)) {
      at =
          at.isArray() && name.matches("\\d{1,9}")
              ? at.path(Integer.parseInt(name))
              : at.path(name);
    }
    if (at.isMissingNode()) {
      throw new InvalidInputException(
          "%s has no field '%s' but %s; name the task's fields as the data has them"
              .formatted(
                  where,
                  Printable.brief(path, SHOWN),
                  Printable.brief(String.join(", ", row.propertyNames()), 300)));
    }
    return at;
  }

  @Override
  public String toString() {
    return source;
  }
}
