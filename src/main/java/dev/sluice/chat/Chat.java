package dev.sluice.chat;

import dev.sluice.InvalidInputException;
import dev.sluice.generation.Choice;
import dev.sluice.generation.Generation.Ending;
import dev.sluice.generation.Generator;
import dev.sluice.generation.Prompt;
import dev.sluice.generation.Restriction;
import dev.sluice.generation.TextStream;
import dev.sluice.state.PrefixCache;
import dev.sluice.state.PrefixCache.Reuse;
import dev.sluice.template.Conversation;
import java.time.LocalDateTime;
import java.time.ZoneId;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.BooleanSupplier;
import org.jspecify.annotations.Nullable;

/// One conversation with a model, turn by turn.
///
/// For one thread.
public final class Chat {
  /// Hears what the model says.
  public interface Listener extends AnswerReader.Listener {
    /// Hears that some tokens of the conversation have been read, out of `total`.
    void onRead(int tokens, int total);
  }

  /// What the model said.
  ///
  /// @param ending why there is no more; [Ending#CALLER] where it was stopped
  /// @param promptTokens of the conversation before it
  /// @param cachedTokens those of them that were not read again
  /// @param tokens of the answer
  /// @param drafted how many tokens a head has guessed; 0 without one
  /// @param accepted those of them that the model has chosen too
  /// @param promptSeconds until the first token
  /// @param seconds from there to the end
  public record Answer(
      Message message,
      Ending ending,
      int promptTokens,
      int cachedTokens,
      int tokens,
      int drafted,
      int accepted,
      double promptSeconds,
      double seconds) {
    /// Whether it was not stopped before its first token.
    public boolean hasBegun() {
      return tokens > 0 || ending != Ending.CALLER;
    }
  }

  private final Generator generator;
  private final ChatFormat format;
  private final Set<Integer> stopIds;
  private final PrefixCache cache;
  private final Map<String, @Nullable Object> variables;
  private final Map<Integer, String> controls = new HashMap<>();
  private final List<Message> messages;

  /// @param stopIds tokens that end an answer
  /// @param cache of the model, which stays its owner's: what was read is not read again
  /// @param variables what the template knows besides, such as `enable_thinking`
  /// @param messages of before
  public Chat(
      Generator generator,
      ChatFormat format,
      Set<Integer> stopIds,
      PrefixCache cache,
      Map<String, @Nullable Object> variables,
      List<Message> messages) {
    this.generator = generator;
    this.format = format;
    this.stopIds = Set.copyOf(stopIds);
    this.cache = cache;
    this.variables = new HashMap<>(variables);
    this.messages = new ArrayList<>(messages);
    format.tokenizer().controlTokens().forEach((text, id) -> controls.put(id, text));
  }

  /// What was said so far, the system's message first where there is one.
  public List<Message> messages() {
    return List.copyOf(messages);
  }

  /// Tells the model what it is; empty takes an earlier message of the system away.
  public void system(String content) {
    if (!messages.isEmpty() && messages.getFirst().role() == Message.Role.SYSTEM) {
      messages.removeFirst();
    }
    if (!content.isEmpty()) {
      messages.addFirst(new Message(Message.Role.SYSTEM, content));
    }
  }

  /// Forgets all but the system's message.
  public void forget() {
    messages.removeIf(message -> message.role() != Message.Role.SYSTEM);
  }

  /// Takes the last question back, and what was answered.
  ///
  /// @return the question, or null where there is none
  public @Nullable String undo() {
    for (int i = messages.size() - 1; i >= 0; i--) {
      if (messages.get(i).role() == Message.Role.USER) {
        String question = messages.get(i).content();
        messages.subList(i, messages.size()).clear();
        return question;
      }
    }
    return null;
  }

  /// Makes the conversation what it was, as [#messages] gave it.
  public void restore(List<Message> before) {
    messages.clear();
    messages.addAll(before);
  }

  /// Sets a variable of the template.
  public void variable(String name, @Nullable Object value) {
    variables.put(name, value);
  }

  /// Asks, and lets the model answer. The question and the answer, also one that was stopped, are
  /// part of the conversation then; where this fails, or is stopped before the first token, it is
  /// as before.
  ///
  /// @param choice whose restriction is of the answer alone: it begins behind the model's thoughts
  /// @param mostTokens of the answer, thoughts included
  /// @param stop whether to end the answer after the present token
  /// @param listener hears what the model says
  /// @throws InvalidInputException if the conversation has become longer than the model's context,
  ///   or its template refuses it
  public Answer ask(
      String question, Choice choice, int mostTokens, BooleanSupplier stop, Listener listener) {
    messages.addLast(new Message(Message.Role.USER, question));
    boolean answered = false;
    try {
      var answer = answer(choice, mostTokens, stop, listener);
      answered = answer.hasBegun();
      if (answered) {
        messages.addLast(answer.message());
      }
      return answer;
    } finally {
      if (!answered) {
        messages.removeLast();
      }
    }
  }

  private Answer answer(Choice choice, int mostTokens, BooleanSupplier stop, Listener listener) {
    var conversation =
        new Conversation(
            messages.stream().map(Message::asMap).toList(),
            null,
            Conversation.Ending.GENERATION_PROMPT,
            variables);
    var prompt = format.prompt(conversation, LocalDateTime.now(ZoneId.systemDefault()));
    int room = generator.room(prompt.ids().length);
    if (room < 1) {
      throw new InvalidInputException(
          "the conversation has %d tokens with this message, and there is room for %d; take messages back, or begin anew"
              .formatted(prompt.ids().length, prompt.ids().length + room));
    }
    var thinking = new StringBuilder();
    var content = new StringBuilder();
    var reader =
        new AnswerReader(
            prompt.thinks(),
            (part, piece) -> {
              (part == AnswerReader.Part.THINKING ? thinking : content).append(piece);
              listener.onPiece(part, piece);
            });
    var stream = new TextStream(format.tokenizer()::decode);
    long began = System.nanoTime();
    long[] first = {0};
    var generation =
        generator
            .generate(
                new Prompt(prompt.ids(), prompt.turnStarts(), cache, Reuse.LONGEST),
                choice.restricted(restriction(choice, prompt)),
                Math.min(room, mostTokens),
                stopIds,
                1,
                new Generator.Listener() {
                  @Override
                  public boolean onRead(int tokens, int total) {
                    listener.onRead(tokens, total);
                    return !stop.getAsBoolean();
                  }

                  @Override
                  public boolean onToken(int sequence, int token, float[] logits) {
                    if (first[0] == 0) {
                      first[0] = System.nanoTime();
                    }
                    String control = controls.get(token);
                    if (control == null) {
                      reader.add(stream.add(token));
                    } else {
                      reader.add(stream.finish());
                      reader.control(control);
                    }
                    return !stop.getAsBoolean();
                  }
                })
            .getFirst();
    reader.add(stream.finish());
    reader.finish();
    long now = System.nanoTime();
    long at = first[0] == 0 ? now : first[0];
    return new Answer(
        new Message(Message.Role.ASSISTANT, content.toString(), thinking.toString()),
        generation.ending(),
        prompt.ids().length,
        generation.cachedTokens(),
        generation.tokens().size(),
        generation.drafted(),
        generation.accepted(),
        (at - began) / 1e9,
        (now - at) / 1e9);
  }

  private Restriction restriction(Choice choice, ChatFormat.Prompt prompt) {
    Restriction answer = choice.restrictions().apply(0);
    return answer.equals(Restriction.NONE)
        ? answer
        : AfterThoughts.around(() -> answer, format, prompt).get();
  }
}
