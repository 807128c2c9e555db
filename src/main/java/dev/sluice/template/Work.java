package dev.sluice.template;

/// What one rendering may still do. Each step, and each piece of memory that is filled or searched,
/// is paid for, so that a template of any kind ends.
final class Work {
  static final int MOST_STEPS = 1_000_000;

  /// Characters that cost as much as a step.
  private static final int STEP = 128;

  /// What an element of a list costs, in characters.
  static final int ELEMENT = 8;

  /// Calls, blocks, operations and values within one another.
  private static final int DEEPEST = 500;

  private long left = (long) MOST_STEPS * STEP;
  private int depth;

  void step() {
    spend(STEP);
  }

  /// @param characters that are read or written
  void spend(long characters) {
    left -= characters;
    if (left < 0) {
      throw TemplateFailure.of(
          "the template takes more than %d steps; it does not end, or the conversation is too long",
          MOST_STEPS);
    }
  }

  void enter() {
    step();
    depth++;
    if (depth > DEEPEST) {
      throw TemplateFailure.of(
          "calls, operations or values are nested deeper than %d levels; such a template or"
              + " conversation is not taken",
          DEEPEST);
    }
  }

  /// Not called after a failure, which ends the rendering.
  void leave() {
    depth--;
  }
}
