package dev.sluice.openai;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.decoder.LayerConfig;
import dev.sluice.gate.Gate;
import dev.sluice.operations.Precision;
import dev.sluice.serving.TinyModel;
import dev.sluice.state.PrefixCache;
import dev.sluice.template.ChatTemplates;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;

/// An agent that calls tools turn after turn and sends all that was said each time: of each prompt
/// only what is new is read.
class AgentLoopTest {
  private static final int TURNS = 10;
  private static final List<String> TOOLS = List.of("weather", "route");
  private static final String HEAD = "<|im_start|>assistant\n<think>\n\n</think>\n\n";

  /// Tools and their results as Qwen's templates write them; `CALL` is how an answer's calls are.
  private static final String TEMPLATE =
      """
      {%- if tools %}<|im_start|>system
      <tools>{% for tool in tools %}
      {{ tool | tojson }}{% endfor %}
      </tools><|im_end|>
      {% endif %}
      {%- for m in messages %}
      {%- if m.role == 'tool' %}
      {%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}<|im_start|>user{% endif %}
      <tool_response>
      {{ m.content }}
      </tool_response>
      {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}<|im_end|>
      {% endif %}
      {%- else %}<|im_start|>{{ m.role }}
      {{ m.content }}{% for c in m.tool_calls or [] %}CALL{% endfor %}<|im_end|>
      {% endif %}{% endfor %}
      {%- if add_generation_prompt %}HEAD{% endif %}\
      """;

  private static final String AS_JSON =
      """
      <tool_call>
      {"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}
      </tool_call>\
      """;

  private static final String AS_TAGS =
      """
      <tool_call>
      <function={{ c.function.name }}>{% for name, value in c.function.arguments.items() %}
      <parameter={{ name }}>
      {{ value }}
      </parameter>{% endfor %}
      </function>
      </tool_call>\
      """;

  @TempDir private Path directory;

  private static Stream<Arguments> agents() {
    var attention = TinyModel.attention(c -> c.with(List.of(Gate.SDPA_ELEMENTWISE)));
    var plain = List.of(attention, attention);
    var hybrid = List.of(TinyModel.deltaNet(), attention);
    return Stream.of(
        Arguments.of("plain, JSON", plain, AS_JSON),
        Arguments.of("plain, tags", plain, AS_TAGS),
        Arguments.of("hybrid, JSON", hybrid, AS_JSON),
        Arguments.of("hybrid, tags", hybrid, AS_TAGS));
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("agents")
  void onlyWhatIsNewIsRead(String name, List<LayerConfig> layers, String call) throws Exception {
    var decoder = TinyModel.open(directory.resolve("model"), Precision.BFLOAT16, layers);
    String template = TEMPLATE.replace("CALL", call).replace("HEAD", HEAD);
    try (var test = new TestServer(decoder, ChatTemplates.of("here", template, Map.of()));
        var cache = new PrefixCache("tiny", 1L << 28)) {
      var engine = test.engine(2, 4, cache);
      try (var server = test.server(engine, null, TestServer.limits())) {
        int head = test.tokenizer.encode(HEAD).length;
        ObjectNode request = TestServer.JSON.createObjectNode();
        ArrayNode tools = request.putArray("tools");
        TOOLS.forEach(tool -> tools.add(described(tool)));
        ArrayNode messages = request.putArray("messages");
        messages.addObject().put("role", "user").put("content", "Is there rain on the way to Rom?");
        int before = 0;
        for (int turn = 0; turn < TURNS; turn++) {
          String tool = TOOLS.get(turn % TOOLS.size());
          long read = engine.counts().promptTokens.sum();
          boolean isForced = call.equals(AS_JSON);
          request.put("max_tokens", isForced ? 300 : 8);
          if (isForced) {
            ObjectNode choice = request.putObject("tool_choice").put("type", "function");
            choice.putObject("function").put("name", tool);
          }
          var answer = test.ask(server, "/v1/chat/completions", request.toString());
          int prompt = answer.at("/usage/prompt_tokens").asInt();
          int cached = answer.at("/usage/prompt_tokens_details/cached_tokens").asInt();
          // All but the head that the answer took the place of.
          assertEquals(turn == 0 ? 0 : before - head, cached, name + ", turn " + turn);
          assertEquals(prompt - cached, engine.counts().promptTokens.sum() - read);
          before = prompt;
          // Random weights write no call in tags, so there it is one that a model could have made.
          var message = answer.at("/choices/0/message");
          var called = isForced ? message.path("tool_calls") : made(tool, turn);
          assertEquals(tool, called.at("/0/function/name").asString(), answer::toString);
          ObjectNode said = messages.addObject().put("role", "assistant").put("content", "");
          said.set("tool_calls", called);
          messages
              .addObject()
              .put("role", "tool")
              .put("tool_call_id", called.at("/0/id").asString())
              .put("content", "sun, after " + turn + " km");
        }
        assertTrue(before > 10 * head); // the last prompt is long
        assertEquals(List.of(), List.copyOf(test.faults));
      }
    }
  }

  private static ObjectNode described(String tool) {
    ObjectNode described = TestServer.JSON.createObjectNode().put("type", "function");
    described
        .putObject("function")
        .put("name", tool)
        .set(
            "parameters",
            TestServer.JSON.readTree(
                "{\"type\":\"object\",\"properties\":{\"city\":{\"enum\":[\"Bern\",\"Rom\"]}},\"required\":[\"city\"],\"additionalProperties\":false}"));
    return described;
  }

  private static JsonNode made(String tool, int turn) {
    ArrayNode calls = TestServer.JSON.createArrayNode();
    ObjectNode call = calls.addObject().put("id", "call_" + turn).put("type", "function");
    call.putObject("function").put("name", tool).put("arguments", "{\"city\":\"Bern\"}");
    return calls;
  }
}
