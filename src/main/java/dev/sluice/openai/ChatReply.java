package dev.sluice.openai;

import dev.sluice.generation.TokenLogprob;
import dev.sluice.serving.AnswerText;
import dev.sluice.serving.ServedModel;
import java.util.List;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;

/// The answer of `/v1/chat/completions`.
final class ChatReply extends Reply {
  private final ChatRequest request;

  ChatReply(Exchange exchange, ServedModel model, ChatRequest request, long number, long created) {
    super(exchange, model, request.common(), "chatcmpl-" + created + "x" + number, created);
    this.request = request;
  }

  @Override
  String kind() {
    return "chat.completion";
  }

  @Override
  String eventKind() {
    return "chat.completion.chunk";
  }

  @Override
  AnswerText reader(Choice choice) {
    return new AnswerText(
        model(),
        request.common().stops(),
        request.thinks(),
        request.tools(),
        request.oneCall(),
        choice);
  }

  @Override
  ObjectNode opening() {
    return JSON.objectNode().put("role", "assistant").put("content", "");
  }

  @Override
  ObjectNode text(String piece) {
    return JSON.objectNode().put("content", piece);
  }

  @Override
  ObjectNode thought(String piece) {
    return JSON.objectNode().put("reasoning_content", piece);
  }

  @Override
  void add(ObjectNode choice, @Nullable ObjectNode news) {
    choice.set("delta", news == null ? JSON.objectNode() : news);
  }

  @Override
  void addWhole(ObjectNode choice, Choice text) {
    ObjectNode message = choice.putObject("message");
    message.put("role", "assistant");
    boolean onlyCalls = text.text.isEmpty() && !text.calls.isEmpty();
    message.put("content", onlyCalls ? null : text.text.toString());
    if (!text.thoughts.isEmpty()) {
      message.put("reasoning_content", text.thoughts.toString());
    }
    message.putNull("refusal");
    if (!text.calls.isEmpty()) {
      message.set("tool_calls", text.calls);
    }
  }

  /// Of all tokens, thoughts included.
  @Override
  ObjectNode logprobs(List<TokenLogprob> tokens) {
    ObjectNode logprobs = JSON.objectNode();
    ArrayNode content = logprobs.putArray("content");
    for (var token : tokens) {
      ObjectNode one = content.add(of(token)).get(content.size() - 1).asObject();
      ArrayNode likeliest = one.putArray("top_logprobs");
      token.likeliest().forEach(each -> likeliest.add(of(each)));
    }
    logprobs.putNull("refusal");
    return logprobs;
  }

  private ObjectNode of(TokenLogprob token) {
    ObjectNode one = JSON.objectNode();
    one.put("token", model().text(token.token()));
    one.put("logprob", finite(token.logprob()));
    one.set("bytes", bytes(token.token()));
    return one;
  }
}
