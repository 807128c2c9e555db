package dev.sluice.langchain4j;

import dev.langchain4j.agent.tool.ToolExecutionRequest;
import dev.langchain4j.data.message.AiMessage;
import dev.langchain4j.exception.InternalServerException;
import dev.langchain4j.exception.InvalidRequestException;
import dev.langchain4j.exception.RateLimitException;
import dev.langchain4j.model.chat.response.ChatResponse;
import dev.langchain4j.model.chat.response.ChatResponseMetadata;
import dev.langchain4j.model.output.FinishReason;
import dev.langchain4j.model.output.TokenUsage;
import dev.sluice.InvalidInputException;
import dev.sluice.serving.Answer;
import dev.sluice.serving.RefusedException;
import dev.sluice.serving.TextModel;
import dev.sluice.serving.ToolCall;
import java.time.Instant;
import java.util.List;
import java.util.concurrent.atomic.AtomicLong;

/// Answers and failures as LangChain4j has them.
final class Responses {
  /// Differs from one start of a program to the next, whose conversations may be kept.
  private static final String BEGAN = Long.toString(Instant.now().toEpochMilli(), 36);

  private static final AtomicLong NUMBERS = new AtomicLong();

  private Responses() {}

  private static String id(String kind) {
    return "%s_%s_%d".formatted(kind, BEGAN, NUMBERS.incrementAndGet());
  }

  static List<ToolExecutionRequest> calls(Answer answer) {
    return answer.calls().stream().map(Responses::call).toList();
  }

  static ToolExecutionRequest call(ToolCall call) {
    return ToolExecutionRequest.builder()
        .id(id("call"))
        .name(call.name())
        .arguments(call.arguments())
        .build();
  }

  static ChatResponse of(TextModel model, Answer answer, List<ToolExecutionRequest> calls) {
    var message = AiMessage.builder();
    if (!answer.text().isEmpty() || calls.isEmpty()) {
      message.text(answer.text());
    }
    if (!answer.thoughts().isEmpty()) {
      message.thinking(answer.thoughts());
    }
    message.toolExecutionRequests(calls);
    return ChatResponse.builder()
        .aiMessage(message.build())
        .metadata(
            ChatResponseMetadata.builder()
                .id(id("answer"))
                .modelName(model.known().name())
                .tokenUsage(new TokenUsage(answer.promptTokens(), answer.tokens()))
                .finishReason(
                    switch (answer.ending()) {
                      case STOP -> FinishReason.STOP;
                      case LENGTH -> FinishReason.LENGTH;
                      case CALLS -> FinishReason.TOOL_EXECUTION;
                      case CANCELLED -> FinishReason.OTHER;
                    })
                .build())
        .build();
  }

  /// A failure of Sluice as LangChain4j's, which says whether to ask again; any other stays.
  static RuntimeException failure(RuntimeException e) {
    return switch (e) {
      case InvalidInputException wrong ->
          new InvalidRequestException(String.valueOf(wrong.getMessage()), wrong);
      case RefusedException busy when busy.retrySeconds() > 0 ->
          new RateLimitException(String.valueOf(busy.getMessage()), busy);
      case RefusedException ending ->
          new InternalServerException(String.valueOf(ending.getMessage()), ending);
      default -> e;
    };
  }
}
