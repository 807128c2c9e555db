package dev.sluice.openai;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.openai.client.OpenAIClient;
import com.openai.client.okhttp.OpenAIOkHttpClient;
import com.openai.core.JsonValue;
import com.openai.errors.BadRequestException;
import com.openai.helpers.ChatCompletionAccumulator;
import com.openai.helpers.ResponseAccumulator;
import com.openai.models.chat.completions.ChatCompletion;
import com.openai.models.chat.completions.ChatCompletionCreateParams;
import com.openai.models.chat.completions.ChatCompletionStreamOptions;
import com.openai.models.chat.completions.ChatCompletionToolChoiceOption;
import com.openai.models.chat.completions.ChatCompletionToolMessageParam;
import com.openai.models.responses.EasyInputMessage;
import com.openai.models.responses.ResponseCreateParams;
import com.openai.models.responses.ResponseInputItem;
import com.openai.models.responses.ToolChoiceOptions;
import dev.langchain4j.agent.tool.ToolSpecification;
import dev.langchain4j.data.message.ToolExecutionResultMessage;
import dev.langchain4j.data.message.UserMessage;
import dev.langchain4j.model.chat.request.ResponseFormat;
import dev.langchain4j.model.chat.request.ResponseFormatType;
import dev.langchain4j.model.chat.request.ToolChoice;
import dev.langchain4j.model.chat.request.json.JsonObjectSchema;
import dev.langchain4j.model.chat.request.json.JsonSchema;
import dev.langchain4j.model.chat.response.ChatResponse;
import dev.langchain4j.model.chat.response.StreamingChatResponseHandler;
import dev.langchain4j.model.openai.OpenAiChatModel;
import dev.langchain4j.model.openai.OpenAiStreamingChatModel;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.JsonNode;

/// Clients of others, as they are, each against what the server says without them.
class ClientsTest {
  private static final String CHAT = "/v1/chat/completions";
  private static final String WHALE = "the whale";
  private static final Set<String> CITIES = Set.of("BERN", "ROM");
  private static final int PATIENCE_SECONDS = 120;

  @TempDir private static Path directory;
  private static TestServer test;
  private static ApiServer server;

  @BeforeAll
  static void begin() throws IOException {
    test = new TestServer(directory);
    server = test.server(test.engine(6, 20, null), null, TestServer.limits());
  }

  @AfterAll
  static void end() {
    server.close();
    assertEquals(List.of(), List.copyOf(test.faults));
    test.close();
  }

  private static String base() {
    return server.address() + "v1";
  }

  /// What the server answers to messages.
  private static JsonNode answer(String messages) throws Exception {
    return test.ask(server, CHAT, "{\"messages\":%s}".formatted(messages)).at("/choices/0/message");
  }

  private static String expected() throws Exception {
    return answer("[{\"role\":\"user\",\"content\":\"%s\"}]".formatted(WHALE))
        .path("content")
        .asString();
  }

  /// A city that tools and schemas know.
  public enum City {
    BERN,
    ROM
  }

  /// What an answer is to be, and the arguments of a tool.
  public static final class Weather {
    /// Where.
    public City city;

    /// Whether there is any.
    public boolean rain;
  }

  @Test
  void openAiForJavaChats() throws Exception {
    OpenAIClient client =
        OpenAIOkHttpClient.builder().baseUrl(base()).apiKey("any").maxRetries(0).build();
    try {
      var asked = ChatCompletionCreateParams.builder().model("any").addUserMessage(WHALE);
      ChatCompletion whole = client.chat().completions().create(asked.build()).validate();
      assertEquals(expected(), whole.choices().getFirst().message().content().orElseThrow());

      var accumulated = ChatCompletionAccumulator.create();
      var streaming =
          asked.streamOptions(ChatCompletionStreamOptions.builder().includeUsage(true).build());
      try (var stream = client.chat().completions().createStreaming(streaming.build())) {
        stream.stream().forEach(chunk -> accumulated.accumulate(chunk.validate()));
      }
      var streamed = accumulated.chatCompletion();
      assertEquals(expected(), streamed.choices().getFirst().message().content().orElseThrow());
      assertEquals(
          whole.usage().orElseThrow().completionTokens(),
          streamed.usage().orElseThrow().completionTokens());

      // A tool that a class describes is called, and what it gave is sent back.
      var tools =
          ChatCompletionCreateParams.builder()
              .model("any")
              .addUserMessage("rain?")
              .addTool(Weather.class)
              .maxCompletionTokens(300);
      var required = tools.toolChoice(ChatCompletionToolChoiceOption.Auto.REQUIRED).build();
      var calling =
          client.chat().completions().create(required).validate().choices().getFirst().message();
      var call = calling.toolCalls().orElseThrow().getFirst().asFunction();
      assertTrue(CITIES.contains(call.function().arguments(Weather.class).city.name()));
      var calls = ChatCompletionAccumulator.create();
      try (var stream = client.chat().completions().createStreaming(required)) {
        stream.stream().forEach(chunk -> calls.accumulate(chunk.validate()));
      }
      assertEquals(
          call.function().arguments(),
          calls
              .chatCompletion()
              .choices()
              .getFirst()
              .message()
              .toolCalls()
              .orElseThrow()
              .getFirst()
              .asFunction()
              .function()
              .arguments());
      var back =
          tools
              .toolChoice(ChatCompletionToolChoiceOption.Auto.AUTO)
              .addMessage(calling)
              .addMessage(
                  ChatCompletionToolMessageParam.builder()
                      .toolCallId(call.id())
                      .content("sun")
                      .build())
              .build();
      assertFalse(client.chat().completions().create(back).validate().choices().isEmpty());

      // A schema that a class describes.
      var shaped =
          client
              .chat()
              .completions()
              .create(
                  ChatCompletionCreateParams.builder()
                      .model("any")
                      .addUserMessage(WHALE)
                      .maxCompletionTokens(300)
                      .responseFormat(Weather.class)
                      .build());
      assertNotNull(shaped.choices().getFirst().message().content().orElseThrow().city);

      var wrong =
          ChatCompletionCreateParams.builder()
              .model("any")
              .addUserMessage(WHALE)
              .putAdditionalBodyProperty("colour", JsonValue.from("red"))
              .build();
      var refusal =
          assertThrows(BadRequestException.class, () -> client.chat().completions().create(wrong));
      assertEquals("colour", refusal.param().orElse(""));
      assertEquals("tiny/model", client.models().list().data().getFirst().id());
    } finally {
      client.close();
    }
  }

  @Test
  void openAiForJavaAsksForResponses() throws Exception {
    OpenAIClient client =
        OpenAIOkHttpClient.builder().baseUrl(base()).apiKey("any").maxRetries(0).build();
    try {
      var asked = ResponseCreateParams.builder().model("any").input(WHALE);
      var whole = client.responses().create(asked.build()).validate();
      assertEquals(
          expected(),
          whole.output().getFirst().asMessage().content().getFirst().asOutputText().text());
      var accumulated = ResponseAccumulator.create();
      try (var stream = client.responses().createStreaming(asked.build())) {
        stream.stream().forEach(event -> accumulated.accumulate(event.validate()));
      }
      assertEquals(
          expected(),
          accumulated
              .response()
              .output()
              .getFirst()
              .asMessage()
              .content()
              .getFirst()
              .asOutputText()
              .text());

      var items = new ArrayList<ResponseInputItem>();
      items.add(
          ResponseInputItem.ofEasyInputMessage(
              EasyInputMessage.builder()
                  .role(EasyInputMessage.Role.USER)
                  .content("rain?")
                  .build()));
      var tools =
          ResponseCreateParams.builder()
              .model("any")
              .inputOfResponse(items)
              .addTool(Weather.class)
              .toolChoice(ToolChoiceOptions.REQUIRED)
              .maxOutputTokens(300);
      var call =
          client.responses().create(tools.build()).validate().output().getFirst().asFunctionCall();
      assertTrue(CITIES.contains(call.arguments(Weather.class).city.name()));
      items.add(ResponseInputItem.ofFunctionCall(call));
      items.add(
          ResponseInputItem.ofFunctionCallOutput(
              ResponseInputItem.FunctionCallOutput.builder()
                  .callId(call.callId())
                  .output("sun")
                  .build()));
      var second =
          client
              .responses()
              .create(tools.inputOfResponse(items).toolChoice(ToolChoiceOptions.AUTO).build())
              .validate();
      assertFalse(second.output().isEmpty());

      var shaped =
          client
              .responses()
              .create(
                  ResponseCreateParams.builder()
                      .model("any")
                      .input(WHALE)
                      .maxOutputTokens(300)
                      .text(Weather.class)
                      .build());
      assertNotNull(
          shaped.output().getFirst().asMessage().content().getFirst().asOutputText().city);
      var stored = asked.previousResponseId(whole.id()).build();
      var refusal =
          assertThrows(BadRequestException.class, () -> client.responses().create(stored));
      assertEquals("previous_response_id", refusal.param().orElse(""));
    } finally {
      client.close();
    }
  }

  @Test
  void langChain4jChats() throws Exception {
    var model =
        OpenAiChatModel.builder()
            .baseUrl(base())
            .apiKey("any")
            .modelName("any")
            .maxRetries(0)
            .strictJsonSchema(true)
            .strictTools(true)
            .build();
    var asked =
        dev.langchain4j.model.chat.request.ChatRequest.builder()
            .messages(UserMessage.from(WHALE))
            .build();
    assertEquals(expected(), model.chat(asked).aiMessage().text());

    var streaming =
        OpenAiStreamingChatModel.builder().baseUrl(base()).apiKey("any").modelName("any").build();
    var pieces = new StringBuilder();
    var done = new CompletableFuture<ChatResponse>();
    streaming.chat(
        asked,
        new StreamingChatResponseHandler() {
          @Override
          public void onPartialResponse(String piece) {
            pieces.append(piece);
          }

          @Override
          public void onCompleteResponse(ChatResponse response) {
            done.complete(response);
          }

          @Override
          public void onError(Throwable error) {
            done.completeExceptionally(error);
          }
        });
    var streamed = done.get(PATIENCE_SECONDS, TimeUnit.SECONDS);
    assertEquals(expected(), pieces.toString());
    assertEquals(
        model.chat(asked).tokenUsage().outputTokenCount(),
        streamed.tokenUsage().outputTokenCount());

    var weather =
        JsonObjectSchema.builder()
            .addEnumProperty("city", List.copyOf(CITIES))
            .required("city")
            .build();
    var tool = ToolSpecification.builder().name("weather").parameters(weather).build();
    var rain = UserMessage.from("rain?");
    var calling =
        model
            .chat(
                dev.langchain4j.model.chat.request.ChatRequest.builder()
                    .messages(rain)
                    .toolSpecifications(tool)
                    .toolChoice(ToolChoice.REQUIRED)
                    .maxOutputTokens(300)
                    .build())
            .aiMessage();
    var call = calling.toolExecutionRequests().getFirst();
    assertEquals("weather", call.name());
    var back =
        dev.langchain4j.model.chat.request.ChatRequest.builder()
            .messages(rain, calling, ToolExecutionResultMessage.from(call, "sun"))
            .toolSpecifications(tool)
            .build();
    assertNotNull(model.chat(back).finishReason());

    var format =
        ResponseFormat.builder()
            .type(ResponseFormatType.JSON)
            .jsonSchema(JsonSchema.builder().name("weather").rootElement(weather).build())
            .build();
    var shaped =
        dev.langchain4j.model.chat.request.ChatRequest.builder()
            .messages(rain)
            .responseFormat(format)
            .maxOutputTokens(300)
            .build();
    assertTrue(
        CITIES.contains(
            TestServer.JSON
                .readTree(model.chat(shaped).aiMessage().text())
                .path("city")
                .asString()));
  }

  /// The output of a program; null if it fails.
  private static String output(Path in, String... command) throws Exception {
    var process = new ProcessBuilder(command).directory(in.toFile()).start();
    process.getOutputStream().close();
    var errors = CompletableFuture.supplyAsync(() -> text(process.getErrorStream()));
    String output = text(process.getInputStream());
    assertTrue(process.waitFor(PATIENCE_SECONDS, TimeUnit.SECONDS));
    if (process.exitValue() != 0) {
      System.err.println(errors.get());
      return null;
    }
    return output;
  }

  private static String text(java.io.InputStream in) {
    try (in) {
      return new String(in.readAllBytes(), java.nio.charset.StandardCharsets.UTF_8);
    } catch (IOException e) {
      return e.toString();
    }
  }

  private static boolean isInstalled(String program) {
    return Stream.of(String.valueOf(System.getenv("PATH")).split(File.pathSeparator))
        .anyMatch(folder -> Files.isExecutable(Path.of(folder, program)));
  }

  /// OpenAI's package for JavaScript, which npm brings at its first use, as its lock file has it.
  private static Path javaScript() throws Exception {
    assumeTrue(
        isInstalled("node") && isInstalled("npm"),
        "Node.js and npm are not installed, so OpenAI's client for JavaScript is not tried");
    Path folder = Files.createDirectories(Path.of("target/openai-js"));
    Path source = Path.of("src/test/resources/dev/sluice/openai/js");
    for (String file : List.of("package.json", "package-lock.json", "client.mjs")) {
      Files.copy(source.resolve(file), folder.resolve(file), StandardCopyOption.REPLACE_EXISTING);
    }
    boolean isThere =
        Files.isRegularFile(folder.resolve("node_modules/openai/package.json"))
            || output(
                    folder,
                    "npm",
                    "ci",
                    "--ignore-scripts",
                    "--no-audit",
                    "--no-fund",
                    "--prefer-offline",
                    "--fetch-retries=0",
                    "--fetch-timeout=30000")
                != null;
    assumeTrue(isThere, "npm cannot bring OpenAI's client for JavaScript, so it is not tried");
    return folder;
  }

  @Test
  void openAiForJavaScriptWorks() throws Exception {
    Path folder = javaScript();
    String said = output(folder, "node", "client.mjs", base());
    assertNotNull(said, "the client has failed");
    var found = TestServer.JSON.readTree(said);
    assertEquals("tiny/model", found.at("/models/0").asString());
    for (String text : List.of("text", "streamed", "response", "responseStreamed")) {
      assertEquals(expected(), found.path(text).asString(), text);
    }
    assertEquals(found.path("tokens"), found.path("streamedTokens"));
    assertEquals("weather", found.at("/call/name").asString());
    assertEquals(found.at("/call/arguments"), found.at("/streamedCall/arguments"));
    assertTrue(found.at("/parsed/rain").isBoolean(), said);
    assertTrue(found.at("/shaped/rain").isBoolean(), said);
    assertEquals("response.created", found.at("/events/0").asString());
    assertEquals(400, found.at("/refused/status").asInt());
    assertEquals("temperature", found.at("/refused/param").asString());
  }

  @Test
  void curlWorks() throws Exception {
    assumeTrue(isInstalled("curl"), "curl is not installed, so it is not tried");
    String body = "{\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]%s}";
    String whole =
        output(
            directory,
            "curl",
            "-sS",
            base() + "/chat/completions",
            "-d",
            body.formatted(WHALE, ""));
    assertNotNull(whole);
    assertEquals(
        expected(), TestServer.JSON.readTree(whole).at("/choices/0/message/content").asString());
    String streamed =
        output(
            directory,
            "curl",
            "-sSN",
            base() + "/chat/completions",
            "-d",
            body.formatted(WHALE, ",\"stream\":true"));
    assertNotNull(streamed);
    assertTrue(streamed.endsWith("data: [DONE]\n\n"), streamed);
    String refused =
        output(
            directory,
            "curl",
            "-sS",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            base() + "/chat/completions",
            "-d",
            "{");
    assertEquals("400", refused);
  }
}
