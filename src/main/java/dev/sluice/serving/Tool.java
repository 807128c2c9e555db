package dev.sluice.serving;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import java.util.regex.Pattern;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.JsonNodeFactory;
import tools.jackson.databind.node.ObjectNode;

/// A tool that a model may call.
///
/// @param parameters a JSON Schema of its arguments
/// @param described what chat templates are given: `{"type": "function", "function": {"name", …}}`
public record Tool(String name, JsonNode parameters, JsonNode described) {
  /// What [#isName] wants, for messages.
  public static final String NAMES = "1 to 64 letters, digits, underscores, dots or dashes";

  private static final Pattern NAME = Pattern.compile("[a-zA-Z0-9_.-]{1,64}");

  public Tool {
    if (!isName(name)) {
      throw new InvalidInputException(
          "a tool's name must be %s, not %s".formatted(NAMES, Printable.brief(name, 80)));
    }
  }

  /// Whether a tool may have this name.
  public static boolean isName(String name) {
    return NAME.matcher(name).matches();
  }

  /// A function.
  ///
  /// @param parameters a JSON Schema of its arguments, an object
  public static Tool function(String name, String description, JsonNode parameters) {
    ObjectNode described = JsonNodeFactory.instance.objectNode().put("type", "function");
    described
        .putObject("function")
        .put("name", name)
        .put("description", description)
        .set("parameters", parameters);
    return new Tool(name, parameters, described);
  }
}
