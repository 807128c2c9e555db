package dev.sluice.schema;

import java.math.BigInteger;
import java.util.BitSet;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// What a value may be. A shape names others by their numbers in a [JsonSchema], since schemas may
/// refer to themselves.
sealed interface Shape {
  /// Any of several shapes, none of which is a union; nothing where there are none.
  record Union(List<Integer> alternatives) implements Shape {
    public Union {
      alternatives = List.copyOf(alternatives);
    }
  }

  /// A string.
  ///
  /// @param shortest in characters; together with `longest` for strings without an automaton
  /// @param longest [Integer#MAX_VALUE] for any
  /// @param automaton which strings, or null for all
  record Text(int shortest, int longest, @Nullable CharacterAutomaton automaton) implements Shape {
    static final Text ANY = new Text(0, Integer.MAX_VALUE, null);

    boolean isLimited() {
      return shortest > 0 || longest < Integer.MAX_VALUE;
    }
  }

  /// A number of at most [#WHOLE_DIGITS] digits before the point.
  ///
  /// @param fractionDigits at most so many after it; 0 for a whole number
  /// @param bounds or null
  record Numeric(int fractionDigits, @Nullable Bounds bounds) implements Shape {
    static final int WHOLE_DIGITS = 20;
    static final int FRACTION_DIGITS = 20;
    static final int EXPONENT_DIGITS = 2;

    static final Numeric ANY = new Numeric(FRACTION_DIGITS, null);
    static final Numeric WHOLE = new Numeric(0, null);

    /// A number with bounds is written without an exponent.
    boolean mayHaveExponent() {
      return fractionDigits > 0 && bounds == null;
    }
  }

  /// What a number lies between, both included, in units of the last digit of its fraction.
  record Bounds(BigInteger lowest, BigInteger highest) {}

  /// One of some values that are spelled as they are: numbers, `true`, `false` and `null`.
  record Literals(CharacterAutomaton words) implements Shape {}

  /// An array.
  ///
  /// @param first the shapes of its first items
  /// @param others of the items after these, or [JsonSchema#NONE]
  /// @param most [Integer#MAX_VALUE] for any number
  record Items(List<Integer> first, int others, int fewest, int most) implements Shape {
    public Items {
      first = List.copyOf(first);
    }

    /// The shape of an item, or [JsonSchema#NONE].
    int item(int index) {
      if (index >= most) {
        return JsonSchema.NONE;
      }
      return index < first.size() ? first.get(index) : others;
    }
  }

  /// An object.
  ///
  /// @param names the words of the properties that are named
  /// @param sorted the same in the order of the automaton
  /// @param shapes of these properties
  /// @param required which of them must be there
  /// @param others the shape of all other properties, or [JsonSchema#NONE]
  record Members(
      CharacterAutomaton names,
      List<String> sorted,
      List<Integer> shapes,
      BitSet required,
      int others)
      implements Shape {
    public Members {
      sorted = List.copyOf(sorted);
      shapes = List.copyOf(shapes);
    }
  }
}
