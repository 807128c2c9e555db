package dev.sluice.serving;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.schema.JsonSchema;
import dev.sluice.schema.JsonState;
import java.nio.charset.StandardCharsets;
import java.util.List;
import org.junit.jupiter.api.Test;
import tools.jackson.databind.json.JsonMapper;

class ForcedCallTest {
  private static Tool tool(String name, String parameters) {
    return Tool.function(name, "", JsonMapper.shared().readTree(parameters));
  }

  private static boolean allows(List<Tool> tools, String name, String arguments) {
    String call = "{\"name\": \"%s\", \"arguments\": %s}".formatted(name, arguments);
    return JsonState.start(JsonSchema.of("tools", ForcedCall.schema(tools)))
        .after(call.getBytes(StandardCharsets.UTF_8))
        .isComplete();
  }

  /// The schema of a tool is a document of its own, wherever it is put.
  @Test
  void referencesOfToolsStayTheirOwn() {
    var tools =
        List.of(
            tool(
                "tree",
                """
                {"type": "object",
                 "properties": {"v": {"type": "boolean"}, "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
                 "required": ["v", "next"], "additionalProperties": false}
                """),
            tool(
                "pair",
                """
                {"type": "object",
                 "$defs": {"B": {"enum": ["b"]}},
                 "definitions": {"C": {"enum": ["c"]}},
                 "properties": {"v": {"$ref": "#/$defs/B"}, "w": {"$ref": "#/definitions/C"},
                   "x": {"$ref": "#/properties/w"}, "$ref": {"const": {"$ref": "#/y"}}},
                 "required": ["v", "w", "x", "$ref"], "additionalProperties": false}
                """),
            tool("root", "{\"$ref\": \"#/$defs/B\", \"$defs\": {\"B\": {\"type\": \"object\"}}}"));
    assertTrue(allows(tools, "tree", "{\"v\": true, \"next\": {\"v\": false, \"next\": null}}"));
    assertFalse(
        allows(
            tools,
            "tree",
            "{\"v\": true, \"next\": {\"name\": \"tree\", \"arguments\": {\"v\": true, \"next\":"
                + " null}}}"));
    String pair = "{\"v\": \"b\", \"w\": \"c\", \"x\": \"c\", \"$ref\": {\"$ref\": \"#/y\"}}";
    assertTrue(allows(tools, "pair", pair));
    assertFalse(allows(tools, "pair", pair.replace("\"b\"", "\"c\"")));
    assertTrue(allows(tools, "root", "{\"a\": 1}"));
    assertFalse(allows(tools, "root", "1"));
    // What a tool described stays as it was.
    assertEquals(
        "#", tools.getFirst().parameters().at("/properties/next/anyOf/0/$ref").asString(""));
  }
}
