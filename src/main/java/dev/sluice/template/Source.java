package dev.sluice.template;

import dev.sluice.InvalidInputException;

/// A template's text and its name in messages. Line ends are `\n`, and one at the end is not there,
/// as in Jinja.
record Source(String name, String text) {
  /// Characters.
  static final int MOST = 1 << 20;

  static Source of(String name, String text) {
    if (text.length() > MOST) {
      throw new InvalidInputException(
          "%s has %d characters, more than the %d that a chat template may have; take the model's own"
              .formatted(name, text.length(), MOST));
    }
    String lines = text.replace("\r\n", "\n").replace('\r', '\n');
    return new Source(name, lines.endsWith("\n") ? lines.substring(0, lines.length() - 1) : lines);
  }

  /// What is wrong, after where it stands.
  InvalidInputException wrong(int at, String what) {
    String before = text.substring(0, Math.min(at, text.length()));
    return new InvalidInputException(
        "%s, line %d, column %d: %s"
            .formatted(
                name,
                1 + before.chars().filter(c -> c == '\n').count(),
                before.length() - before.lastIndexOf('\n'),
                what));
  }

  /// A construct that Jinja has and chat templates have no use for.
  InvalidInputException outside(int at, String construct) {
    return wrong(
        at,
        construct
            + " is outside the part of Jinja that is supported; put a chat_template.jinja without"
            + " it beside the model");
  }
}
