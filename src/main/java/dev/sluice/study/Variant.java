package dev.sluice.study;

import dev.sluice.InvalidInputException;
import java.util.Map;
import java.util.TreeMap;

/// One of the things that a study compares.
///
/// @param name what tables and pictures call it
/// @param settings what makes it: settings of a run, such as `gate`, and their values as text
/// @param published the perplexity that was published for it, to be shown beside; 0 for none
public record Variant(String name, Map<String, String> settings, double published) {
  public Variant {
    if (name.isBlank()) {
      throw new InvalidInputException("a variant needs a name");
    }
    settings = Map.copyOf(new TreeMap<>(settings));
  }

  /// The variant that a gate makes, called as the gate is.
  public static Variant ofGate(String gate) {
    return new Variant(gate, Map.of("gate", gate), 0);
  }
}
