package dev.sluice.langchain4j;

import dev.langchain4j.exception.LangChain4jException;
import dev.langchain4j.model.ModelProvider;
import dev.langchain4j.model.chat.Capability;
import dev.langchain4j.model.chat.ChatModel;
import dev.langchain4j.model.chat.listener.ChatModelListener;
import dev.langchain4j.model.chat.request.ChatRequest;
import dev.langchain4j.model.chat.request.ChatRequestParameters;
import dev.langchain4j.model.chat.response.ChatResponse;
import dev.sluice.serving.Answer;
import dev.sluice.serving.TextModel;
import java.util.List;
import java.util.Set;

/// Answers messages. Any number of these and of the others may share a [TextModel], whose engine
/// writes for all of them at once. Threads may share one.
///
/// An interrupt of the thread that asks ends the answer.
public final class SluiceChatModel implements ChatModel {
  private final TextModel model;
  private final ChatRequestParameters defaults;
  private final List<ChatModelListener> listeners;

  /// As the model's makers suggest.
  ///
  /// @param model which stays its owner's
  public SluiceChatModel(TextModel model) {
    this(model, SluiceChatRequestParameters.NONE, List.of());
  }

  /// @param defaults what holds where a request says nothing
  public SluiceChatModel(TextModel model, ChatRequestParameters defaults) {
    this(model, defaults, List.of());
  }

  /// @param defaults what holds where a request says nothing
  public SluiceChatModel(
      TextModel model, ChatRequestParameters defaults, List<ChatModelListener> listeners) {
    this.model = model;
    this.defaults = SluiceChatRequestParameters.NONE.overrideWith(defaults);
    this.listeners = List.copyOf(listeners);
  }

  @Override
  public ChatResponse doChat(ChatRequest request) {
    try {
      var answer = Asking.begin(model, request).await();
      if (answer.ending() == Answer.Ending.CANCELLED) {
        throw new LangChain4jException("the thread was interrupted that asked");
      }
      return Responses.of(model, answer, Responses.calls(answer));
    } catch (RuntimeException e) {
      throw Responses.failure(e);
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
