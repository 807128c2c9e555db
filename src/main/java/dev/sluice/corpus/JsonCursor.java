package dev.sluice.corpus;

import dev.sluice.InvalidInputException;
import dev.sluice.files.JsonFile;
import java.io.FilterReader;
import java.io.IOException;
import java.io.Reader;
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
import tools.jackson.core.exc.StreamConstraintsException;
import tools.jackson.core.json.JsonFactory;
import tools.jackson.core.json.JsonReadFeature;

/// JSON objects, each with the document in one of its fields, or strings, each a document: one
/// after the other, as in JSON Lines, or in one array. However long the file is, only one string of
/// it is in memory.
final class JsonCursor implements DocumentCursor {
  /// In characters. The parser holds a text twice, in two bytes a character.
  private static final int LONGEST_TEXT =
      (int) Math.min(1 << 28, Runtime.getRuntime().maxMemory() / 8);

  private static final int FIELDS_TOLD = 20;

  /// Python writes NaN and Infinity, in fields that nobody asks for here.
  private static final JsonFactory JSON =
      JsonFactory.builder()
          .streamReadConstraints(JsonFile.constraints(LONGEST_TEXT))
          .enable(JsonReadFeature.ALLOW_NON_NUMERIC_NUMBERS)
          .build();

  private final String name;
  private final String textField;
  private final Utf8Reader text;
  private final Recent recent;
  private final JsonParser parser;

  private boolean inArray;
  private boolean afterArray;
  private long values;

  /// What all documents of the file are: the start of an object, or a string.
  private @Nullable JsonToken kind;

  /// The line in which the present value begins, 0 between two values.
  private int line;

  JsonCursor(Path file, String name, String textField) {
    this.name = name;
    this.textField = textField;
    this.text = TextInput.open(file, name);
    this.recent = new Recent(text);
    this.parser = JSON.createParser(ObjectReadContext.empty(), recent);
  }

  @Override
  public @Nullable Document next() {
    try {
      line = 0;
      JsonToken token = parser.nextToken();
      if (token == JsonToken.START_ARRAY && values == 0 && !inArray) {
        inArray = true;
        token = parser.nextToken();
      }
      if (token == JsonToken.END_ARRAY) {
        inArray = false;
        afterArray = true;
        token = parser.nextToken();
      }
      if (token == null) {
        return null;
      }
      line = parser.currentTokenLocation().getLineNr();
      values++;
      requireDocument(token);
      String found = token == JsonToken.VALUE_STRING ? string() : textOfObject();
      return new Document(place(), new StringReader(found));
    } catch (JacksonException e) {
      throw malformed(e);
    }
  }

  private void requireDocument(JsonToken token) {
    String wrong = null;
    if (afterArray) {
      wrong = " after the end of an array";
    } else if (token != JsonToken.START_OBJECT && token != JsonToken.VALUE_STRING) {
      wrong = inArray ? " in an array" : "";
    } else if (kind != null && kind != token) {
      wrong = ", and those before it are not";
    }
    if (wrong != null) {
      throw new InvalidInputException(
          "%s is %s%s; Sluice reads objects with the field '%s', or strings, one after the other or in one array"
              .formatted(placeAndLine(), words(token), wrong, textField));
    }
    kind = token;
  }

  private static String words(JsonToken token) {
    return switch (token) {
      case START_OBJECT -> "an object";
      case START_ARRAY -> "an array";
      case VALUE_STRING -> "a string";
      case VALUE_NULL -> "null";
      case VALUE_TRUE, VALUE_FALSE -> "true or false";
      default -> "a number";
    };
  }

  /// By the line, or in an array, which may be in one line, by the number from 0 on.
  private String place() {
    return inArray ? "%s[%d]".formatted(name, values - 1) : name + ":" + line;
  }

  private String placeAndLine() {
    return inArray ? "%s (line %d)".formatted(place(), line) : place();
  }

  private String textOfObject() {
    var search = new Search();
    String found = search.in(textField, "");
    if (found == null) {
      throw new InvalidInputException(
          search.wrong != null
              ? "%s: the field '%s' is not a string but %s; name the field that has the text, or remove what has none"
                  .formatted(placeAndLine(), textField, search.wrong)
              : "%s has no field '%s' but %s; name the field that has the text, with a dot for one within another"
                  .formatted(placeAndLine(), textField, search.others));
    }
    return found;
  }

  /// The search for the field in one object.
  private final class Search {
    /// What stood in the field instead of a string.
    private @Nullable String wrong;

    private final List<String> others = new ArrayList<>();

    /// The string in the field of the object that has begun, or null. `meta.text` is the field of
    /// that name, or else the field `text` of the object `meta`; a longer first name goes before a
    /// shorter one.
    ///
    /// @param within the names of the objects around, for messages
    private @Nullable String in(String field, String within) {
      String found = null;
      int matched = -1;
      while (parser.nextToken() == JsonToken.PROPERTY_NAME) {
        String key = parser.currentName();
        JsonToken value = parser.nextToken();
        boolean whole = key.equals(field);
        String text = null;
        if (whole && value == JsonToken.VALUE_STRING) {
          text = string();
        } else if (value == JsonToken.START_OBJECT && field.startsWith(key + ".")) {
          text = in(field.substring(key.length() + 1), within + key + ".");
        } else {
          wrong = whole ? words(value) : wrong;
          if (others.size() < FIELDS_TOLD) {
            others.add(within + key + (value == JsonToken.START_OBJECT ? ".…" : ""));
          }
          parser.skipChildren();
        }
        if ((whole || text != null) && key.length() == matched) {
          throw new InvalidInputException(
              "%s has the field '%s' twice; remove one".formatted(placeAndLine(), textField));
        }
        if (whole || (text != null && key.length() > matched)) {
          found = text;
          matched = key.length();
        }
      }
      return found;
    }
  }

  private String string() {
    try {
      return parser.getString();
    } catch (StreamConstraintsException e) {
      throw new InvalidInputException(
          "%s has a text of more than %d characters, for which the memory is too small; cut it into several, or save it as a .txt file, which may have any length"
              .formatted(placeAndLine(), LONGEST_TEXT),
          e);
    }
  }

  private InvalidInputException malformed(JacksonException e) {
    int place = line > 0 || e.getLocation() == null ? line : e.getLocation().getLineNr();
    return JsonFile.notJson(
        "%s:%d".formatted(name, place), recent.block, recent.start, e, "correct or remove it");
  }

  @Override
  public long broken() {
    return text.broken();
  }

  @Override
  public void close() {
    parser.close();
    try {
      text.close();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /// Remembers what the parser read last, so that a message can show what it stumbled over.
  private static final class Recent extends FilterReader {
    private String block = "";
    private long start;

    Recent(Reader in) {
      super(in);
    }

    @Override
    public int read(char[] into, int offset, int length) throws IOException {
      int n = in.read(into, offset, length);
      if (n > 0) { // at the end the last block stays, in which the parser stumbled
        start += block.length();
        block = new String(into, offset, n);
      }
      return n;
    }
  }
}
