package dev.sluice.template;

/// What one rendering may still do. Each step, and each piece of memory that is filled or searched,
/// is paid for, so that a template of any kind ends.
final class Work {
  static final int MOST_STEPS = 1_000_000;

  /// Characters that cost as much as a step.
  private static final int STEP = 128;

  /// What a place in a list costs, in characters.
  static final int ELEMENT = 8;

  /// What a small value that is made costs, in characters.
  static final int OBJECT = 64;

  /// How much of what is looked for is compared at the price of one character.
  private static final int COMPARED = 16;

  /// Calls, blocks, operations and values within one another.
  private static final int DEEPEST = Integer.getInteger("deep", 300);

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

  /// A search for a string in another, which compares all of the one at each place of the other in
  /// the worst case.
  void search(String in, String wanted) {
    spend((long) in.length() * (1 + wanted.length() / COMPARED));
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
