package dev.sluice.schema;

import java.util.ArrayList;
import java.util.List;

/// Where in a JSON value a text stands: a state of the pushdown automaton of a schema. It never
/// changes; [#after] gives another one.
///
/// Between two parts of a value there is at most one space, or a line break and an indentation of
/// at most four blanks for each open array or object; before the value, two blanks. So a text
/// cannot go on with blanks.
public final class JsonState {
  private final ByteAutomaton automaton;
  private final List<Frame> frames;

  private JsonState(ByteAutomaton automaton, List<Frame> frames) {
    this.automaton = automaton;
    this.frames = frames;
  }

  /// Before the first byte.
  public static JsonState start(JsonSchema schema) {
    return new JsonState(new ByteAutomaton(schema), List.of(new Frame.Root(false, 0)));
  }

  /// The state after some bytes; it [#isDead] where no value of the schema goes on like this.
  public JsonState after(byte[] bytes) {
    List<Frame> next = new ArrayList<>(1);
    for (Frame frame : frames) {
      for (Frame reached : automaton.after(frame, bytes, 0, bytes.length)) {
        ByteAutomaton.add(next, reached);
      }
    }
    return new JsonState(automaton, next);
  }

  /// Whether no value of the schema begins like this.
  public boolean isDead() {
    return frames.isEmpty();
  }

  /// Whether the value is complete; a number may still go on.
  public boolean isComplete() {
    return frames.stream().anyMatch(automaton::isComplete);
  }

  List<Frame> frames() {
    return frames;
  }

  ByteAutomaton automaton() {
    return automaton;
  }
}
