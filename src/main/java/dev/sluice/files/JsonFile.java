package dev.sluice.files;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Locale;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JacksonException;
import tools.jackson.core.StreamReadConstraints;
import tools.jackson.core.StreamReadFeature;
import tools.jackson.core.TokenStreamLocation;
import tools.jackson.core.exc.StreamConstraintsException;
import tools.jackson.core.exc.UnexpectedEndOfInputException;
import tools.jackson.core.json.JsonFactory;
import tools.jackson.databind.DatabindException;
import tools.jackson.databind.DeserializationFeature;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.MapperFeature;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ObjectNode;

/// JSON files that are read at once, and what is wrong with one in words: where, and what was found
/// there. A key given twice is refused, since readers differ in which of the two they take.
public final class JsonFile {
  /// What a file of settings or counts may have.
  public static final long SMALL = 16L << 20;

  /// What a file that grows with a model or a run may have.
  public static final long LARGE = 1L << 30;

  private static final int DEEPEST = 200;
  private static final int LONGEST_NUMBER = 400;
  private static final int LONGEST_NAME = 50_000;
  private static final int BEFORE = 16;

  private static final JsonMapper MAPPER = mapper().build();

  private static final Pattern DUPLICATE = Pattern.compile("(?i)^duplicate .*\"(.*)\"$");

  private JsonFile() {}

  /// A mapper that bounds depth and refuses a key given twice and a text or a fraction where a
  /// whole number belongs, to be configured further.
  public static JsonMapper.Builder mapper() {
    return JsonMapper.builder(
            JsonFactory.builder().streamReadConstraints(constraints(Integer.MAX_VALUE)).build())
        .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
        .disable(DeserializationFeature.ACCEPT_FLOAT_AS_INT)
        .disable(MapperFeature.ALLOW_COERCION_OF_SCALARS);
  }

  /// What every parser is held to.
  ///
  /// @param longestString in characters
  public static StreamReadConstraints constraints(int longestString) {
    return StreamReadConstraints.builder()
        .maxNestingDepth(DEEPEST)
        .maxNumberLength(LONGEST_NUMBER)
        .maxNameLength(LONGEST_NAME)
        .maxStringLength(longestString)
        .build();
  }

  /// Any value.
  ///
  /// @param wayOut what the user can do, for messages: `fetch it again`
  public static JsonNode read(Path file, long most, String wayOut) {
    return read(file, RegularFile.read(file, most, wayOut), wayOut);
  }

  /// The value in the bytes of a file.
  public static JsonNode read(Path file, byte[] bytes, String wayOut) {
    String text = text(file, bytes, wayOut);
    try {
      return MAPPER.readTree(text);
    } catch (JacksonException e) {
      throw notJson(file.toString(), text, e, wayOut);
    }
  }

  /// An object.
  public static ObjectNode object(Path file, long most, String wayOut) {
    if (read(file, most, wayOut) instanceof ObjectNode object) {
      return object;
    }
    throw new InvalidInputException("%s does not hold a JSON object; %s".formatted(file, wayOut));
  }

  /// An object bound to a record.
  public static <T> T bound(Path file, long most, JsonMapper mapper, Class<T> type, String wayOut) {
    return bound(file, object(file, most, wayOut), mapper, type, wayOut);
  }

  /// An object bound to a record; a value that is missing, where the mapper minds, or of the wrong
  /// kind is named by where it stands.
  public static <T> T bound(
      Path file, ObjectNode object, JsonMapper mapper, Class<T> type, String wayOut) {
    try {
      return mapper.treeToValue(object, type);
    } catch (JacksonException e) {
      if (e.getCause() instanceof InvalidInputException cause) {
        throw new InvalidInputException(file + ": " + cause.getMessage(), cause);
      }
      throw new InvalidInputException(
          "%s has %s%s; %s"
              .formatted(
                  file,
                  isMissing(object, e) ? "no value" : "a value of the wrong kind",
                  place(e),
                  wayOut),
          e);
    }
  }

  /// Whether nothing stands where a value could not be bound.
  private static boolean isMissing(JsonNode at, JacksonException e) {
    for (var step : e.getPath()) {
      String name = step.getPropertyName();
      at = name == null ? at.path(step.getIndex()) : at.path(name);
    }
    return at.isMissingNode();
  }

  /// ` at guard.losses[3]`, as the path of a value that could not be bound.
  private static String place(JacksonException e) {
    var place = new StringBuilder();
    for (var step : e.getPath()) {
      String name = step.getPropertyName();
      if (name == null) {
        place.append('[').append(step.getIndex()).append(']');
      } else {
        place.append(place.isEmpty() ? "" : ".").append(name);
      }
    }
    return place.isEmpty() ? "" : " at " + place;
  }

  private static String text(Path file, byte[] bytes, String wayOut) {
    try {
      return StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString();
    } catch (CharacterCodingException e) {
      throw new InvalidInputException(
          "%s is not UTF-8 text, so it is not JSON; %s".formatted(file, wayOut), e);
    }
  }

  /// What a parser has against a text.
  ///
  /// @param name of the file, or of the place in it, which the sentence begins with
  public static InvalidInputException notJson(
      String name, String text, JacksonException e, String wayOut) {
    return notJson(name, text, 0, e, wayOut);
  }

  /// What a parser has against a text of which only a part is at hand; see [#problem].
  public static InvalidInputException notJson(
      String name, String part, long start, JacksonException e, String wayOut) {
    return new InvalidInputException(
        "%s is not valid JSON: %s; %s".formatted(name, problem(part, start, e), wayOut), e);
  }

  /// What is wrong and where, as words of a sentence.
  public static String problem(String text, JacksonException e) {
    return problem(text, 0, e);
  }

  /// What is wrong and where in a text of which only a part is at hand, such as one that is
  /// streamed.
  ///
  /// @param start how many characters stand before the part
  public static String problem(String part, long start, JacksonException e) {
    String where = where(part, start, e.getLocation());
    var duplicate = DUPLICATE.matcher(String.valueOf(e.getOriginalMessage()));
    if (duplicate.matches()) {
      return "the key '%s' is given twice (%s)".formatted(duplicate.group(1), where);
    }
    return switch (e) {
      case StreamConstraintsException _ -> beyond(e.getOriginalMessage()) + " (" + where + ")";
      case UnexpectedEndOfInputException _ -> "it ends within a value (%s)".formatted(where);
      case DatabindException _ -> "a value does not fit (%s)".formatted(where);
      default -> where;
    };
  }

  /// Which of the bounds of [#constraints] was passed; only the message knows.
  private static String beyond(@Nullable String message) {
    String text = String.valueOf(message).toLowerCase(Locale.ROOT);
    if (text.contains("nesting depth")) {
      return "it is nested deeper than %d levels".formatted(DEEPEST);
    }
    if (text.contains("number")) {
      return "it holds a number of more than %d digits".formatted(LONGEST_NUMBER);
    }
    return text.contains("name")
        ? "it holds a key of more than %d characters".formatted(LONGEST_NAME)
        : "it holds too long a string";
  }

  private static String where(String part, long start, TokenStreamLocation location) {
    if (location == null || (location.getCharOffset() < 0 && location.getLineNr() < 1)) {
      return "somewhere in it";
    }
    // The parser says where it gave up, which is a few characters behind what it could not read.
    int at = (int) Math.clamp(location.getCharOffset() - start, 0L, (long) part.length());
    int from = Math.max(0, at - BEFORE);
    String found = part.substring(from, Math.min(part.length(), at + BEFORE / 2));
    return found.isBlank()
        ? "line %d".formatted(location.getLineNr())
        : "line %d, near '%s'"
            .formatted(
                location.getLineNr(),
                Printable.brief(found.strip().replaceAll("\\s+", " "), 2 * BEFORE));
  }
}
