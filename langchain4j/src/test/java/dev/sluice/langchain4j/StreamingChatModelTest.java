package dev.sluice.langchain4j;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.langchain4j.agent.tool.ToolSpecifications;
import dev.langchain4j.data.message.UserMessage;
import dev.langchain4j.exception.InvalidRequestException;
import dev.langchain4j.exception.UnsupportedFeatureException;
import dev.langchain4j.model.chat.request.ChatRequest;
import dev.langchain4j.model.chat.request.ChatRequestParameters;
import dev.langchain4j.model.chat.request.ToolChoice;
import dev.langchain4j.model.chat.response.ChatResponse;
import dev.langchain4j.model.chat.response.CompleteToolCall;
import dev.langchain4j.model.chat.response.PartialResponse;
import dev.langchain4j.model.chat.response.PartialResponseContext;
import dev.langchain4j.model.chat.response.PartialThinking;
import dev.langchain4j.model.chat.response.StreamingChatResponseHandler;
import dev.langchain4j.model.output.FinishReason;
import dev.langchain4j.service.AiServices;
import dev.langchain4j.service.TokenStream;
import dev.sluice.serving.TextModel;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

class StreamingChatModelTest {
  private static final UserMessage WHALE = UserMessage.from("so it was the whale");
  private static final int SECONDS = 60;

  private static TextModel model;
  private static SluiceChatModel whole;
  private static SluiceStreamingChatModel streaming;

  @BeforeAll
  static void open() {
    model = TextModel.at(ChatModelTest.TINY).usualTokens(32).memory(1L << 28, 1L << 26).open();
    whole = new SluiceChatModel(model);
    streaming = new SluiceStreamingChatModel(model);
  }

  @AfterAll
  static void close() {
    model.close();
  }

  /// Keeps what it hears, in order.
  private static class Heard implements StreamingChatResponseHandler {
    final List<String> kinds = new ArrayList<>();
    final StringBuilder text = new StringBuilder();
    final StringBuilder thinking = new StringBuilder();
    final List<CompleteToolCall> calls = new ArrayList<>();
    final CompletableFuture<ChatResponse> response = new CompletableFuture<>();
    final CompletableFuture<Throwable> failure = new CompletableFuture<>();

    @Override
    public void onPartialResponse(String piece) {
      kinds.add("text");
      text.append(piece);
    }

    @Override
    public void onPartialThinking(PartialThinking piece) {
      kinds.add("thinking");
      thinking.append(piece.text());
    }

    @Override
    public void onCompleteToolCall(CompleteToolCall call) {
      kinds.add("call");
      calls.add(call);
    }

    @Override
    public void onCompleteResponse(ChatResponse all) {
      kinds.add("complete");
      response.complete(all);
    }

    @Override
    public void onError(Throwable e) {
      kinds.add("error");
      failure.complete(e);
    }
  }

  private static Heard ask(ChatRequestParameters parameters) {
    var heard = new Heard();
    streaming.chat(ChatRequest.builder().messages(WHALE).parameters(parameters).build(), heard);
    return heard;
  }

  @Test
  void piecesMakeTheWholeAnswer() throws Exception {
    var heard = ask(SluiceChatRequestParameters.NONE);
    var response = heard.response.get(SECONDS, TimeUnit.SECONDS);
    var expected = whole.chat(WHALE);
    assertEquals(expected.aiMessage(), response.aiMessage());
    assertEquals(expected.aiMessage().text(), heard.text.toString());
    assertEquals(expected.tokenUsage(), response.tokenUsage());
    assertEquals(expected.finishReason(), response.finishReason());
    assertEquals("complete", heard.kinds.getLast());
    assertEquals(1, heard.kinds.stream().filter("complete"::equals).count());
    assertTrue(heard.kinds.size() > 5, heard.kinds::toString);
  }

  @Test
  void thoughtsComeFirst() throws Exception {
    var heard =
        ask(
            SluiceChatRequestParameters.builder()
                .templateVariable("enable_thinking", true)
                .build());
    var response = heard.response.get(SECONDS, TimeUnit.SECONDS);
    assertEquals("thinking", heard.kinds.getFirst());
    assertEquals(response.aiMessage().thinking(), heard.thinking.toString());
  }

  @Test
  void aCallIsToldWhenItIsWhole() throws Exception {
    var heard =
        ask(
            ChatRequestParameters.builder()
                .toolSpecifications(
                    ToolSpecifications.toolSpecificationsFrom(ChatModelTest.Weathers.class))
                .toolChoice(ToolChoice.REQUIRED)
                .maxOutputTokens(400)
                .build());
    var response = heard.response.get(SECONDS, TimeUnit.SECONDS);
    assertEquals(FinishReason.TOOL_EXECUTION, response.finishReason());
    assertEquals(List.of("call", "complete"), heard.kinds);
    assertEquals(
        response.aiMessage().toolExecutionRequests(),
        heard.calls.stream().map(CompleteToolCall::toolExecutionRequest).toList());
    assertNull(response.aiMessage().text());
  }

  @Test
  void whatIsCancelledIsHeardNoMore() throws Exception {
    var first = new CountDownLatch(1);
    var heard =
        new Heard() {
          @Override
          public void onPartialResponse(PartialResponse piece, PartialResponseContext context) {
            super.onPartialResponse(piece.text());
            context.streamingHandle().cancel();
            assertTrue(context.streamingHandle().isCancelled());
            first.countDown();
          }
        };
    streaming.chat(
        ChatRequest.builder().messages(WHALE).temperature(1.0).maxOutputTokens(8000).build(),
        heard);
    assertTrue(first.await(SECONDS, TimeUnit.SECONDS));
    whole.chat(ChatRequest.builder().messages(WHALE).maxOutputTokens(4).build());
    assertEquals(0, model.engine().usedSlots());
    assertEquals(List.of("text"), heard.kinds);
  }

  @Test
  void aHandlerThatFailsHearsOfIt() throws Exception {
    var heard =
        new Heard() {
          @Override
          public void onPartialResponse(String piece) {
            throw new IllegalStateException("no more");
          }
        };
    streaming.chat(List.of(WHALE), heard);
    assertEquals("no more", heard.failure.get(SECONDS, TimeUnit.SECONDS).getMessage());
    assertFalse(heard.response.isDone());
  }

  @Test
  void whatIsNotPossibleIsAFailureOfTheStream() throws Exception {
    var other = ask(ChatRequestParameters.builder().modelName("gpt-x").build());
    assertInstanceOf(
        UnsupportedFeatureException.class, other.failure.get(SECONDS, TimeUnit.SECONDS));
    var wrong = ask(ChatRequestParameters.builder().topP(7.0).build());
    assertInstanceOf(InvalidRequestException.class, wrong.failure.get(SECONDS, TimeUnit.SECONDS));
    assertEquals(List.of("error"), wrong.kinds);
  }

  interface Assistant {
    TokenStream answer(String question);
  }

  @Test
  void aServiceStreams() throws Exception {
    var text = new StringBuilder();
    var ended = new CompletableFuture<ChatResponse>();
    AiServices.create(Assistant.class, streaming)
        .answer("so it was the whale")
        .onPartialResponse(text::append)
        .onCompleteResponse(ended::complete)
        .onError(ended::completeExceptionally)
        .start();
    assertEquals(ended.get(SECONDS, TimeUnit.SECONDS).aiMessage().text(), text.toString());
    assertEquals(whole.chat(WHALE).aiMessage().text(), text.toString());
  }
}
