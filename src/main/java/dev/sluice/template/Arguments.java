package dev.sluice.template;

import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/// The values that a call gives.
record Arguments(List<Object> positional, Map<String, Object> named) {
  static final Arguments NOTHING = new Arguments(List.of(), Map.of());

  /// In the place of one that is not given.
  static final Absent ABSENT = Absent.ABSENT;

  enum Absent {
    ABSENT
  }

  /// In the order of the names, [#ABSENT] where nothing is given.
  ///
  /// @param required how many of the first must be given
  Object[] bind(String function, int required, String... names) {
    Object[] bound = new Object[names.length];
    Arrays.fill(bound, ABSENT);
    if (positional.size() > names.length) {
      throw TemplateFailure.of(
          "%s takes at most %d arguments, not %d", function, names.length, positional.size());
    }
    for (int i = 0; i < positional.size(); i++) {
      bound[i] = positional.get(i);
    }
    for (var entry : named.entrySet()) {
      int place = List.of(names).indexOf(entry.getKey());
      if (place < 0 || bound[place] != ABSENT) {
        throw TemplateFailure.of(
            place < 0 ? "%s takes no argument '%s'" : "%s is given '%s' twice",
            function,
            entry.getKey());
      }
      bound[place] = entry.getValue();
    }
    for (int i = 0; i < required; i++) {
      if (bound[i] == ABSENT) {
        throw TemplateFailure.of("%s lacks its argument '%s'", function, names[i]);
      }
    }
    return bound;
  }

  /// Those behind the first ones.
  Arguments after(int first) {
    return new Arguments(
        positional.subList(Math.min(first, positional.size()), positional.size()), named);
  }

  Arguments without(String... names) {
    var rest = new LinkedHashMap<>(named);
    rest.keySet().removeAll(List.of(names));
    return new Arguments(positional, rest);
  }
}
