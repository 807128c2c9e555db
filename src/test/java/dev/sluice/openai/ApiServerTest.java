package dev.sluice.openai;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.chat.ChatFormat;
import dev.sluice.generation.Choice;
import dev.sluice.generation.Generator;
import dev.sluice.generation.Prompt;
import dev.sluice.generation.Sampler;
import dev.sluice.serving.Engine;
import dev.sluice.serving.FilesInPlace;
import dev.sluice.serving.ServedModel;
import dev.sluice.state.PrefixCache;
import dev.sluice.state.PrefixCache.Reuse;
import dev.sluice.template.ChatTemplates;
import dev.sluice.template.Conversation;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.time.LocalDateTime;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executors;
import javax.management.JMException;
import javax.management.ObjectName;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.JsonNode;

/// Requests over HTTP to a model that answers nonsense.
class ApiServerTest {
  private static final String CHAT = "/v1/chat/completions";
  private static final String COMPLETIONS = "/v1/completions";
  private static final String WHALE =
      "{\"messages\":[{\"role\":\"system\",\"content\":\"be brief\"},"
          + "{\"role\":\"user\",\"content\":\"the whale and the sea\"}]";

  @TempDir private static Path directory;
  private static TestServer test;
  private static PrefixCache cache;
  private static Engine engine;
  private static ApiServer server;

  @BeforeAll
  static void begin() throws IOException {
    test = new TestServer(directory);
    cache = new PrefixCache("tiny", 1L << 26);
    engine = test.engine(6, 20, cache);
    server = test.server(engine, null, TestServer.limits());
  }

  @AfterAll
  static void end() {
    server.close();
    cache.close();
    test.close();
  }

  @AfterEach
  void nothingIsLeft() throws InterruptedException {
    expectEmpty(engine);
    assertEquals(List.of(), List.copyOf(test.faults));
  }

  private static void expectEmpty(Engine used) throws InterruptedException {
    for (int i = 0; i < 2000 && (used.usedSlots() > 0 || used.waiting() > 0); i++) {
      Thread.sleep(5);
    }
    assertEquals(0, used.usedSlots());
    assertEquals(0, used.usedBytes());
    assertEquals(0, used.waiting());
  }

  /// A body with more fields.
  private static String with(String begun, String... fields) {
    return fields.length == 0 ? begun + "}" : begun + "," + String.join(",", fields) + "}";
  }

  private static String content(JsonNode answer) {
    return answer.path("choices").path(0).path("message").path("content").asString();
  }

  /// What a stream says in its pieces.
  private static String streamed(List<JsonNode> events, int index, String field) {
    var text = new StringBuilder();
    for (var event : events) {
      for (var choice : event.path("choices")) {
        if (choice.path("index").asInt() == index) {
          text.append(choice.path("delta").path(field).asString(""));
        }
      }
    }
    return text.toString();
  }

  /// The text by [Generator] alone.
  private static String alone(String... messages) {
    List<Map<String, Object>> all = new ArrayList<>();
    for (int i = 0; i < messages.length; i += 2) {
      all.add(Map.of("role", messages[i], "content", messages[i + 1]));
    }
    var conversation =
        new Conversation(
            new ArrayList<>(all), null, Conversation.Ending.GENERATION_PROMPT, Map.of());
    var prompt = test.format.prompt(conversation, LocalDateTime.MIN);
    int[] ids =
        new Generator(test.decoder, 64)
            .generate(
                new Prompt(prompt.ids(), prompt.turnStarts(), null, Reuse.EXACT),
                new Choice(Sampler.GREEDY),
                24,
                Set.of(384, 386),
                1,
                (_, _, _) -> true)
            .getFirst()
            .ids();
    return test.tokenizer.decode(ids).strip();
  }

  @Test
  void anAnswerIsTheTextThatTheModelWritesAlone() throws Exception {
    String asked = "{\"messages\":[{\"role\":\"user\",\"content\":\"so it was the whale\"}]";
    var first = test.ask(server, CHAT, with(asked));
    assertEquals(alone("user", "so it was the whale"), content(first).strip());
    var usage = first.path("usage");
    assertEquals(0, usage.path("prompt_tokens_details").path("cached_tokens").asInt());
    assertEquals("chat.completion", first.path("object").asString());
    assertEquals("tiny/model", first.path("model").asString());
    int prompt = usage.path("prompt_tokens").asInt();
    int tokens = usage.path("completion_tokens").asInt();
    assertEquals(prompt + tokens, usage.path("total_tokens").asInt());
    assertEquals(tokens == 24 ? "length" : "stop", ending(first));

    var again = test.ask(server, CHAT, with(asked));
    assertEquals(
        prompt - 1,
        again.path("usage").path("prompt_tokens_details").path("cached_tokens").asInt());
    assertEquals(content(first), content(again));

    var events =
        test.stream(
            server,
            CHAT,
            with(asked, "\"stream\":true", "\"stream_options\":{\"include_usage\":true}"));
    assertEquals(content(first), streamed(events, 0, "content"));
    assertEquals("assistant", events.getFirst().at("/choices/0/delta/role").asString());
    var last = events.getLast();
    assertTrue(last.path("choices").isEmpty());
    assertEquals(tokens, last.path("usage").path("completion_tokens").asInt());
    var closing = events.get(events.size() - 2).at("/choices/0");
    assertEquals(ending(first), closing.path("finish_reason").asString());
    for (var event : events.subList(0, events.size() - 2)) {
      assertTrue(event.at("/choices/0/finish_reason").isNull(), event::toString);
      assertEquals(events.getFirst().path("id"), event.path("id"));
    }
  }

  private static String ending(JsonNode answer) {
    return answer.at("/choices/0/finish_reason").asString();
  }

  /// Eight at the same time, streamed and whole, greedy: each is what it is alone. With a seed a
  /// drawn text is the same beside others, too.
  @Test
  void manyAtTheSameTimeAreWhatTheyAreAlone() throws Exception {
    String drawn = with(WHALE, "\"temperature\":1.5", "\"seed\":7", "\"n\":2");
    var before = test.ask(server, CHAT, drawn).path("choices");
    assertNotEquals(
        before.at("/0/message/content").asString(), before.at("/1/message/content").asString());
    try (var threads = Executors.newVirtualThreadPerTaskExecutor()) {
      var texts = new ArrayList<CompletableFuture<String>>();
      for (int i = 0; i < 8; i++) {
        int number = i;
        texts.add(
            CompletableFuture.supplyAsync(
                () -> {
                  String body =
                      "{\"messages\":[{\"role\":\"user\",\"content\":\"whale %s\"}]"
                          .formatted("sea ".repeat(number));
                  try {
                    return number % 2 == 0
                        ? content(test.ask(server, CHAT, with(body)))
                        : streamed(
                            test.stream(server, CHAT, with(body, "\"stream\":true")), 0, "content");
                  } catch (IOException | InterruptedException e) {
                    throw new IllegalStateException(e);
                  }
                },
                threads));
      }
      assertEquals(before, test.ask(server, CHAT, drawn).path("choices"));
      for (int i = 0; i < texts.size(); i++) {
        assertEquals(
            alone("user", "whale " + "sea ".repeat(i)), texts.get(i).get().strip(), "request " + i);
      }
    }
  }

  @Test
  void plainTextsGoOn() throws Exception {
    String begun = "{\"prompt\":\"the whale\",\"max_tokens\":9";
    var one = test.ask(server, COMPLETIONS, with(begun));
    String text = one.at("/choices/0/text").asString();
    assertEquals("text_completion", one.path("object").asString());
    var tokens = JsonText.of(test.tokenizer.encode("the whale"));
    var others =
        test.ask(
            server,
            COMPLETIONS,
            with(
                "{\"prompt\":[%s,%s],\"max_tokens\":9".formatted(tokens, tokens),
                "\"echo\":true",
                "\"n\":2"));
    assertEquals(4, others.path("choices").size());
    for (var choice : others.path("choices")) {
      assertEquals("the whale" + text, choice.path("text").asString());
    }
    assertEquals(
        2 * one.at("/usage/prompt_tokens").asInt(), others.at("/usage/prompt_tokens").asInt());
    var streamed = new StringBuilder();
    test.stream(server, COMPLETIONS, with(begun, "\"stream\":true"))
        .forEach(event -> streamed.append(event.at("/choices/0/text").asString()));
    assertEquals(text, streamed.toString());
    // Up to a stop string, which is no part of it.
    String stop = text.strip().substring(1, 3);
    var stopped =
        test.ask(server, COMPLETIONS, with(begun, "\"stop\":%s".formatted(JsonText.of(stop))));
    assertEquals(text.substring(0, text.indexOf(stop)), stopped.at("/choices/0/text").asString());
    assertEquals("stop", ending(stopped));
  }

  /// Whoever gives a prompt several times wants several texts; with a seed they are the same.
  @Test
  void equalPromptsAreDrawnForApart() throws Exception {
    String body = "{\"prompt\":[\"a\",\"a\",\"a\"],\"max_tokens\":12,\"temperature\":2,\"n\":2";
    assertEquals(6, texts(test.ask(server, COMPLETIONS, with(body))).size());
    assertEquals(2, texts(test.ask(server, COMPLETIONS, with(body, "\"seed\":3"))).size());
  }

  private static Set<String> texts(JsonNode answer) {
    var texts = new HashSet<String>();
    answer.path("choices").forEach(choice -> texts.add(choice.path("text").asString()));
    return texts;
  }

  @Test
  void whatClientsMeanByLimitsIsUnderstood() throws Exception {
    String begun = "{\"prompt\":\"a\",\"temperature\":5,\"max_tokens\":20";
    var greedy = test.ask(server, COMPLETIONS, begun.replace("5", "0") + "}");
    var likeliest = test.ask(server, COMPLETIONS, with(begun, "\"top_p\":0"));
    assertEquals(greedy.at("/choices/0/text"), likeliest.at("/choices/0/text"));
    var other = test.engine(1, 2, 64, null);
    try (var small = test.server(test.endlessModel(), other, null, TestServer.limits())) {
      var most = test.ask(small, COMPLETIONS, "{\"prompt\":\"a\",\"max_tokens\":-1}");
      assertEquals(64, most.at("/usage/total_tokens").asInt());
    }
  }

  @Test
  void tokensHaveLogProbabilities() throws Exception {
    String body = with(WHALE, "\"logprobs\":true", "\"top_logprobs\":2", "\"max_tokens\":3");
    var content = test.ask(server, CHAT, body).at("/choices/0/logprobs/content");
    assertEquals(3, content.size());
    for (var token : content) {
      assertEquals(2, token.path("top_logprobs").size());
      assertEquals(token.path("logprob"), token.at("/top_logprobs/0/logprob"));
      assertTrue(token.path("logprob").asDouble() < 0);
      assertFalse(token.path("bytes").isEmpty());
    }
    var streamed = TestServer.JSON.createArrayNode();
    for (var event : test.stream(server, CHAT, body.replace("}]", "}],\"stream\":true"))) {
      event.at("/choices/0/logprobs/content").forEach(streamed::add);
    }
    assertEquals(content, streamed);
    var plain =
        test.ask(server, COMPLETIONS, "{\"prompt\":\"a\",\"logprobs\":1,\"max_tokens\":2}")
            .at("/choices/0/logprobs");
    assertEquals(2, plain.path("token_logprobs").size());
    assertEquals(
        List.of(2, 1), List.of(plain.path("tokens").size(), plain.at("/top_logprobs/0").size()));
    // Parts of characters have a name each, and so the number of their own.
    var parts =
        test.ask(
                server,
                COMPLETIONS,
                "{\"prompt\":\"a\",\"logprobs\":20,\"max_tokens\":40,\"temperature\":9,\"seed\":5}")
            .at("/choices/0/logprobs");
    boolean isPart = false;
    for (int i = 0; i < parts.path("tokens").size(); i++) {
      var likeliest = parts.path("top_logprobs").path(i);
      String name = parts.path("tokens").path(i).asString();
      assertFalse(likeliest.has("\uFFFD"), likeliest::toString);
      assertEquals(parts.path("token_logprobs").path(i), likeliest.path(name), name);
      isPart |= name.matches("bytes:(\\\\x[0-9a-f]{2})+");
    }
    assertTrue(isPart, parts::toString);
    // A token that may not come.
    int first = test.tokenizer.encode(content.get(0).path("token").asString())[0];
    var banned =
        test.ask(server, CHAT, with(WHALE, "\"logit_bias\":{\"%d\":-100}".formatted(first)));
    assertNotEquals(content(test.ask(server, CHAT, with(WHALE))), content(banned));
  }

  /// Layer 0 of the model has no attention.
  @Test
  void aWatchedAnswerIsTheSameAndTellsWhatWasSeen() throws Exception {
    String watch = "\"sluice_watch\":true";
    var plain = test.ask(server, CHAT, with(WHALE, "\"n\":2", "\"temperature\":1", "\"seed\":4"));
    String body = with(WHALE, "\"n\":2", "\"temperature\":1", "\"seed\":4", watch);
    var watched = test.ask(server, CHAT, body).path("choices");
    int tokens = 0;
    for (int i = 0; i < 2; i++) {
      var choice = watched.get(i);
      assertEquals(plain.at("/choices/" + i + "/message"), choice.path("message"));
      for (var token : choice.path("sluice_watch")) {
        tokens++;
        assertTrue(token.path("token").isString());
        for (var values :
            List.of(token.path("first_token_attention"), token.at("/gate_scores/sdpa"))) {
          assertEquals(2, values.size());
          assertTrue(values.get(0).isNull(), values::toString);
          double value = values.get(1).asDouble();
          assertTrue(value > 0 && value < 1, values::toString);
        }
      }
    }
    assertEquals(plain.at("/usage/completion_tokens").asInt(), tokens);
    assertFalse(plain.at("/choices/0").has("sluice_watch"));
    var streamed = TestServer.JSON.createArrayNode();
    for (var event : test.stream(server, CHAT, body.replace("}]", "}],\"stream\":true"))) {
      for (var choice : event.path("choices")) {
        if (choice.path("index").asInt() == 1) {
          choice.path("sluice_watch").forEach(streamed::add);
        }
      }
    }
    assertEquals(watched.get(1).path("sluice_watch"), streamed);
    var text =
        test.ask(server, COMPLETIONS, "{\"prompt\":\"a\",\"max_tokens\":3,\"sluice_watch\":true}");
    assertEquals(3, text.at("/choices/0/sluice_watch").size());
    assertTrue(
        TestServer.JSON
            .readTree(test.get(server, "/v1/models").body())
            .at("/data/0/sluice_watch")
            .asBoolean());
  }

  /// Random weights write valid JSON where they may write nothing else; thoughts come before, and
  /// end with their mark.
  @Test
  void answersFollowASchema() throws Exception {
    String schema =
        "{\"type\":\"object\",\"properties\":{\"a\":{\"enum\":[\"x\",\"y\"]},\"b\":{\"type\":\"boolean\"}},"
            + "\"required\":[\"a\",\"b\"],\"additionalProperties\":false}";
    String format =
        "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\",\"schema\":%s}}"
            .formatted(schema);
    var answer = test.ask(server, CHAT, with(WHALE, format, "\"max_tokens\":200"));
    var value = TestServer.JSON.readTree(content(answer));
    assertTrue(Set.of("x", "y").contains(value.path("a").asString()), value::toString);
    assertTrue(value.path("b").isBoolean());
    assertEquals("stop", ending(answer));
    int end = test.tokenizer.controlTokens().getOrDefault("</think>", 388);
    var thinking =
        test.ask(
            server,
            CHAT,
            with(
                WHALE,
                format,
                "\"max_tokens\":400",
                "\"temperature\":1",
                "\"seed\":3",
                "\"logit_bias\":{\"%d\":5}".formatted(end),
                "\"chat_template_kwargs\":{\"enable_thinking\":true}"));
    var message = thinking.at("/choices/0/message");
    assertFalse(message.path("reasoning_content").asString("").isEmpty(), thinking::toString);
    assertTrue(
        TestServer.JSON.readTree(message.path("content").asString()).path("b").isBoolean(),
        thinking::toString);
    assertTrue(
        thinking.at("/usage/completion_tokens_details/reasoning_tokens").asInt() > 0,
        thinking::toString);
    assertEquals(
        "{",
        content(
                test.ask(
                    server, CHAT, with(WHALE, "\"response_format\":{\"type\":\"json_object\"}")))
            .strip()
            .substring(0, 1));
  }

  @Test
  void aToolIsCalledWhereItMustBe() throws Exception {
    String tools =
        "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"weather\",\"description\":\"of"
            + " a city\",\"parameters\":{\"type\":\"object\",\"properties\":{\"city\":{\"enum\":[\"Bern\",\"Rom\"]}},"
            + "\"required\":[\"city\"],\"additionalProperties\":false}}}]";
    String forced = "\"tool_choice\":\"required\"";
    String more = "\"max_tokens\":300";
    var answer = test.ask(server, CHAT, with(WHALE, tools, forced, more));
    assertEquals("tool_calls", ending(answer));
    var call = answer.at("/choices/0/message/tool_calls/0");
    assertTrue(answer.at("/choices/0/message/content").isNull());
    assertEquals("weather", call.at("/function/name").asString());
    var arguments = TestServer.JSON.readTree(call.at("/function/arguments").asString());
    assertTrue(Set.of("Bern", "Rom").contains(arguments.path("city").asString()));
    var events = test.stream(server, CHAT, with(WHALE, tools, forced, more, "\"stream\":true"));
    var told =
        events.stream()
            .map(event -> event.at("/choices/0/delta/tool_calls/0"))
            .filter(JsonNode::isObject)
            .toList();
    assertEquals(1, told.size());
    assertEquals(call.path("function"), told.getFirst().path("function"));
    assertEquals(0, told.getFirst().path("index").asInt(-1));
    // What was called and what it gave, as agents send it back.
    String back =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":null,"
            + "\"tool_calls\":[%s]},{\"role\":\"tool\",\"tool_call_id\":%s,\"content\":\"rain\"}]"
                .formatted(call, call.path("id"));
    test.ask(server, CHAT, with(back, tools));
    String broken = back.replace("}\"}}", "\"}}");
    var refused = test.post(server, CHAT, with(broken, tools));
    assertEquals(
        "messages[1].tool_calls[0].function.arguments",
        error(refused, 400).path("param").asString());
  }

  /// Arguments between tags are text, so no schema can be followed, which is told.
  @Test
  void strictIsNamedWhereCallsHaveTags() throws Exception {
    var templates =
        ChatTemplates.of(
            "here", "{% if tools %}<function=x>{% endif %}{{ messages[0].content }}", Map.of());
    var model =
        new ServedModel(
            "tags",
            "test",
            test.tokenizer,
            new ChatFormat(templates, test.tokenizer),
            test.tokenizer::encode,
            Set.of(),
            Set.of(384),
            new Choice(Sampler.GREEDY),
            FilesInPlace.NONE);
    String function = "{\"name\":\"f\",\"strict\":%s,\"parameters\":{\"type\":\"object\"}}";
    String strict = "\"tools\":[{\"type\":\"function\",\"function\":%s}]";
    String strictFlat = "{\"input\":\"a\",\"max_output_tokens\":1,\"tools\":[%s]}";
    String one = "\"max_tokens\":1";
    try (var tags = test.server(model, test.engine(1, 4, null), null, TestServer.limits())) {
      var chat =
          test.post(tags, CHAT, with(WHALE, one, strict.formatted(function.formatted(true))));
      assertEquals(200, chat.statusCode(), chat::body);
      assertEquals(
          "tools[0].function.strict", chat.headers().firstValue("Sluice-Ignored").orElse(""));
      String flat =
          function.formatted(true).replace("{\"name\"", "{\"type\":\"function\",\"name\"");
      var response = test.post(tags, "/v1/responses", strictFlat.formatted(flat));
      assertEquals(200, response.statusCode(), response::body);
      assertEquals("tools[0].strict", response.headers().firstValue("Sluice-Ignored").orElse(""));
      var loose =
          test.post(tags, CHAT, with(WHALE, one, strict.formatted(function.formatted(false))));
      assertTrue(loose.headers().firstValue("Sluice-Ignored").isEmpty());
    }
    var json =
        test.post(server, CHAT, with(WHALE, one, strict.formatted(function.formatted(true))));
    assertEquals(200, json.statusCode(), json::body);
    assertTrue(json.headers().firstValue("Sluice-Ignored").isEmpty());
  }

  private static JsonNode error(HttpResponse<String> answer, int status) {
    assertEquals(status, answer.statusCode(), answer::body);
    return TestServer.JSON.readTree(answer.body()).path("error");
  }

  /// Each field that is wrong is named.
  @Test
  void whatIsWrongIsNamed() throws Exception {
    String[][] wrong = {
      {"{", "null"},
      {"[]", "null"},
      {"{\"messages\":[{\"role\":\"user\",\"content\":\"\\ud800 x\"}]}", "null"},
      {"{}", "messages"},
      {"{\"messages\":[]}", "messages"},
      {"{\"messages\":[1]}", "messages[0]"},
      {"{\"messages\":[{\"content\":\"a\"}]}", "messages[0].role"},
      {"{\"messages\":[{\"role\":\"king\",\"content\":\"a\"}]}", "messages[0].role"},
      {"{\"messages\":[{\"role\":\"user\"}]}", "messages[0].content"},
      {"{\"messages\":[{\"role\":\"user\",\"content\":7}]}", "messages[0].content"},
      {
        "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":1}]}]}",
        "messages[0].content[0].type"
      },
      {with(WHALE, "\"temperature\":-1"), "temperature"},
      {with(WHALE, "\"max_completion_tokens\":-2"), "max_completion_tokens"},
      {with(WHALE, "\"frequency_penalty\":-1e300"), "frequency_penalty"},
      {with(WHALE, "\"repetition_penalty\":-1"), "repetition_penalty"},
      {with(WHALE, "\"temperature\":\"hot\""), "temperature"},
      {with(WHALE, "\"temperature\":1e999"), "temperature"},
      {with(WHALE, "\"top_p\":-0.1"), "top_p"},
      {with(WHALE, "\"min_p\":2"), "min_p"},
      {with(WHALE, "\"top_k\":1.5"), "top_k"},
      {with(WHALE, "\"n\":0"), "n"},
      {with(WHALE, "\"n\":7"), "n"},
      {with(WHALE, "\"max_tokens\":0"), "max_tokens"},
      {with(WHALE, "\"max_tokens\":3", "\"max_completion_tokens\":4"), "max_tokens"},
      {with(WHALE, "\"seed\":1e30"), "seed"},
      {with(WHALE, "\"stop\":[\"\"]"), "stop"},
      {with(WHALE, "\"stop\":{}"), "stop"},
      {with(WHALE, "\"stream\":1"), "stream"},
      {with(WHALE, "\"stream_options\":{}"), "stream_options"},
      {with(WHALE, "\"logit_bias\":{\"a\":1}"), "logit_bias"},
      {with(WHALE, "\"logit_bias\":{\"7\":200}"), "logit_bias.7"},
      {with(WHALE, "\"logit_bias\":{\"4000\":1}"), "logit_bias"},
      {with(WHALE, "\"top_logprobs\":2"), "top_logprobs"},
      {with(WHALE, "\"logprobs\":true", "\"top_logprobs\":21"), "top_logprobs"},
      {with(WHALE, "\"response_format\":{\"type\":\"yaml\"}"), "response_format.type"},
      {
        with(
            WHALE,
            "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{\"not\":{}}}}"),
        "response_format.json_schema.schema"
      },
      {with(WHALE, "\"tools\":[{\"type\":\"web\"}]"), "tools[0].type"},
      {with(WHALE, "\"tool_choice\":\"required\""), "tool_choice"},
      {with(WHALE, "\"tool_choice\":\"often\""), "tool_choice"},
      {with(WHALE, "\"functions\":[]"), "functions"},
      {with(WHALE, "\"modalities\":[\"audio\"]"), "modalities"},
      {with(WHALE, "\"chat_template_kwargs\":{\"messages\":[]}"), "messages"},
      {with(WHALE, "\"sluice_watch\":1"), "sluice_watch"},
      {with(WHALE, "\"sluice_watch\":true", "\"max_tokens\":5000"), "sluice_watch"},
      {with(WHALE, "\"nonsense\":1"), "nonsense"},
    };
    for (String[] each : wrong) {
      var error = error(test.post(server, CHAT, each[0]), 400);
      assertEquals(each[1], error.path("param").asString("null"), () -> each[0] + error);
      assertEquals("invalid_request_error", error.path("type").asString());
      assertFalse(error.path("message").asString().isBlank());
    }
    String tooLong = "whale ".repeat(9000);
    var error =
        error(
            test.post(server, COMPLETIONS, "{\"prompt\":%s}".formatted(JsonText.of(tooLong))), 400);
    assertEquals("context_length_exceeded", error.path("code").asString());
    String deep = "[".repeat(300) + "]".repeat(300);
    var nested = error(test.post(server, CHAT, "{\"messages\":" + deep + "}"), 400);
    assertTrue(nested.path("message").asString().contains("nested"), nested::toString);
    error(test.post(server, CHAT, "\"" + "a".repeat(200_000) + "\""), 413);
  }

  /// A client that sends all before it listens hears what is wrong all the same.
  @Test
  void whatIsWrongWithABodyIsHeard() throws Exception {
    error(test.post(server, CHAT, "\"" + "a".repeat(20_000_000) + "\""), 413);
    try (var socket = new Socket("127.0.0.1", server.address().getPort())) {
      socket.setSoTimeout(60_000);
      var out = socket.getOutputStream();
      out.write(
          "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000000\r\n\r\n"
              .formatted(CHAT)
              .getBytes(StandardCharsets.US_ASCII));
      out.write(new byte[20_000_000]);
      var head = new String(socket.getInputStream().readNBytes(12), StandardCharsets.US_ASCII);
      assertEquals("HTTP/1.1 413", head);
    }
    error(test.post(server, CHAT, with(WHALE), "Content-Encoding", "gzip"), 415);
    assertEquals(200, test.post(server, CHAT, "\uFEFF" + with(WHALE)).statusCode());
  }

  /// What a schema cannot make sure of is told with the answer.
  @Test
  void whatASchemaDoesNotEnforceIsSaid() throws Exception {
    var answer =
        test.post(
            server,
            CHAT,
            with(
                WHALE,
                "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\","
                    + "\"schema\":{\"type\":\"string\",\"format\":\"date\",\"maxLength\":4}}}"));
    String ignored = answer.headers().firstValue("Sluice-Ignored").orElse("");
    assertTrue(
        ignored.startsWith("response_format.json_schema.schema ")
            && ignored.contains("format \"date\" is not enforced"),
        ignored);
  }

  /// What means nothing here is said to.
  @Test
  void whatIsWithoutEffectIsSaid() throws Exception {
    var answer =
        test.post(
            server,
            CHAT,
            with(
                WHALE,
                "\"user\":\"me\"",
                "\"store\":true",
                "\"chat_template_kwargs\":{\"sing\":true,\"enable_thinking\":false}"));
    assertEquals(200, answer.statusCode(), answer::body);
    assertEquals(
        "chat_template_kwargs.sing, store, user",
        answer.headers().firstValue("Sluice-Ignored").orElse(""));
  }

  @Test
  void otherPathsHaveTheirAnswers() throws Exception {
    assertEquals(
        "tiny/model",
        TestServer.JSON
            .readTree(test.get(server, "/v1/models").body())
            .at("/data/0/id")
            .asString());
    assertEquals(200, test.get(server, "/v1/models/tiny%2Fmodel").statusCode());
    assertEquals(404, test.get(server, "/v1/models/gpt").statusCode());
    assertEquals("{\"status\":\"ok\"}", test.get(server, "/health").body());
    var page = test.get(server, "/");
    assertTrue(page.body().contains("<title>Sluice</title>"));
    assertFalse(page.body().contains("http://") || page.body().contains("https://"));
    String policy = page.headers().firstValue("Content-Security-Policy").orElse("");
    assertTrue(policy.contains("default-src 'none'") && policy.contains("sha256-"), policy);
    var tokens = test.ask(server, "/tokenize", "{\"content\":\"the whale\"}");
    assertEquals(
        "the whale",
        test.ask(server, "/detokenize", "{\"tokens\":%s}".formatted(tokens.path("tokens")))
            .path("content")
            .asString());
    error(test.get(server, CHAT), 405);
    error(test.post(server, "/v1/embeddings", "{}"), 404);
    var metrics = test.get(server, "/metrics").body();
    assertTrue(metrics.contains("\nsluice_slots 6\n"), metrics);
    assertTrue(metrics.contains("sluice_time_to_first_token_seconds_bucket{le=\"+Inf\"}"), metrics);
    assertTrue(
        metrics
            .lines()
            .allMatch(
                line -> line.startsWith("# ") || line.matches("\\w+(\\{le=\"\\S+\"})? [0-9.]+")),
        metrics);
  }

  @Test
  void onlyThoseWhoMayAreAnswered() throws Exception {
    error(test.get(server, "/v1/models", "Origin", "https://evil.example"), 403);
    assertEquals(
        200,
        test.get(server, "/v1/models", "Origin", "http://127.0.0.1:" + server.address().getPort())
            .statusCode());
    assertTrue(
        raw(server, "GET /v1/models HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
            .startsWith("HTTP/1.1 403"));
    var other = test.engine(1, 1, null);
    try (var keyed = test.server(other, "secret", TestServer.limits())) {
      error(test.get(keyed, "/v1/models"), 401);
      error(test.get(keyed, "/metrics"), 401);
      error(test.get(keyed, "/v1/models", "Authorization", "Bearer secre"), 401);
      assertEquals(
          200, test.get(keyed, "/v1/models", "Authorization", "Bearer secret").statusCode());
      assertEquals(200, test.get(keyed, "/v1/models", "X-Api-Key", "secret").statusCode());
      assertEquals(200, test.get(keyed, "/health").statusCode());
    }
    var everywhere = new InetSocketAddress("0.0.0.0", 0);
    assertThrows(
        InvalidInputException.class,
        () ->
            new ApiServer(
                test.model(), engine, everywhere, null, TestServer.limits(), test.faults::add));
  }

  private static String raw(ApiServer to, String request) throws IOException {
    try (var socket = new Socket("127.0.0.1", to.address().getPort())) {
      socket.setSoTimeout(60_000);
      socket.getOutputStream().write(request.getBytes(StandardCharsets.ISO_8859_1));
      return new String(socket.getInputStream().readAllBytes(), StandardCharsets.ISO_8859_1);
    }
  }

  private static Socket asking(ApiServer to, String body) throws IOException {
    var socket = new Socket("127.0.0.1", to.address().getPort());
    socket.setSoTimeout(60_000);
    byte[] bytes = body.getBytes(StandardCharsets.UTF_8);
    socket
        .getOutputStream()
        .write(
            ("POST " + CHAT + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + bytes.length)
                .getBytes(StandardCharsets.US_ASCII));
    socket.getOutputStream().write("\r\n\r\n".getBytes(StandardCharsets.US_ASCII));
    socket.getOutputStream().write(bytes);
    return socket;
  }

  /// Those that stream, those that wait for a whole answer, and those in the queue: when they have
  /// gone nothing is held, and others are answered as before. Too many are told to come again.
  @Test
  void clientsThatGoLeaveNothingBehind() throws Exception {
    String endless = "\"max_tokens\":8000";
    String ignoring = "\"ignore_eos\":true";
    String streaming = with(WHALE, endless, ignoring, "\"stream\":true");
    var other = test.engine(1, 2, null);
    try (var small = test.server(other, null, TestServer.limits())) {
      var sockets = new ArrayList<Socket>();
      sockets.add(asking(small, streaming));
      assertTrue(sockets.getFirst().getInputStream().read() > 0); // it is written
      sockets.add(asking(small, with(WHALE, endless, ignoring)));
      assertTrue(sockets.get(1).getInputStream().read() > 0); // it waits, as a blank has said
      sockets.add(asking(small, streaming));
      assertTrue(sockets.get(2).getInputStream().read() > 0);
      var busy = test.post(small, CHAT, with(WHALE));
      assertEquals("rate_limit_error", error(busy, 429).path("type").asString());
      assertTrue(Integer.parseInt(busy.headers().firstValue("Retry-After").orElse("0")) > 0);
      sockets.getFirst().close();
      sockets.get(2).close();
      // Now the second is written, and hears of it in blanks alone.
      while (other.waiting() > 0) {
        assertTrue(sockets.get(1).getInputStream().read() >= 0);
      }
      sockets.get(1).close();
      expectEmpty(other);
      assertEquals(3, other.counts().cancelled.sum());
      assertEquals(
          content(test.ask(server, CHAT, with(WHALE))),
          content(test.ask(small, CHAT, with(WHALE))));
    }
  }

  /// The JDK's server keeps a connection in mind until its handler fails or its answer has ended.
  @Test
  void connectionsOfClientsThatGoAreForgotten() throws Exception {
    String streaming = with(WHALE, "\"max_tokens\":8000", "\"ignore_eos\":true", "\"stream\":true");
    var other = test.engine(2, 40, null);
    try (var small = test.server(other, null, TestServer.limits())) {
      int before = connections();
      for (int i = 0; i < 30; i++) {
        try (var socket = asking(small, streaming)) {
          assertTrue(socket.getInputStream().read() > 0);
        }
        try (var socket = new Socket("127.0.0.1", small.address().getPort())) {
          String torn =
              "POST " + CHAT + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n{";
          socket.getOutputStream().write(torn.getBytes(StandardCharsets.US_ASCII));
        }
      }
      expectEmpty(other);
      long deadline = System.nanoTime() + Duration.ofSeconds(30).toNanos();
      while (connections() > before + 5 && System.nanoTime() < deadline) {
        Thread.sleep(50);
      }
      assertTrue(connections() <= before + 5, before + " and then " + connections());
    }
  }

  /// Those that the JDK's servers of this process have in mind.
  private static int connections() throws JMException {
    Object histogram =
        ManagementFactory.getPlatformMBeanServer()
            .invoke(
                new ObjectName("com.sun.management:type=DiagnosticCommand"),
                "gcClassHistogram",
                new Object[] {new String[0]},
                new String[] {String[].class.getName()});
    return String.valueOf(histogram)
        .lines()
        .filter(line -> line.contains("sun.net.httpserver.HttpConnection "))
        .mapToInt(line -> Integer.parseInt(line.strip().split("\\s+")[1]))
        .sum();
  }

  /// A client that sends no end of its request is cut off.
  @Test
  void clientsThatTakeTooLongAreCutOff() throws Exception {
    var usual = TestServer.limits();
    var impatient =
        new ApiServer.Limits(
            usual.bodyBytes(),
            Duration.ofMillis(50),
            Duration.ofMillis(300),
            usual.ping(),
            usual.exchanges(),
            usual.usualTokens());
    var other = test.engine(1, 2, null);
    try (var strict = test.server(other, null, impatient)) {
      raw(strict, "GET /health HTTP/1.1\r\nHost: local"); // ends, as the connection is closed
      raw(
          strict,
          "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{\"content");
      // Refused before its body is read, of which the rest never comes.
      for (String host : List.of("localhost", "elsewhere")) {
        var refused =
            raw(
                strict,
                "POST /none HTTP/1.1\r\nHost: %s\r\nContent-Length: 100\r\n\r\n".formatted(host));
        assertTrue(refused.startsWith("HTTP/1.1 40"), refused);
      }
      assertEquals(200, test.get(strict, "/health").statusCode());
    }
  }

  /// Those that were begun end; the health of the server says that it takes no more.
  @Test
  void anEndIsGraceful() throws Exception {
    var other = test.engine(1, 2, null);
    var ending = test.server(other, null, TestServer.limits());
    try (var socket =
        asking(
            ending, with(WHALE, "\"max_tokens\":300", "\"ignore_eos\":true", "\"stream\":true"))) {
      assertTrue(socket.getInputStream().read() > 0);
      ending.close(Duration.ofSeconds(60));
      String all = new String(socket.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
      assertTrue(all.contains("[DONE]"), all);
    }
    assertThrows(IOException.class, () -> test.get(ending, "/health"));
  }

  /// Those that are broken off hear of it: an error and no end of the stream, or a connection that
  /// breaks within the answer.
  @Test
  void whatIsBrokenOffIsNotTakenForWhole() throws Exception {
    var other = test.engine(2, 2, null);
    var ending = test.server(other, null, TestServer.limits());
    String endless = with(WHALE, "\"max_tokens\":8000", "\"ignore_eos\":true");
    try (var streaming = asking(ending, endless.replace("}]", "}],\"stream\":true"));
        var whole = asking(ending, endless)) {
      assertTrue(streaming.getInputStream().read() > 0);
      assertTrue(whole.getInputStream().read() > 0);
      var reading = CompletableFuture.supplyAsync(() -> all(streaming));
      ending.close(Duration.ZERO);
      String events = reading.get();
      assertTrue(events.contains("\"unavailable_error\""), events);
      assertFalse(events.contains("[DONE]"), events);
      assertFalse(all(whole).endsWith("0\r\n\r\n"));
    }
  }

  private static String all(Socket socket) {
    try {
      return new String(socket.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    } catch (IOException e) {
      return e.toString();
    }
  }
}
