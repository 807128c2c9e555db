package dev.sluice.schema;

import java.math.BigInteger;
import java.util.BitSet;
import java.util.Set;

/// What is open where a value is written, with what is open around it: the stack of a pushdown
/// automaton. Frames never change and are equal where the same may follow; the [BitSet] in them is
/// not written to.
sealed interface Frame {
  /// The whole text.
  ///
  /// @param done whether the value is complete
  /// @param blanks before it
  record Root(boolean done, int blanks) implements Frame {
    static final Root DONE = new Root(true, 0);
  }

  /// A string that is a value.
  ///
  /// @param lexer the state of [StringLexer]
  /// @param state that of the shape's automaton; without one, how many characters were begun where
  ///   the shape limits them, else 0
  /// @param below what is open when the string is closed
  record InText(int shape, int lexer, int state, Frame below) implements Frame {}

  /// A property's name.
  ///
  /// @param state in the automaton of names, or -1 for another name
  /// @param name so far, where it may be another than those that are named; else empty
  record InName(InObject object, int lexer, int state, String name) implements Frame {}

  /// A number.
  ///
  /// @param digits of the part that is open
  /// @param magnitude all digits as a whole number, where the shape has bounds; else 0
  /// @param fraction how many of them stand after the point
  record InNumber(
      int shape,
      boolean negative,
      NumberPart part,
      int digits,
      BigInteger magnitude,
      int fraction,
      Frame below)
      implements Frame {}

  /// What of a number was read last.
  enum NumberPart {
    SIGN,
    ZERO,
    WHOLE,
    POINT,
    FRACTION,
    E,
    EXPONENT_SIGN,
    EXPONENT;

    /// Whether the number may end here.
    boolean mayEnd() {
      return this == ZERO || this == WHOLE || this == FRACTION || this == EXPONENT;
    }
  }

  /// `true`, `false`, `null` or a number that is listed.
  record InLiteral(int shape, int state, Frame below) implements Frame {}

  /// Where an array or an object stands.
  enum Place {
    OPEN,
    COMMA,
    NAME,
    COLON,
    VALUE
  }

  /// An array.
  ///
  /// @param level arrays and objects that are open, this one included
  /// @param count items so far, the one that is open included
  /// @param place what was read last
  /// @param blanks since
  record InArray(int shape, int level, int count, Place place, int blanks, Frame below)
      implements Frame {}

  /// An object.
  ///
  /// @param used which of the named properties it has
  /// @param others the names of its other properties
  /// @param value the shape of the value that comes next, after a name
  record InObject(
      int shape,
      int level,
      BitSet used,
      Set<String> others,
      Place place,
      int value,
      int blanks,
      Frame below)
      implements Frame {}
}
