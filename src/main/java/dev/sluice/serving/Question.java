package dev.sluice.serving;

import dev.sluice.InvalidInputException;
import dev.sluice.chat.AfterThoughts;
import dev.sluice.chat.ChatFormat;
import dev.sluice.chat.Message;
import dev.sluice.generation.JsonRestriction;
import dev.sluice.generation.Restriction;
import dev.sluice.schema.TokenMask;
import dev.sluice.template.Conversation;
import java.time.LocalDateTime;
import java.time.ZoneId;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;

/// Messages that a model is to answer, and what the answer may be.
///
/// @param messages as chat templates take them, each with its `role`
/// @param tools that the model is told of
/// @param forced the tools of which the answer calls one, and is nothing else; none where the model
///   may choose
/// @param json which tokens may come in an answer that is JSON; null for any text
/// @param variables what the template knows besides, such as `enable_thinking`
public record Question(
    List<Map<String, @Nullable Object>> messages,
    List<Tool> tools,
    List<Tool> forced,
    @Nullable TokenMask json,
    Map<String, @Nullable Object> variables) {
  /// @throws InvalidInputException if the answer is to be both JSON and a call
  public Question {
    if (json != null && !forced.isEmpty()) {
      throw new InvalidInputException(
          "JSON and a call that is forced cannot both be the answer; leave one out");
    }
  }

  /// Messages that are answered with any text.
  public static Question of(Message... messages) {
    return new Question(
        Arrays.stream(messages).map(Message::asMap).toList(), List.of(), List.of(), null, Map.of());
  }

  /// With tools, which the model may call.
  public Question withTools(List<Tool> others) {
    return new Question(messages, others, forced, json, variables);
  }

  /// With tools of which the answer calls one, and is nothing else.
  public Question withForcedCall(List<Tool> others) {
    return new Question(messages, others, others, json, variables);
  }

  /// With an answer in JSON, as [TextModel#json] says.
  public Question withJson(TokenMask mask) {
    return new Question(messages, tools, forced, mask, variables);
  }

  /// With a variable of the template.
  public Question withVariable(String name, Object value) {
    Map<String, @Nullable Object> others = new HashMap<>(variables);
    others.put(name, value);
    return new Question(messages, tools, forced, json, others);
  }

  /// With another message.
  public Question with(Message message) {
    return with(message.asMap());
  }

  /// With what the model answered; a call is not forced again.
  public Question with(Answer answer) {
    var message = new Message(Message.Role.ASSISTANT, answer.text(), answer.thoughts()).asMap();
    if (!answer.calls().isEmpty()) {
      message.put(
          "tool_calls",
          answer.calls().stream()
              .map(
                  call ->
                      Map.of(
                          "type",
                          "function",
                          "function",
                          Map.of("name", call.name(), "arguments", call.arguments())))
              .toList());
    }
    return new Question(messages, tools, List.of(), json, variables).with(message);
  }

  /// With what a tool gave that the model has called.
  public Question withResult(ToolCall call, String result) {
    Map<String, @Nullable Object> message = new LinkedHashMap<>();
    message.put("role", "tool");
    message.put("name", call.name());
    message.put("content", result);
    return with(message);
  }

  private Question with(Map<String, @Nullable Object> message) {
    var all = new ArrayList<>(messages);
    all.add(message);
    return new Question(all, tools, forced, json, variables);
  }

  private boolean isRestricted() {
    return json != null || !forced.isEmpty();
  }

  /// What the model continues.
  ///
  /// @throws InvalidInputException if the model has no chat template, or its template refuses this
  public ChatFormat.Prompt prompt(ServedModel model) {
    if (!tools.isEmpty()) {
      model.requireTools();
    }
    var conversation =
        new Conversation(
            messages,
            tools.isEmpty()
                ? null
                : tools.stream().map(tool -> Conversation.plain(tool.described())).toList(),
            Conversation.Ending.GENERATION_PROMPT,
            variables);
    return model.format().prompt(conversation, LocalDateTime.now(ZoneId.systemDefault()));
  }

  /// What restricts the answer, a new one each time. It begins behind thoughts, if there are any.
  ///
  /// @throws InvalidInputException if the model's answers cannot be restricted
  public Supplier<Restriction> restriction(ServedModel model, ChatFormat.Prompt prompt) {
    if (!isRestricted()) {
      return () -> Restriction.NONE;
    }
    AfterThoughts.requireAnswersAlone(model.format()); // before what a call's form would say
    Supplier<Restriction> answer = json == null ? ForcedCall.of(forced, model) : json(json, model);
    return AfterThoughts.around(answer, model.format(), prompt);
  }

  /// JSON, or a call of one of the tools.
  private Supplier<Restriction> json(TokenMask mask, ServedModel model) {
    Supplier<Restriction> value = () -> new JsonRestriction(mask, OptionalInt.empty());
    if (tools.isEmpty()) {
      return value;
    }
    var call = ForcedCall.of(tools, model);
    int mark = model.callMark();
    return () -> new JsonOrCall(value.get(), call.get(), mark);
  }
}
