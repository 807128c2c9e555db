package dev.sluice.openai;

import dev.sluice.generation.TokenLogprob;
import dev.sluice.serving.AnswerText;
import dev.sluice.serving.ServedModel;
import java.util.HexFormat;
import java.util.List;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;

/// The answer of `/v1/completions`.
final class CompletionReply extends Reply {
  private static final char REPLACEMENT = '\uFFFD';

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
      texts.add(name(token.token()));
      own.add(finite(token.logprob()));
      ObjectNode all = likeliest.addObject();
      all.set(name(token.token()), finite(token)); // some tokens have one text: its own counts
      token.likeliest().forEach(each -> all.putIfAbsent(name(each.token()), finite(each)));
    }
    return logprobs;
  }

  private static JsonNode finite(TokenLogprob token) {
    return JSON.numberNode(finite(token.logprob()));
  }

  /// A token's text. Those that are parts of characters would all have one, so they are told by
  /// their bytes, as OpenAI tells them: `bytes:\xe2\x80`.
  private String name(int token) {
    String text = model().text(token);
    byte[] bytes = model().bytes(token);
    if (text.indexOf(REPLACEMENT) < 0 || bytes == null) {
      return text;
    }
    var name = new StringBuilder("bytes:");
    for (byte each : bytes) {
      name.append("\\x").append(HexFormat.of().toHexDigits(each));
    }
    return name.toString();
  }
}
