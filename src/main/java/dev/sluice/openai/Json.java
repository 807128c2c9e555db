package dev.sluice.openai;

import dev.sluice.files.JsonFile;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/// JSON that clients send and get.
final class Json {
  /// With limits of depth and of the length of numbers; a key given twice is refused.
  static final JsonMapper MAPPER = JsonFile.mapper().build();

  private Json() {}

  /// A value in a text.
  ///
  /// @param param the place of the text in the request; null for the body
  static JsonNode parsed(@Nullable String param, String text) {
    try {
      return requireWhole(param, MAPPER.readTree(text));
    } catch (JacksonException e) {
      throw ApiException.invalid(
          param,
          "%s is not valid JSON: %s"
              .formatted(param == null ? "the body" : param, JsonFile.problem(text, e)));
    }
  }

  /// Refuses texts that no encoding has: an escape may be half of a character.
  private static JsonNode requireWhole(@Nullable String param, JsonNode value) {
    if (value.isString() && value.stringValue().codePoints().anyMatch(Json::isHalf)) {
      throw ApiException.invalid(
          param, "a text has \\u escapes of half a character, a surrogate without its other half");
    }
    for (var member : value.properties()) {
      if (member.getKey().codePoints().anyMatch(Json::isHalf)) {
        throw ApiException.invalid(
            param,
            "a name has \\u escapes of half a character, a surrogate without its other half");
      }
    }
    value.forEach(part -> requireWhole(param, part));
    return value;
  }

  private static boolean isHalf(int codePoint) {
    return codePoint >= Character.MIN_SURROGATE && codePoint <= Character.MAX_SURROGATE;
  }
}
