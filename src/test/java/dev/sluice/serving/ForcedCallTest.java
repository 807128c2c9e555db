package dev.sluice.serving;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.chat.ChatFormat;
import dev.sluice.generation.Choice;
import dev.sluice.generation.Restriction;
import dev.sluice.generation.Sampler;
import dev.sluice.schema.JsonSchema;
import dev.sluice.schema.JsonState;
import dev.sluice.template.ChatTemplates;
import dev.sluice.tokenizer.Tokenizer;
import dev.sluice.tokenizer.Tokenizers;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
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

  private static float[] allowed(Restriction restriction, int tokens) {
    float[] logits = new float[tokens];
    restriction.restrict(logits);
    return logits;
  }

  /// Whatever the model wants, there is a name of a tool, and an end behind the call alone.
  @Test
  void aCallWithTagsHasANameAndAnEnd() {
    Tokenizer tokenizer = Tokenizers.load("samples/tiny-chat");
    var templates =
        ChatTemplates.of(
            "here", "{% for t in tools %}<function={{ t }}>{% endfor %}{{ messages }}", Map.of());
    int end = tokenizer.controlTokens().get("<|im_end|>");
    var model =
        new ServedModel(
            "tiny",
            "test",
            tokenizer,
            new ChatFormat(templates, tokenizer),
            tokenizer::encode,
            Set.of(),
            Set.of(end),
            new Choice(Sampler.GREEDY),
            FilesInPlace.NONE);
    var tools = List.of(tool("add", "{}"), tool("add_all", "{}"));
    var restriction = ForcedCall.of(tools, model).get();
    int size = TinyModel.VOCABULARY;
    var written = new StringBuilder();
    for (String text : List.of("<tool_call>\n<function=", "add")) {
      for (int token : tokenizer.encode(text)) {
        assertEquals(0, allowed(restriction, size)[token]);
        restriction.chosen(token);
        written.append(model.text(token));
      }
    }
    var names = new StringBuilder();
    float[] logits = allowed(restriction, size);
    for (int token = 0; token < size; token++) {
      if (Float.isFinite(logits[token])) {
        names.append(model.text(token).charAt(0));
      }
    }
    assertEquals(Set.of('>', '_'), characters(names));
    int next = tokenizer.encode("_")[0];
    restriction.chosen(next);
    written.append(model.text(next));
    while (written.charAt(written.length() - 1) != '\n') {
      logits = allowed(restriction, size);
      for (next = 0; !Float.isFinite(logits[next]); next++) {}
      restriction.chosen(next);
      written.append(model.text(next));
    }
    assertEquals("<tool_call>\n<function=add_all>\n", written.toString());
    for (int token :
        tokenizer.encode("<parameter=a>\n</tool_call>\n</parameter>\n</function>\n</tool_call>")) {
      logits = allowed(restriction, size);
      assertEquals(Float.NEGATIVE_INFINITY, logits[end]);
      assertEquals(0, logits[token]);
      restriction.chosen(token);
    }
    float[] last = new float[size];
    Arrays.fill(last, Float.NEGATIVE_INFINITY);
    last[end] = 0;
    assertArrayEquals(last, allowed(restriction, size));
  }

  private static Set<Character> characters(CharSequence text) {
    return text.chars().mapToObj(c -> (char) c).collect(Collectors.toSet());
  }
}
