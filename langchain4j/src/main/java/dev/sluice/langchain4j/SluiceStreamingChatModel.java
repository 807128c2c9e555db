package dev.sluice.langchain4j;

import dev.langchain4j.agent.tool.ToolExecutionRequest;
import dev.langchain4j.model.ModelProvider;
import dev.langchain4j.model.chat.Capability;
import dev.langchain4j.model.chat.StreamingChatModel;
import dev.langchain4j.model.chat.listener.ChatModelListener;
import dev.langchain4j.model.chat.request.ChatRequest;
import dev.langchain4j.model.chat.request.ChatRequestParameters;
import dev.langchain4j.model.chat.response.CompleteToolCall;
import dev.langchain4j.model.chat.response.PartialResponse;
import dev.langchain4j.model.chat.response.PartialResponseContext;
import dev.langchain4j.model.chat.response.PartialThinking;
import dev.langchain4j.model.chat.response.PartialThinkingContext;
import dev.langchain4j.model.chat.response.StreamingChatResponseHandler;
import dev.langchain4j.model.chat.response.StreamingHandle;
import dev.sluice.serving.Answer;
import dev.sluice.serving.AnswerText;
import dev.sluice.serving.TextModel;
import dev.sluice.serving.ToolCall;
import dev.sluice.serving.Writing;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;

/// Answers messages piece by piece, each answer on a virtual thread of its own.
///
/// A handler hears pieces of thoughts and of text, then each call of a tool when it is whole, and
/// at last of the whole answer or of one failure, also of a request that cannot be honoured. After
/// [StreamingHandle#cancel] it hears nothing more.
public final class SluiceStreamingChatModel implements StreamingChatModel {
  private final TextModel model;
  private final ChatRequestParameters defaults;
  private final List<ChatModelListener> listeners;

  /// As the model's makers suggest.
  ///
  /// @param model which stays its owner's
  public SluiceStreamingChatModel(TextModel model) {
    this(model, SluiceChatRequestParameters.NONE, List.of());
  }

  /// @param defaults what holds where a request says nothing
  public SluiceStreamingChatModel(TextModel model, ChatRequestParameters defaults) {
    this(model, defaults, List.of());
  }

  /// @param defaults what holds where a request says nothing
  public SluiceStreamingChatModel(
      TextModel model, ChatRequestParameters defaults, List<ChatModelListener> listeners) {
    this.model = model;
    this.defaults = SluiceChatRequestParameters.NONE.overrideWith(defaults);
    this.listeners = List.copyOf(listeners);
  }

  @Override
  public void doChat(ChatRequest request, StreamingChatResponseHandler handler) {
    Writing writing;
    try {
      writing = Asking.begin(model, request);
    } catch (RuntimeException e) {
      handler.onError(Responses.failure(e));
      return;
    }
    Thread.ofVirtual().name("sluice-answer").start(() -> tell(writing, handler));
  }

  private void tell(Writing writing, StreamingChatResponseHandler handler) {
    var hearing = new Hearing(writing, handler);
    try {
      var answer = writing.await(hearing);
      if (answer.ending() != Answer.Ending.CANCELLED) {
        handler.onCompleteResponse(Responses.of(model, answer, hearing.calls));
      }
    } catch (RuntimeException e) {
      if (!hearing.isCancelled()) {
        handler.onError(Responses.failure(e));
      }
    }
  }

  /// Passes pieces on.
  private static final class Hearing implements AnswerText.Listener, StreamingHandle {
    private final Writing writing;
    private final StreamingChatResponseHandler handler;
    private final List<ToolExecutionRequest> calls = new ArrayList<>();
    private volatile boolean cancelled;

    Hearing(Writing writing, StreamingChatResponseHandler handler) {
      this.writing = writing;
      this.handler = handler;
    }

    @Override
    public void onThought(String piece) {
      if (!cancelled) {
        handler.onPartialThinking(new PartialThinking(piece), new PartialThinkingContext(this));
      }
    }

    @Override
    public void onText(String piece) {
      if (!cancelled) {
        handler.onPartialResponse(new PartialResponse(piece), new PartialResponseContext(this));
      }
    }

    @Override
    public void onCall(String name, String arguments) {
      if (!cancelled) {
        calls.add(Responses.call(new ToolCall(name, arguments)));
        handler.onCompleteToolCall(new CompleteToolCall(calls.size() - 1, calls.getLast()));
      }
    }

    @Override
    public void cancel() {
      cancelled = true;
      writing.cancel();
    }

    @Override
    public boolean isCancelled() {
      return cancelled;
    }
  }

  @Override
  public ChatRequestParameters defaultRequestParameters() {
    return defaults;
  }

  @Override
  public List<ChatModelListener> listeners() {
    return listeners;
  }

  @Override
  public ModelProvider provider() {
    return ModelProvider.OTHER;
  }

  @Override
  public Set<Capability> supportedCapabilities() {
    return Set.of(Capability.RESPONSE_FORMAT_JSON_SCHEMA);
  }
}
