package dev.sluice.openai;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.JsonNode;

/// `/v1/responses`, against `/v1/chat/completions` of the same conversation.
class ResponsesTest {
  private static final String RESPONSES = "/v1/responses";
  private static final String CHAT = "/v1/chat/completions";
  private static final String TOOL =
      "{\"type\":\"function\",%s\"name\":\"weather\",\"parameters\":{\"type\":\"object\",\"properties\":{\"city\":{\"enum\":[\"Bern\",\"Rom\"]}},"
          + "\"required\":[\"city\"],\"additionalProperties\":false}%s}";

  @TempDir private static Path directory;
  private static TestServer test;
  private static ApiServer server;

  @BeforeAll
  static void begin() throws Exception {
    test = new TestServer(directory);
    server = test.server(test.engine(6, 20, null), null, TestServer.limits());
  }

  @AfterAll
  static void end() {
    server.close();
    assertEquals(List.of(), List.copyOf(test.faults));
    test.close();
  }

  private static JsonNode respond(String body) throws Exception {
    return test.ask(server, RESPONSES, body);
  }

  private static String chat(String messages, String more) throws Exception {
    return test.ask(server, CHAT, "{\"messages\":%s%s}".formatted(messages, more))
        .at("/choices/0/message/content")
        .asString();
  }

  private static String text(JsonNode response) {
    return response.at("/output/0/content/0/text").asString();
  }

  @Test
  void theSameConversationHasTheSameAnswer() throws Exception {
    var response = respond("{\"model\":\"any\",\"input\":\"the whale\",\"store\":true}");
    assertEquals("response", response.path("object").asString());
    assertEquals(chat("[{\"role\":\"user\",\"content\":\"the whale\"}]", ""), text(response));
    assertEquals("output_text", response.at("/output/0/content/0/type").asString());
    assertFalse(response.path("store").asBoolean(true));
    var usage = response.path("usage");
    boolean isCut = usage.path("output_tokens").asInt() == 24;
    assertEquals(isCut ? "incomplete" : "completed", response.path("status").asString());
    assertEquals(
        isCut ? "max_output_tokens" : "", response.at("/incomplete_details/reason").asString(""));
    assertEquals(
        usage.path("input_tokens").asInt() + usage.path("output_tokens").asInt(),
        usage.path("total_tokens").asInt());

    // Thoughts, text and calls of one answer are one message.
    String items =
        """
        {"instructions":"be brief","input":[
          {"role":"developer","content":"and kind"},
          {"type":"message","role":"user","content":[{"type":"input_text","text":"rain?"}]},
          {"type":"reasoning","id":"rs_1","summary":[],"content":[{"type":"reasoning_text","text":"hm"}]},
          {"type":"message","id":"msg_1","status":"completed","role":"assistant",
           "content":[{"type":"output_text","text":"I ask.","annotations":[],"logprobs":[]}]},
          {"type":"function_call","id":"fc_1","call_id":"c1","name":"weather","arguments":"{\\"city\\":\\"Rom\\"}","status":"completed"},
          {"type":"function_call_output","call_id":"c1","output":"sun"},
          {"role":"user","content":"and?"}]}\
        """;
    String messages =
        """
        [{"role":"system","content":"be brief\\n\\nand kind"},
         {"role":"user","content":"rain?"},
         {"role":"assistant","content":"I ask.","reasoning_content":"hm","tool_calls":[
           {"id":"c1","type":"function","function":{"name":"weather","arguments":"{\\"city\\":\\"Rom\\"}"}}]},
         {"role":"tool","tool_call_id":"c1","content":"sun"},
         {"role":"user","content":"and?"}]\
        """;
    var second = respond(items);
    assertEquals(chat(messages, ""), text(second));
    assertEquals("be brief", second.path("instructions").asString());
  }

  /// The events of a stream, whose names and numbers fit.
  private static List<JsonNode> stream(String body) throws Exception {
    var answer = test.post(server, RESPONSES, body);
    assertEquals(200, answer.statusCode(), answer::body);
    var events = new ArrayList<JsonNode>();
    for (String event : answer.body().split("\n\n")) {
      if (event.startsWith(": ping")) {
        continue;
      }
      String[] lines = event.split("\n");
      var data = TestServer.JSON.readTree(lines[1].substring("data: ".length()));
      assertEquals("event: " + data.path("type").asString(), lines[0]);
      assertEquals(events.size(), data.path("sequence_number").asInt(-1));
      events.add(data);
    }
    return events;
  }

  private static String joined(List<JsonNode> events, String type) {
    var text = new StringBuilder();
    events.stream()
        .filter(event -> event.path("type").asString().equals(type))
        .forEach(event -> text.append(event.path("delta").asString()));
    return text.toString();
  }

  @Test
  void aStreamTellsTheSameAsTheWhole() throws Exception {
    for (String more :
        List.of(
            "",
            ",\"chat_template_kwargs\":{\"enable_thinking\":true},\"max_output_tokens\":60,\"temperature\":1,\"seed\":3,\"logit_bias\":{\"388\":5}",
            ",\"tool_choice\":\"required\",\"max_output_tokens\":300,\"tools\":[%s]"
                .formatted(TOOL.formatted("", "")))) {
      String body = "{\"input\":\"the whale\"" + more;
      var whole = respond(body + "}");
      var events = stream(body + ",\"stream\":true}");
      var types = events.stream().map(event -> event.path("type").asString()).toList();
      assertEquals("response.created", types.getFirst());
      assertEquals("response.in_progress", types.get(1));
      var last = events.getLast().path("response");
      assertEquals("response." + last.path("status").asString(), types.getLast());
      assertEquals(unnamed(whole.path("output")), unnamed(last.path("output")));
      assertEquals(whole.path("usage"), last.path("usage"));
      var items =
          events.stream()
              .filter(event -> event.path("type").asString().equals("response.output_item.done"))
              .map(event -> event.path("item"))
              .toList();
      assertEquals(last.path("output").size(), items.size());
      for (int i = 0; i < items.size(); i++) {
        assertEquals(last.path("output").get(i), items.get(i));
        var item = items.get(i);
        switch (item.path("type").asString()) {
          case "message" ->
              assertEquals(
                  item.at("/content/0/text").asString(),
                  joined(events, "response.output_text.delta"));
          case "reasoning" ->
              assertEquals(
                  item.at("/content/0/text").asString(),
                  joined(events, "response.reasoning_text.delta"));
          default ->
              assertEquals(
                  item.path("arguments").asString(),
                  joined(events, "response.function_call_arguments.delta"));
        }
      }
    }
  }

  /// Without what differs from answer to answer.
  private static String unnamed(JsonNode output) {
    return output.toString().replaceAll("\\d+x\\d+", "");
  }

  @Test
  void toolsAndSchemasAreFollowed() throws Exception {
    var called =
        respond(
            "{\"input\":\"rain?\",\"tools\":[%s],\"tool_choice\":{\"type\":\"function\",\"name\":\"weather\"},\"max_output_tokens\":300}"
                .formatted(TOOL.formatted("\"strict\":true,", "")));
    var call = called.at("/output/0");
    assertEquals("function_call", call.path("type").asString(), called::toString);
    assertEquals("weather", call.path("name").asString());
    assertTrue(
        Set.of("Bern", "Rom")
            .contains(
                TestServer.JSON
                    .readTree(call.path("arguments").asString())
                    .path("city")
                    .asString()));
    // Templates get a tool in the form that they know from chats.
    String nested = TOOL.replace("\"name\"", "\"function\":{\"name\"").formatted("", "}");
    assertEquals(
        chat("[{\"role\":\"user\",\"content\":\"rain?\"}]", ",\"tools\":[%s]".formatted(nested)),
        text(respond("{\"input\":\"rain?\",\"tools\":[%s]}".formatted(TOOL.formatted("", "")))));
    var shaped =
        respond(
            "{\"input\":\"a\",\"max_output_tokens\":200,\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":\"n\",\"strict\":true,\"schema\":{\"type\":\"object\",\"properties\":{\"b\":{\"type\":\"boolean\"}},\"required\":[\"b\"],\"additionalProperties\":false}}}}");
    assertTrue(TestServer.JSON.readTree(text(shaped)).path("b").isBoolean(), shaped::toString);
  }

  @Test
  void whatIsWrongIsNamed() throws Exception {
    String[][] wrong = {
      {"{}", "input"},
      {"{\"input\":[]}", "input"},
      {"{\"input\":7}", "input"},
      {"{\"input\":[{\"content\":\"a\"}]}", "input[0].role"},
      {"{\"input\":[{\"type\":\"item_reference\",\"id\":\"a\"}]}", "input[0].type"},
      {"{\"input\":[{\"type\":\"web_search_call\"}]}", "input[0].type"},
      {
        "{\"input\":[{\"type\":\"function_call_output\",\"call_id\":\"c\",\"output\":\"a\"}]}",
        "input[0].call_id"
      },
      {
        "{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_image\"}]}]}",
        "input[0].content[0].type"
      },
      {
        "{\"input\":[{\"type\":\"function_call\",\"name\":\"a\",\"arguments\":\"{}\"}]}",
        "input[0].call_id"
      },
      {
        "{\"input\":[{\"type\":\"function_call\",\"call_id\":\"a\",\"name\":\"a\",\"arguments\":\"[\"}]}",
        "input[0].arguments"
      },
      {"{\"input\":\"a\",\"previous_response_id\":\"resp_1\"}", "previous_response_id"},
      {"{\"input\":\"a\",\"conversation\":\"c\"}", "conversation"},
      {"{\"input\":\"a\",\"background\":true}", "background"},
      {"{\"input\":\"a\",\"truncation\":\"auto\"}", "truncation"},
      {"{\"input\":\"a\",\"include\":[\"file_search_call.results\"]}", "include"},
      {"{\"input\":\"a\",\"max_output_tokens\":0}", "max_output_tokens"},
      {"{\"input\":\"a\",\"max_tokens\":3}", "max_tokens"},
      {"{\"input\":\"a\",\"n\":2}", "n"},
      {"{\"input\":\"a\",\"sluice_watch\":true}", "sluice_watch"},
      {"{\"input\":\"a\",\"tools\":[{\"type\":\"web_search\"}]}", "tools[0].type"},
      {"{\"input\":\"a\",\"tools\":[{\"type\":\"function\",\"name\":\"a b\"}]}", "tools[0].name"},
      {
        "{\"input\":\"a\",\"tool_choice\":{\"type\":\"function\",\"name\":\"f\"}}",
        "tool_choice.name"
      },
      {
        "{\"input\":\"a\",\"text\":{\"format\":{\"type\":\"json_schema\",\"schema\":{\"not\":{}}}}}",
        "text.format.schema"
      },
      {"{\"input\":\"a\",\"text\":{\"format\":{\"type\":\"yaml\"}}}", "text.format.type"},
      {"{\"input\":\"a\",\"text\":{\"colour\":1}}", "text.colour"},
      {"{\"input\":\"a\",\"reasoning\":{\"depth\":1}}", "reasoning.depth"},
      {"{\"input\":\"a\",\"nonsense\":1}", "nonsense"},
    };
    for (String[] each : wrong) {
      var answer = test.post(server, RESPONSES, each[0]);
      assertEquals(400, answer.statusCode(), () -> each[0] + answer.body());
      var error = TestServer.JSON.readTree(answer.body()).path("error");
      assertEquals(each[1], error.path("param").asString("null"), () -> each[0] + error);
    }
    var noted =
        test.post(
            server,
            RESPONSES,
            "{\"input\":\"a\",\"store\":true,\"include\":[\"reasoning.encrypted_content\"],\"reasoning\":{\"summary\":\"auto\",\"effort\":\"low\"},\"text\":{\"verbosity\":\"low\"}}");
    assertEquals(
        "include, reasoning.summary, store, text.verbosity",
        noted.headers().firstValue("Sluice-Ignored").orElse(""));
    assertEquals(405, test.get(server, RESPONSES).statusCode());
  }
}
