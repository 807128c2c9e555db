package dev.sluice.openai;

import dev.sluice.generation.TokenLogprob;
import dev.sluice.serving.AnswerText;
import dev.sluice.serving.ServedModel;
import java.util.List;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;

/// The answer of `/v1/completions`.
final class CompletionReply extends Reply {
  private final CompletionRequest request;

  CompletionReply(
      Exchange exchange, ServedModel model, CompletionRequest request, long number, long created) {
    super(exchange, model, request.common(), "cmpl-" + created + "x" + number, created);
    this.request = request;
  }

  @Override
  String kind() {
    return "text_completion";
  }

  @Override
  String eventKind() {
    return "text_completion";
  }

  @Override
  AnswerText reader(Choice choice) {
    if (request.echo()) {
      choice.onText(request.prompts().get(choice.index / request.common().sequences()).shown());
    }
    return new AnswerText(model(), request.common().stops(), choice);
  }

  @Override
  @Nullable ObjectNode opening() {
    return null;
  }

  @Override
  ObjectNode text(String piece) {
    return JSON.objectNode().put("text", piece);
  }

  @Override
  ObjectNode thought(String piece) {
    return text(piece); // a plain text has none
  }

  @Override
  void add(ObjectNode choice, @Nullable ObjectNode news) {
    choice.put("text", news == null ? "" : news.path("text").stringValue());
  }

  @Override
  void addWhole(ObjectNode choice, Choice text) {
    choice.put("text", text.text.toString());
  }

  @Override
  ObjectNode logprobs(List<TokenLogprob> tokens) {
    ObjectNode logprobs = JSON.objectNode();
    ArrayNode texts = logprobs.putArray("tokens");
    ArrayNode own = logprobs.putArray("token_logprobs");
    ArrayNode likeliest = logprobs.putArray("top_logprobs");
    for (var token : tokens) {
      texts.add(model().text(token.token()));
      own.add(finite(token.logprob()));
      ObjectNode all = likeliest.addObject();
      token
          .likeliest()
          .forEach(each -> all.put(model().text(each.token()), finite(each.logprob())));
    }
    return logprobs;
  }
}
