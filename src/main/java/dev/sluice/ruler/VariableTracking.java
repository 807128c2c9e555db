package dev.sluice.ruler;

import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.SplittableRandom;
import org.jspecify.annotations.Nullable;

/// A chain of variables that are assigned one to the next, among lines of noise: the task `vt`.
///
/// @param example a solved one of the same form, which stands before the task; null while it is
///   made itself
record VariableTracking(RulerMode mode, int maxLength, @Nullable Example example)
    implements PromptMaker {
  /// Tokens that the solved example may have.
  static final int EXAMPLE_LENGTH = 500;

  private static final int VARIABLES = 5;
  private static final String EXAMPLE_VALUE = "12345";

  /// @param text the example's task with its answer prefix
  /// @param names of its variables, as its answer has them
  record Example(String text, List<String> names) {}

  @Override
  public @Nullable Prompt make(int size, int number, SplittableRandom random) {
    var names = names(example == null ? 3 : 5, random);
    String value = example == null && mode == RulerMode.NVIDIA ? EXAMPLE_VALUE : value(random);
    List<String> chain = new ArrayList<>();
    chain.add("VAR %s = %s".formatted(names.getFirst(), value));
    for (int i = 1; i < VARIABLES; i++) {
      chain.add("VAR %s = VAR %s ".formatted(names.get(i), names.get(i - 1)));
    }
    String context = context(size, chain, random);
    if (context == null) {
      return null;
    }
    String task =
        "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n%s\nQuestion: Find all variables that are assigned the value %s in the text above."
            .formatted(context, value);
    String prefix =
        " Answer: According to the chain(s) of variable assignment in the text above, %d variables are %s the value %s, they are: "
            .formatted(VARIABLES, mode == RulerMode.NVIDIA ? "assigned" : "assgined", value);
    if (example == null) {
      return Prompt.counted(task, prefix, names);
    }
    String before = example(example, random);
    String input = before + task;
    return switch (mode) {
      case NVIDIA -> Prompt.counted(input, prefix, names);
      case LM_EVAL ->
          new Prompt(
              input,
              " ",
              prefix.strip(),
              names,
              input + prefix,
              input + prefix + " ['" + String.join("', '", names) + "']");
    };
  }

  private @Nullable String context(int size, List<String> chain, SplittableRandom random) {
    boolean port = mode == RulerMode.LM_EVAL;
    List<String> lines =
        new ArrayList<>(Collections.nCopies(size, Needles.NOISE + (port ? "\n" : "")));
    if (port && size <= VARIABLES) { // the port splits lines where there are few
      List<String> pieces = new ArrayList<>();
      for (String line : lines) {
        for (String piece : line.split("\\.", -1)) {
          pieces.add(piece.isBlank() ? piece : piece + ".");
        }
      }
      lines = pieces;
    }
    if (lines.size() < VARIABLES) {
      return null;
    }
    var places = new ArrayList<>(Draw.sample(lines.size(), VARIABLES, random));
    Collections.sort(places);
    for (int i = 0; i < VARIABLES; i++) {
      lines.add(places.get(i) + i, chain.get(i));
    }
    return String.join(port ? " " : "\n", lines).replace(". \n", ".\n");
  }

  /// The example with other names, and NVIDIA's with another value too.
  private String example(Example solved, SplittableRandom random) {
    String text =
        solved.text()
            + " "
            + String.join(" ", solved.names())
            + (mode == RulerMode.NVIDIA ? "\n" : "\n\n");
    var renamed = names(3, random);
    for (int i = 0; i < VARIABLES; i++) {
      // In two passes, since a new name may be an old one.
      text = text.replace(solved.names().get(i), "\0" + i);
    }
    for (int i = 0; i < VARIABLES; i++) {
      text = text.replace("\0" + i, renamed.get(i));
    }
    return mode == RulerMode.NVIDIA
        ? text.replace(EXAMPLE_VALUE, value(random)) + "\n"
        : text + "\n\n";
  }

  private static String value(SplittableRandom random) {
    return String.valueOf(random.nextInt(10_000, 99_999));
  }

  /// Different ones. The words VAR and those of the noise have letters of other cases.
  private static List<String> names(int letters, SplittableRandom random) {
    Set<String> names = new LinkedHashSet<>();
    while (names.size() < VARIABLES) {
      String name = Draw.letters(letters, 'A', 'Z', random);
      if (!name.equals("VAR")) {
        names.add(name);
      }
    }
    return List.copyOf(names);
  }

  @Override
  public int step() {
    return example == null || (mode == RulerMode.NVIDIA && maxLength < 4096) ? 5 : 10;
  }

  @Override
  public int floor(int number) {
    return step();
  }

  @Override
  public boolean grows() {
    return mode == RulerMode.LM_EVAL;
  }

  @Override
  public int reserved() {
    return example == null && mode == RulerMode.NVIDIA ? 0 : 30;
  }
}
