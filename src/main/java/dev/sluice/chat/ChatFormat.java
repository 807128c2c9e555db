package dev.sluice.chat;

import dev.sluice.template.ChatTemplates;
import dev.sluice.template.Conversation;
import dev.sluice.template.Rendering;
import dev.sluice.tokenizer.Tokenizer;
import java.time.LocalDateTime;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Objects;
import java.util.stream.IntStream;

/// What a model takes conversations as: its templates, and the tokenizer that makes tokens of the
/// text that they write.
public record ChatFormat(ChatTemplates templates, Tokenizer tokenizer) {
  /// Begins thoughts.
  public static final String THOUGHTS = "<think>";

  /// Ends thoughts.
  public static final String THOUGHTS_END = "</think>";

  /// How a prompt leaves the model's thoughts.
  public enum Thoughts {
    /// The template has opened them.
    OPEN,
    /// The template has opened and ended them, so that there are none.
    ENDED,
    /// Whether there are any is the model's to say.
    NOT_BEGUN
  }

  /// What the model continues.
  ///
  /// @param turnStarts places of the tokens that begin a turn
  @SuppressWarnings("ArrayRecordComponent") // is only read, right after it was made
  public record Prompt(int[] ids, int[] turnStarts, Thoughts thoughts) {
    /// Whether it ends within thoughts that the template has opened.
    public boolean thinks() {
      return thoughts == Thoughts.OPEN;
    }
  }

  /// The tokens of a conversation. Control tokens count where the template wrote them; `<|im_end|>`
  /// in a message is text like any other.
  ///
  /// @param now what the template takes for the time
  public Prompt prompt(Conversation conversation, LocalDateTime now) {
    var rendering = templates.render(conversation, now);
    int[] ids = ids(rendering);
    return new Prompt(
        ids,
        turnStarts(ids, rendering.text(), conversation, now),
        thoughts(rendering.text().stripTrailing()));
  }

  private static Thoughts thoughts(String text) {
    return text.endsWith(THOUGHTS)
        ? Thoughts.OPEN
        : text.endsWith(THOUGHTS_END) ? Thoughts.ENDED : Thoughts.NOT_BEGUN;
  }

  /// The control token that the answer's head begins with, behind the conversation without it,
  /// begins every turn; none is known where something else stands there.
  private int[] turnStarts(int[] ids, String text, Conversation conversation, LocalDateTime now) {
    var closed =
        new Conversation(
            conversation.messages(),
            conversation.tools(),
            Conversation.Ending.CLOSED,
            conversation.variables());
    String without = templates.render(closed, now).text();
    return tokenizer.controlTokens().entrySet().stream()
        .filter(
            control ->
                text.startsWith(without) && text.startsWith(control.getKey(), without.length()))
        .max(Comparator.comparingInt(control -> control.getKey().length()))
        .map(control -> control.getValue())
        .map(start -> IntStream.range(0, ids.length).filter(i -> ids[i] == start).toArray())
        .orElse(new int[0]);
  }

  /// The whole text at once, as `transformers` encodes it, where that makes control tokens of
  /// nothing else.
  private int[] ids(Rendering rendering) {
    var controls = tokenizer.controlTokens();
    var pieces = rendering.pieces(controls.keySet());
    int[] ids = tokenizer.encode(rendering.text());
    List<Integer> wanted =
        pieces.stream()
            .filter(Rendering.Piece::isControl)
            .map(piece -> controls.get(piece.text()))
            .toList();
    List<Integer> found = Arrays.stream(ids).filter(controls::containsValue).boxed().toList();
    return found.equals(wanted)
        ? ids
        : pieces.stream()
            .flatMapToInt(
                piece ->
                    piece.isControl()
                        ? IntStream.of(Objects.requireNonNull(controls.get(piece.text())))
                        : Arrays.stream(tokenizer.encodeAsText(piece.text())))
            .toArray();
  }
}
