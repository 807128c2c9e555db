package dev.sluice.study;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import java.util.Collections;
import java.util.Map;
import java.util.TreeMap;

/// One of the things that a study compares.
///
/// @param name what tables and pictures call it, in at most [#LONGEST_NAME] characters that can all
///   be seen
/// @param settings what makes it: settings of a run, such as `gate`, and their values as text
/// @param published the perplexity that was published for it, to be shown beside; 0 for none
public record Variant(String name, Map<String, String> settings, double published) {
  /// Characters of a name; a trial's directory is called by it.
  public static final int LONGEST_NAME = 160;

  public Variant {
    if (name.isBlank()) {
      throw new InvalidInputException("a variant's name is empty; give each a name");
    }
    if (name.length() > LONGEST_NAME) {
      throw new InvalidInputException(
          "a variant's name has %d characters: '%s'; use at most %d"
              .formatted(name.length(), Printable.brief(name, 40), LONGEST_NAME));
    }
    String printable = Printable.line(name);
    if (!printable.equals(name)) {
      throw new InvalidInputException(
          "the variant's name '%s' holds a character that steers a terminal or cannot be seen; leave it out"
              .formatted(printable));
    }
    if (published != 0 && !(published > 1 && published < Double.POSITIVE_INFINITY)) {
      throw new InvalidInputException(
          "the published perplexity of '%s' cannot be %s; give a number above 1, or none"
              .formatted(name, published));
    }
    settings = Collections.unmodifiableMap(new TreeMap<>(settings));
  }

  /// The variant that a gate makes, called as the gate is.
  public static Variant ofGate(String gate) {
    return new Variant(gate, Map.of("gate", gate), 0);
  }
}
