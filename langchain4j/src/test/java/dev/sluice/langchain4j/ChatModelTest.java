package dev.sluice.langchain4j;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.annotation.JsonProperty;
import dev.langchain4j.agent.tool.P;
import dev.langchain4j.agent.tool.Tool;
import dev.langchain4j.agent.tool.ToolExecutionRequest;
import dev.langchain4j.agent.tool.ToolSpecification;
import dev.langchain4j.agent.tool.ToolSpecifications;
import dev.langchain4j.data.message.AiMessage;
import dev.langchain4j.data.message.ImageContent;
import dev.langchain4j.data.message.SystemMessage;
import dev.langchain4j.data.message.TextContent;
import dev.langchain4j.data.message.ToolExecutionResultMessage;
import dev.langchain4j.data.message.UserMessage;
import dev.langchain4j.data.segment.TextSegment;
import dev.langchain4j.exception.InvalidRequestException;
import dev.langchain4j.exception.LangChain4jException;
import dev.langchain4j.exception.RateLimitException;
import dev.langchain4j.exception.UnsupportedFeatureException;
import dev.langchain4j.memory.chat.MessageWindowChatMemory;
import dev.langchain4j.model.chat.ChatModel;
import dev.langchain4j.model.chat.listener.ChatModelListener;
import dev.langchain4j.model.chat.listener.ChatModelResponseContext;
import dev.langchain4j.model.chat.request.ChatRequest;
import dev.langchain4j.model.chat.request.ChatRequestParameters;
import dev.langchain4j.model.chat.request.DefaultChatRequestParameters;
import dev.langchain4j.model.chat.request.ResponseFormat;
import dev.langchain4j.model.chat.request.ToolChoice;
import dev.langchain4j.model.chat.response.ChatResponse;
import dev.langchain4j.model.embedding.request.EmbeddingRequest;
import dev.langchain4j.model.output.FinishReason;
import dev.langchain4j.service.AiServices;
import dev.langchain4j.service.Result;
import dev.sluice.chat.Message;
import dev.sluice.serving.Pooling;
import dev.sluice.serving.Question;
import dev.sluice.serving.TextModel;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import tools.jackson.databind.json.JsonMapper;

/// With random weights: what a model says means nothing, but every form that it is asked for holds.
class ChatModelTest {
  static final Path TINY = Path.of("../samples/tiny-chat");
  private static final UserMessage WHALE = UserMessage.from("so it was the whale");

  private static TextModel model;
  private static ChatModel chat;

  @BeforeAll
  static void open() {
    model = TextModel.at(TINY).usualTokens(32).memory(1L << 28, 1L << 26).open();
    chat = new SluiceChatModel(model);
  }

  @AfterAll
  static void close() {
    model.close();
  }

  enum City {
    ROME,
    OSLO
  }

  /// LangChain4j takes what is not said to be required for optional.
  record Weather(@JsonProperty(required = true) City city, boolean rain) {}

  /// What is called.
  static final class Weathers {
    final List<City> asked = new ArrayList<>();

    @Tool("The weather of a city")
    String weather(@P("The city") City city) {
      asked.add(city);
      return "no rain";
    }
  }

  interface Assistant {
    Result<String> answer(String question);

    Weather weather(String question);
  }

  private static ChatResponse ask(ChatRequestParameters parameters) {
    return chat.chat(ChatRequest.builder().messages(WHALE).parameters(parameters).build());
  }

  @Test
  void anAnswerIsThatOfTheModel() {
    var question = Question.of(new Message(Message.Role.USER, "so it was the whale"));
    var expected = model.answer(question, model.manner());
    var response = chat.chat(WHALE);
    assertEquals(expected.text(), response.aiMessage().text());
    assertEquals("tiny-chat", response.modelName());
    assertEquals(expected.promptTokens(), response.tokenUsage().inputTokenCount());
    assertEquals(expected.tokens(), response.tokenUsage().outputTokenCount());
    assertEquals(
        expected.tokens() == 32 ? FinishReason.LENGTH : FinishReason.STOP, response.finishReason());
    assertNotEquals(response.id(), chat.chat(WHALE).id());
  }

  @Test
  void parametersCount() {
    String whole = chat.chat(WHALE).aiMessage().text();
    var short_ = ask(ChatRequestParameters.builder().maxOutputTokens(3).build());
    assertEquals(3, short_.tokenUsage().outputTokenCount());
    assertEquals(FinishReason.LENGTH, short_.finishReason());
    String stop = whole.substring(4, 6);
    var stopped = ask(ChatRequestParameters.builder().stopSequences(stop).build());
    assertEquals(whole.substring(0, whole.indexOf(stop)), stopped.aiMessage().text());
    assertEquals(FinishReason.STOP, stopped.finishReason());

    var hot = SluiceChatRequestParameters.builder().temperature(1.5).topP(0.99).topK(100);
    assertEquals(text(hot.seed(1L).build()), text(hot.seed(1L).build()));
    assertNotEquals(text(hot.seed(1L).build()), text(hot.seed(2L).build()));
    assertNotEquals(text(hot.seed(null).build()), text(hot.seed(null).build()));
    // the likeliest token alone is left
    var narrow = SluiceChatRequestParameters.builder().temperature(1.5).minP(1.0).build();
    assertEquals(whole, text(narrow));
    var penalised = SluiceChatRequestParameters.builder().repetitionPenalty(3.0).build();
    assertNotEquals(whole, text(penalised));
    for (var other :
        List.of(
            ChatRequestParameters.builder().frequencyPenalty(5.0).build(),
            ChatRequestParameters.builder().presencePenalty(5.0).build())) {
      assertNotEquals(whole, text(other));
    }
  }

  private static String text(ChatRequestParameters parameters) {
    return ask(parameters).aiMessage().text();
  }

  /// Defaults hold where a request says nothing, ours beside those of all models.
  @Test
  void defaultsHoldWhereNothingIsSaid() {
    var defaults =
        SluiceChatRequestParameters.builder()
            .temperature(1.5)
            .seed(5L)
            .maxOutputTokens(9)
            .templateVariable("enable_thinking", true)
            .build();
    var own = new SluiceChatModel(model, defaults);
    var request = ChatRequest.builder().messages(WHALE);
    var expected = ask(defaults);
    assertEquals(expected.aiMessage(), own.chat(WHALE).aiMessage());
    var longer = own.chat(request.maxOutputTokens(12).build());
    assertEquals(12, longer.tokenUsage().outputTokenCount());
    assertEquals(defaults, own.defaultRequestParameters());
    var merged = defaults.overrideWith(ChatRequestParameters.builder().topK(4).build());
    assertEquals(5L, merged.seed());
    assertEquals(4, merged.topK());
    assertEquals(
        1.5, ChatRequestParameters.builder().topK(4).build().defaultedBy(defaults).temperature());
    assertEquals(5L, SluiceChatRequestParameters.NONE.defaultedBy(defaults).seed());
  }

  @Test
  void thoughtsAreApart() {
    var thinking =
        SluiceChatRequestParameters.builder().templateVariable("enable_thinking", true).build();
    var message = ask(thinking).aiMessage();
    assertFalse(message.thinking().isEmpty());
    assertNull(chat.chat(WHALE).aiMessage().thinking());
    // and may be sent back
    assertFalse(
        chat.chat(WHALE, message, UserMessage.from("and then?")).aiMessage().text().isEmpty());
  }

  /// Forced, since random weights call nothing by themselves.
  @Test
  void aToolIsCalledAndItsResultIsRead() {
    var tools = new Weathers();
    var forced =
        SluiceChatRequestParameters.builder()
            .toolSpecifications(ToolSpecifications.toolSpecificationsFrom(tools))
            .toolChoice(ToolChoice.REQUIRED)
            .maxOutputTokens(400)
            .build();
    var response = ask(forced);
    assertEquals(FinishReason.TOOL_EXECUTION, response.finishReason());
    var call = response.aiMessage().toolExecutionRequests().getFirst();
    assertEquals("weather", call.name());
    // as a random model wrote them, which may be with escapes
    String arguments = JsonMapper.shared().readTree(call.arguments()).toString();
    assertTrue(arguments.contains("ROME") || arguments.contains("OSLO"));
    assertNull(response.aiMessage().text());
    var next =
        chat.chat(
            ChatRequest.builder()
                .messages(
                    WHALE, response.aiMessage(), ToolExecutionResultMessage.from(call, "no rain"))
                .toolSpecifications(forced.toolSpecifications())
                .build());
    assertFalse(next.aiMessage().text().isEmpty());
    // without the call and its result the model reads another prompt
    assertTrue(next.tokenUsage().inputTokenCount() > response.tokenUsage().inputTokenCount() + 10);
    var untold = ask(forced.overrideWith(choosing(ToolChoice.NONE)));
    assertEquals(
        chat.chat(WHALE).tokenUsage().inputTokenCount(), untold.tokenUsage().inputTokenCount());
  }

  private static ChatRequestParameters choosing(ToolChoice choice) {
    return ChatRequestParameters.builder().toolChoice(choice).build();
  }

  /// The whole round through AiServices: the first answer is a call, the second is not forced.
  @Test
  void aServiceRunsTheToolAndAnswers() {
    var tools = new Weathers();
    var asked = new ArrayList<ChatRequest>();
    ChatModel first =
        new ChatModel() {
          @Override
          public ChatResponse doChat(ChatRequest request) {
            asked.add(request);
            return chat.chat(
                request.toBuilder()
                    .parameters(
                        request
                            .parameters()
                            .overrideWith(
                                ChatRequestParameters.builder()
                                    .maxOutputTokens(400)
                                    .toolChoice(
                                        asked.size() == 1 ? ToolChoice.REQUIRED : ToolChoice.NONE)
                                    .build()))
                    .build());
          }
        };
    var assistant =
        AiServices.builder(Assistant.class)
            .chatModel(first)
            .chatMemory(MessageWindowChatMemory.withMaxMessages(20))
            .tools(tools)
            .build();
    var result = assistant.answer("Do I need an umbrella in Rome?");
    assertEquals(1, tools.asked.size());
    assertEquals(2, asked.size());
    assertEquals("no rain", result.toolExecutions().getFirst().result());
    assertFalse(result.content().isEmpty());
    assertEquals(
        result.tokenUsage().totalTokenCount(),
        result.tokenUsage().inputTokenCount() + result.tokenUsage().outputTokenCount());
  }

  @Test
  void aRecordIsAnswered() {
    var assistant =
        AiServices.builder(Assistant.class)
            .chatModel(
                new SluiceChatModel(
                    model, ChatRequestParameters.builder().maxOutputTokens(400).build()))
            .build();
    assertTrue(List.of(City.values()).contains(assistant.weather("Rome?").city()));
    var any =
        ask(
            ChatRequestParameters.builder()
                .responseFormat(ResponseFormat.JSON)
                .maxOutputTokens(2)
                .build());
    assertTrue(any.aiMessage().text().strip().startsWith("{"), any.aiMessage()::text);
  }

  /// With both, what the model begins with decides; either is whole.
  @Test
  void aServiceWithToolsAnswersARecord() {
    var tools = new Weathers();
    var assistant =
        AiServices.builder(Assistant.class)
            .chatModel(
                new SluiceChatModel(
                    model,
                    SluiceChatRequestParameters.builder()
                        .maxOutputTokens(400)
                        .temperature(1.0)
                        .seed(2L)
                        .build()))
            .tools(tools)
            .build();
    assertTrue(List.of(City.values()).contains(assistant.weather("Rome?").city()));
  }

  @Test
  void conversationsAtOnceAreWhatTheyAreAlone() throws Exception {
    var parameters =
        IntStream.range(0, 6)
            .mapToObj(
                i ->
                    SluiceChatRequestParameters.builder()
                        .temperature(i % 2 * 1.2)
                        .seed((long) i)
                        .build())
            .toList();
    var alone = parameters.stream().map(ChatModelTest::text).toList();
    try (var threads = Executors.newVirtualThreadPerTaskExecutor()) {
      var together = new ArrayList<Future<String>>();
      for (var each : parameters) {
        var other = new SluiceChatModel(model, each); // they share the engine
        together.add(threads.submit(() -> other.chat(WHALE).aiMessage().text()));
      }
      for (int i = 0; i < alone.size(); i++) {
        assertEquals(alone.get(i), together.get(i).get());
      }
    }
  }

  @Test
  void listenersHear() {
    var heard = new ArrayList<String>();
    var listened =
        new SluiceChatModel(
            model,
            ChatRequestParameters.builder().maxOutputTokens(2).build(),
            List.of(
                new ChatModelListener() {
                  @Override
                  public void onResponse(ChatModelResponseContext context) {
                    heard.add(context.chatResponse().aiMessage().text());
                  }
                }));
    assertEquals(listened.chat(WHALE).aiMessage().text(), heard.getFirst());
  }

  private static void assertRefused(
      Class<? extends LangChain4jException> kind, String what, ChatRequest.Builder request) {
    var refusal = assertThrows(kind, () -> chat.chat(request.build()));
    assertTrue(refusal.getMessage().contains(what), refusal::getMessage);
  }

  private static ChatRequest.Builder whale() {
    return ChatRequest.builder().messages(WHALE);
  }

  /// The parameters of some other model.
  private static final class Others extends DefaultChatRequestParameters {
    Others() {
      super(new DefaultChatRequestParameters.Builder<>());
    }
  }

  @Test
  void whatIsNotPossibleIsRefusedByName() {
    assertRefused(UnsupportedFeatureException.class, "gpt-x", whale().modelName("gpt-x"));
    assertEquals("tiny-chat", chat.chat(whale().modelName("tiny-chat").build()).modelName());
    assertRefused(UnsupportedFeatureException.class, "Others", whale().parameters(new Others()));
    assertRefused(
        UnsupportedFeatureException.class,
        "IMAGE",
        ChatRequest.builder()
            .messages(
                UserMessage.from(TextContent.from("a"), ImageContent.from("b", "image/png"))));
    assertRefused(
        UnsupportedFeatureException.class,
        "strict",
        whale().toolSpecifications(ToolSpecification.builder().name("t").strict(true).build()));
    assertRefused(
        InvalidRequestException.class,
        "REQUIRED",
        whale().parameters(choosing(ToolChoice.REQUIRED)));
    assertRefused(
        InvalidRequestException.class,
        "a b",
        whale().toolSpecifications(ToolSpecification.builder().name("a b").build()));
    assertRefused(
        InvalidRequestException.class,
        "cannot both",
        whale()
            .parameters(
                ChatRequestParameters.builder()
                    .toolChoice(ToolChoice.REQUIRED)
                    .toolSpecifications(ToolSpecification.builder().name("t").build())
                    .responseFormat(ResponseFormat.JSON)
                    .build()));
    assertRefused(
        InvalidRequestException.class,
        "'mood'",
        whale()
            .parameters(SluiceChatRequestParameters.builder().templateVariable("mood", 1).build()));
    assertRefused(InvalidRequestException.class, "temperature", whale().temperature(-1.0));
    assertRefused(InvalidRequestException.class, "top-p", whale().topP(1.5));
    assertRefused(InvalidRequestException.class, "at least 1 token", whale().maxOutputTokens(0));
    assertRefused(InvalidRequestException.class, "stop string", whale().stopSequences(List.of("")));
    assertRefused(
        InvalidRequestException.class,
        "there is room for",
        ChatRequest.builder().messages(UserMessage.from("sea ".repeat(9000))));
    assertRefused(
        InvalidRequestException.class,
        "not valid JSON",
        ChatRequest.builder()
            .messages(
                WHALE,
                AiMessage.from(ToolExecutionRequest.builder().name("t").arguments("{").build())));
    assertFalse(chat.chat(SystemMessage.from("be brief"), WHALE).aiMessage().text().isEmpty());
  }

  @Test
  void whoComesWhenTooManyWaitIsToldToComeAgain() throws Exception {
    var go = new CountDownLatch(1);
    try (var narrow = TextModel.at(TINY).slots(1, 1).memory(1L << 28, 0).open();
        var threads = Executors.newVirtualThreadPerTaskExecutor()) {
      var busy =
          new SluiceChatModel(narrow, ChatRequestParameters.builder().maxOutputTokens(2).build());
      var held = threads.submit(() -> narrow.engine().with(_ -> awaited(go)));
      var first = threads.submit(() -> busy.chat(WHALE));
      while (narrow.engine().waiting() == 0) {
        Thread.sleep(1);
      }
      assertThrows(RateLimitException.class, () -> busy.chat(WHALE));
      go.countDown();
      assertTrue(held.get());
      assertEquals(2, first.get().tokenUsage().outputTokenCount());
    }
  }

  private static boolean awaited(CountDownLatch latch) {
    try {
      return latch.await(60, TimeUnit.SECONDS);
    } catch (InterruptedException e) {
      throw new IllegalStateException(e);
    }
  }

  @Test
  void anInterruptEndsAnAnswer() {
    Thread.currentThread().interrupt();
    assertThrows(LangChain4jException.class, () -> chat.chat(WHALE));
    assertTrue(Thread.interrupted());
  }

  @Test
  void textsAreVectors() {
    var embedding = new SluiceEmbeddingModel(model, Pooling.MEAN);
    var texts = List.of(TextSegment.from("the sea"), TextSegment.from("so it was the whale"));
    var both = embedding.embedAll(texts);
    assertEquals(64, embedding.dimension());
    assertEquals(2, both.content().size());
    assertEquals(embedding.embed("the sea").content(), both.content().getFirst());
    assertTrue(both.tokenUsage().inputTokenCount() > 4);
    assertInstanceOf(
        UnsupportedFeatureException.class,
        assertThrows(
            RuntimeException.class,
            () ->
                embedding.embed(
                    EmbeddingRequest.builder().textSegments(texts).dimensions(3).build())));
    assertThrows(InvalidRequestException.class, () -> embedding.embed("sea ".repeat(9000)));
  }
}
