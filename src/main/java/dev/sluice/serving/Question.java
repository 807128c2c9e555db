package dev.sluice.serving;

import dev.sluice.InvalidInputException;
import dev.sluice.chat.AfterThoughts;
import dev.sluice.chat.ChatFormat;
import dev.sluice.chat.ChatFormat.Thoughts;
import dev.sluice.generation.JsonRestriction;
import dev.sluice.generation.Restriction;
import dev.sluice.schema.TokenMask;
import dev.sluice.template.Conversation;
import java.time.LocalDateTime;
import java.time.ZoneId;
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
    if (model.templatesMention("<|channel|>")) {
      throw new InvalidInputException(
          "neither JSON nor a call can be asked of this model, whose answers stand in channels");
    }
    Supplier<Restriction> answer =
        json != null
            ? () -> new JsonRestriction(json, OptionalInt.empty())
            : ForcedCall.of(forced, model);
    var begin = model.thoughts();
    var end = model.thoughtsEnd();
    boolean thinks = prompt.thoughts() == Thoughts.OPEN;
    if (thinks && end.isEmpty()) {
      throw new InvalidInputException(
          "neither JSON nor a call can be asked of this model while it thinks, since %s is not one of its tokens; turn thinking off"
              .formatted(ChatFormat.THOUGHTS_END));
    }
    boolean mayThink =
        prompt.thoughts() == Thoughts.NOT_BEGUN && model.templatesMention(ChatFormat.THOUGHTS_END);
    if (end.isEmpty() || begin.isEmpty() || !(thinks || mayThink)) {
      return answer;
    }
    return () -> new AfterThoughts(answer.get(), thinks, begin.getAsInt(), end.getAsInt());
  }
}
