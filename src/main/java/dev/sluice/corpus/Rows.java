package dev.sluice.corpus;

import dev.sluice.InvalidInputException;
import dev.sluice.files.JsonFile;
import dev.sluice.files.RegularFile;
import java.io.IOException;
import java.io.Reader;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import tools.jackson.core.JacksonException;
import tools.jackson.core.JsonParser;
import tools.jackson.core.JsonToken;
import tools.jackson.core.exc.StreamConstraintsException;
import tools.jackson.core.json.JsonReadFeature;
import tools.jackson.databind.DeserializationFeature;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.JsonNodeFactory;
import tools.jackson.databind.node.ObjectNode;

/// The rows of a file of questions, all their fields, in memory:
///
/// - `.jsonl`, `.json`: objects, one after the other or in one array;
/// - `.parquet`: one object a row, of columns of strings, numbers, truth values and lists of them;
/// - `.txt`, `.text`, `.md`: one row with the field `text`.
///
/// All but Parquet may end in `.gz` or `.zst` as well.
public final class Rows {
  /// Of one field.
  private static final int LONGEST_TEXT = 1 << 26;

  /// What a file may have: it is held as a tree.
  private static final int MOST = 2_000_000;

  private static final JsonMapper JSON =
      JsonFile.mapper()
          .enable(JsonReadFeature.ALLOW_NON_NUMERIC_NUMBERS)
          .disable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS) // objects follow each other
          .build();

  private Rows() {}

  /// Reads the first rows of a file.
  ///
  /// @param limit the most; 0 for all
  /// @throws InvalidInputException if it cannot be read, holds something else, or nothing
  public static List<ObjectNode> read(Path file, int limit) {
    RegularFile.require(file, "give a .jsonl, .json, .parquet or .txt file");
    String name = String.valueOf(file.getFileName());
    var format = FileDocuments.Format.of(name);
    if (format == null) {
      throw new InvalidInputException(
          "%s is of a kind that Sluice does not read; give a .jsonl, .json or .txt file, also with .gz or .zst, or .parquet"
              .formatted(file));
    }
    int most = limit == 0 ? MOST + 1 : limit;
    List<ObjectNode> rows =
        switch (format) {
          case JSON -> json(file, most);
          case PARQUET -> ParquetRows.read(file, most);
          case TEXT -> List.of(text(file));
        };
    if (rows.isEmpty()) {
      throw new InvalidInputException(file + " has no rows; give a file with some");
    }
    if (rows.size() > MOST) {
      throw new InvalidInputException(
          "%s has more than the %d rows that Sluice reads; cut it into several, or pass --limit"
              .formatted(file, MOST));
    }
    return rows;
  }

  private static ObjectNode text(Path file) {
    var text = new StringBuilder();
    try (Reader reader = TextInput.open(file, file.toString())) {
      char[] block = new char[1 << 16];
      for (int n = reader.read(block); n >= 0; n = reader.read(block)) {
        text.append(block, 0, n);
        if (text.length() > LONGEST_TEXT) {
          throw new InvalidInputException(
              "%s has more than the %d characters of one text; cut it, or write its parts as rows of a .jsonl file"
                  .formatted(file, LONGEST_TEXT));
        }
      }
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    return JsonNodeFactory.instance.objectNode().put("text", text.toString());
  }

  private static List<ObjectNode> json(Path file, int most) {
    List<ObjectNode> rows = new ArrayList<>();
    int line = 1;
    try (Reader reader = TextInput.open(file, file.toString());
        JsonParser parser = JSON.createParser(reader)) {
      boolean inArray = false;
      while (rows.size() < most) {
        JsonToken token = parser.nextToken();
        if (token == null || (inArray && token == JsonToken.END_ARRAY)) {
          break;
        }
        line = parser.currentTokenLocation().getLineNr();
        if (token == JsonToken.START_ARRAY && rows.isEmpty() && !inArray) {
          inArray = true;
          continue;
        }
        JsonNode value = JSON.readTree(parser);
        if (!(value instanceof ObjectNode object)) {
          throw new InvalidInputException(
              "%s: line %d holds no JSON object; write one object a line".formatted(file, line));
        }
        rows.add(object);
      }
    } catch (StreamConstraintsException e) {
      throw new InvalidInputException(
          "%s: the object in line %d is too deep, or a text or number in it too long; shorten it"
              .formatted(file, line),
          e);
    } catch (JacksonException e) {
      throw JsonFile.notJson(
          "%s: the object in line %d".formatted(file, line), "", e, "correct or remove it");
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    return rows;
  }
}
