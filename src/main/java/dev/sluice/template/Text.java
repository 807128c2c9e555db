package dev.sluice.template;

import java.util.Arrays;
import java.util.function.UnaryOperator;

/// A string that knows which of its characters the template wrote and which are the conversation's.
/// What is cut from it keeps that, so that no filter makes a user's words the template's.
///
/// Indices are those of Java; [#length] counts code points, as Python does.
final class Text {
  /// Characters of any string, and so of a rendering.
  static final int MOST = 4 << 20;

  private static final int[] TEMPLATE = {};
  private static final int[] CONVERSATION = {0};

  static final Text EMPTY = template("");

  private final String string;

  /// Where the origin changes, in order; it begins as the template's.
  private final int[] turns;

  /// Whether it is what Jinja's `safe` makes, which escapes what is added to it.
  private final boolean safe;

  private Text(String string, int[] turns, boolean safe) {
    this.string = string;
    this.turns = turns;
    this.safe = safe;
  }

  static Text template(String string) {
    return new Text(string, TEMPLATE, false);
  }

  static Text conversation(String string) {
    return new Text(string, CONVERSATION, false);
  }

  String string() {
    return string;
  }

  boolean isSafe() {
    return safe;
  }

  Text safe() {
    return new Text(string, turns, true);
  }

  int length() {
    return string.codePointCount(0, string.length());
  }

  boolean isConversations(int at) {
    return turnsUpTo(at) % 2 == 1;
  }

  private int turnsUpTo(int at) {
    int found = Arrays.binarySearch(turns, at);
    return found >= 0 ? found + 1 : -found - 1;
  }

  /// The characters of `from` up to `to`.
  Text cut(int from, int to) {
    if (from == 0 && to == string.length()) {
      return this;
    }
    int first = turnsUpTo(from);
    int[] inside = Arrays.copyOfRange(turns, first, Math.max(first, turnsUpTo(to - 1)));
    boolean begins = first % 2 == 1;
    int[] cut = new int[inside.length + (begins ? 1 : 0)];
    for (int i = 0; i < inside.length; i++) {
      cut[i + (begins ? 1 : 0)] = inside[i] - from;
    }
    return new Text(string.substring(from, to), cut, safe);
  }

  /// Each stretch of one origin.
  void runs(Run run) {
    runs(0, string.length(), run);
  }

  private void runs(int from, int to, Run run) {
    int start = from;
    for (int i = turnsUpTo(from); start < to; i++) {
      int end = i < turns.length ? Math.min(turns[i], to) : to;
      run.of(start, end, i % 2 == 1);
      start = end;
    }
  }

  interface Run {
    void of(int from, int to, boolean conversations);
  }

  /// The text after a change of letters such as upper case, which may change its length.
  Text mapped(UnaryOperator<String> change, Work work) {
    var builder = new Builder(work);
    runs((from, to, origin) -> builder.append(change.apply(string.substring(from, to)), origin));
    String whole = change.apply(string); // the end of a word may change a letter within it
    int[] ends = builder.turns();
    return new Text(whole.length() == builder.length() ? whole : builder.text().string, ends, safe);
  }

  /// As Python's `isspace`.
  static boolean isSpace(int c) {
    return (c >= 9 && c <= 13)
        || (c >= 0x1C && c <= 0x20)
        || c == 0x85
        || c == 0xA0
        || c == 0x1680
        || (c >= 0x2000 && c <= 0x200A)
        || c == 0x2028
        || c == 0x2029
        || c == 0x202F
        || c == 0x205F
        || c == 0x3000;
  }

  /// Joins texts; nothing grows beyond [#MOST].
  static final class Builder {
    private final Work work;
    private final StringBuilder characters = new StringBuilder();
    private int[] turns = new int[4];
    private int count;

    Builder(Work work) {
      this.work = work;
    }

    int length() {
      return characters.length();
    }

    void append(Text text) {
      append(text, 0, text.string.length());
    }

    void append(Text text, int from, int to) {
      text.runs(from, to, (start, end, origin) -> append(text.string, start, end, origin));
    }

    /// What the template or its operations write.
    void append(String string) {
      append(string, false);
    }

    void append(String string, boolean conversations) {
      append(string, 0, string.length(), conversations);
    }

    private void append(String string, int from, int to, boolean conversations) {
      if (from == to) {
        return;
      }
      if ((long) characters.length() + to - from > MOST) {
        throw TemplateFailure.of(
            "the text grows beyond %d characters; shorten the conversation", MOST);
      }
      work.spend(to - from);
      if (conversations != (count % 2 == 1)) {
        if (count == turns.length) {
          turns = Arrays.copyOf(turns, 2 * count);
        }
        turns[count++] = characters.length();
      }
      characters.append(string, from, to);
    }

    private int[] turns() {
      return Arrays.copyOf(turns, count);
    }

    Text text() {
      return new Text(characters.toString(), turns(), false);
    }
  }
}
