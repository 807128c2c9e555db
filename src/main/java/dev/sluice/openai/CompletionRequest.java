package dev.sluice.openai;

import dev.sluice.generation.Restriction;
import dev.sluice.serving.Engine;
import dev.sluice.serving.ServedModel;
import dev.sluice.serving.TextRequest;
import java.util.ArrayList;
import java.util.List;
import tools.jackson.databind.JsonNode;

/// A request to continue texts, as it was understood.
///
/// @param echo whether each text begins with its prompt
record CompletionRequest(Common common, List<Prompt> prompts, boolean echo) {
  private static final int MOST_PROMPTS = 64;
  private static final int MOST_TOKENS = 1 << 20;
  private static final int MOST_LOGPROBS = 20;

  /// Between the seeds of prompts where the request has none: no other request's lies there.
  private static final long NEXT_PROMPT = 1L << 32;

  /// @param shown its text
  record Prompt(String shown, TextRequest text) {}

  /// @param number of the request
  /// @param usual the most tokens of a text where the request does not say
  static CompletionRequest read(
      Fields fields, ServedModel model, Engine engine, long number, int usual) {
    var common = Common.read(fields, model, number);
    int logprobs = (int) fields.whole("logprobs", TextRequest.NO_LOGPROBS, 0, MOST_LOGPROBS);
    boolean echo = fields.flag("echo", false);
    if (echo && logprobs >= 0) {
      throw ApiException.invalid(
          "logprobs",
          "log-probabilities of the prompt are not computed; leave echo or logprobs out");
    }
    String suffix = fields.text("suffix", "");
    if (!suffix.isEmpty()) {
      throw ApiException.invalid(
          "suffix", "suffix is not possible; texts are continued at their end");
    }
    fields.whole("best_of", common.sequences(), common.sequences(), common.sequences());
    List<JsonNode> given = given(fields);
    fields.requireAllKnown();
    var prompts = new ArrayList<Prompt>();
    for (int i = 0; i < given.size(); i++) {
      String place = given.size() == 1 ? "prompt" : "prompt[%d]".formatted(i);
      int[] ids = ids(place, given.get(i), model, engine);
      String shown =
          given.get(i).isString() ? given.get(i).stringValue() : model.tokenizer().decode(ids);
      prompts.add(
          new Prompt(
              shown,
              (fields.has("seed") ? common : common.reseeded(i * NEXT_PROMPT))
                  .text(
                      engine,
                      place,
                      ids,
                      new int[0],
                      _ -> Restriction.NONE,
                      model.stopIds(),
                      usual,
                      logprobs)));
    }
    return new CompletionRequest(common, prompts, echo);
  }

  /// A string, token numbers, or a list of one or the other.
  private static List<JsonNode> given(Fields fields) {
    JsonNode prompt = fields.node("prompt");
    if (prompt == null) {
      throw ApiException.invalid("prompt", "prompt is missing; it must be text");
    }
    if (prompt.isString() || (prompt.isArray() && !prompt.isEmpty() && prompt.get(0).isNumber())) {
      return List.of(prompt);
    }
    var list = fields.list("prompt", MOST_PROMPTS);
    if (list.isEmpty()) {
      throw ApiException.invalid("prompt", "prompt has no items; give some text");
    }
    return list;
  }

  private static int[] ids(String place, JsonNode prompt, ServedModel model, Engine engine) {
    if (prompt.isString()) {
      return Fields.at(place, () -> model.encode(prompt.stringValue()));
    }
    if (!prompt.isArray() || prompt.size() > MOST_TOKENS) {
      throw Fields.wrong(place, prompt, "a string or a list of token numbers");
    }
    int[] ids = new int[prompt.size()];
    for (int i = 0; i < ids.length; i++) {
      String at = "%s[%d]".formatted(place, i);
      ids[i] = (int) Fields.whole(at, prompt.get(i), 0, engine.vocabulary() - 1);
    }
    return ids;
  }
}
