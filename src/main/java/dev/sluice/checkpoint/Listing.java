package dev.sluice.checkpoint;

import dev.sluice.Printable;
import java.util.Collection;
import java.util.stream.Collectors;

/// Names in a sentence: the first few, and how many more there are.
final class Listing {
  private static final int SHOWN = 5;
  private static final int LONGEST = 80;

  private Listing() {}

  /// `'a', 'b', 'c' and 12 more`.
  static String of(Collection<String> names) {
    String first =
        names.stream().limit(SHOWN).map(Listing::quoted).collect(Collectors.joining(", "));
    return names.size() > SHOWN ? first + " and " + (names.size() - SHOWN) + " more" : first;
  }

  /// One name, whatever its length.
  static String quoted(String name) {
    return "'" + Printable.brief(name, LONGEST) + "'";
  }
}
