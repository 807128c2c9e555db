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
      return MAPPER.readTree(text);
    } catch (JacksonException e) {
      throw ApiException.invalid(
          param,
          "%s is not valid JSON: %s"
              .formatted(param == null ? "the body" : param, JsonFile.problem(text, e)));
    }
  }
}
