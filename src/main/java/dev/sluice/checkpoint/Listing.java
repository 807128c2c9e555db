package dev.sluice.checkpoint;

import dev.sluice.Printable;
import java.util.Collection;

/// Names in a sentence: the first few, and how many more there are.
final class Listing {
  private static final int SHOWN = 5;
  private static final int LONGEST = 80;

  private Listing() {}

  /// `'a', 'b', 'c' and 12 more`.
  static String of(Collection<String> names) {
    return ofWords(names.stream().limit(SHOWN).map(Listing::quoted).toList(), names.size());
  }

  /// The same of what is fit to be shown as it is.
  static String ofWords(Collection<String> words) {
    return ofWords(words.stream().limit(SHOWN).toList(), words.size());
  }

  private static String ofWords(Collection<String> first, int all) {
    String shown = String.join(", ", first);
    return all > first.size() ? shown + " and " + (all - first.size()) + " more" : shown;
  }

  /// One name, whatever its length.
  static String quoted(String name) {
    return "'" + Printable.brief(name, LONGEST) + "'";
  }
}
