package dev.sluice.generation;

import dev.sluice.InvalidInputException;
import java.util.List;

/// Ends a text where one of some strings begins, as it streams by: what may become one of them is
/// held back until that is decided.
public final class StopStrings {
  private final List<String> strings;
  private final StringBuilder held = new StringBuilder();
  private boolean found;

  public StopStrings(List<String> strings) {
    if (strings.stream().anyMatch(String::isEmpty)) {
      throw new InvalidInputException("a stop string is empty; give some text, or none of them");
    }
    this.strings = List.copyOf(strings);
  }

  /// Takes a piece of text and gives what surely stands before any of the strings, possibly
  /// nothing.
  public String add(String piece) {
    if (found) {
      return "";
    }
    held.append(piece);
    int first = held.length();
    for (String string : strings) {
      int at = held.indexOf(string);
      if (at >= 0 && at < first) {
        first = at;
        found = true;
      }
    }
    int sure = found ? first : held.length() - longestBeginning();
    String given = held.substring(0, sure);
    held.delete(0, found ? held.length() : sure);
    return given;
  }

  /// Whether one of the strings was found, which ends the text.
  public boolean found() {
    return found;
  }

  /// Gives what is held back where the text ends without any of them.
  public String finish() {
    String rest = held.toString();
    held.setLength(0);
    return rest;
  }

  /// The longest end of what is held that begins one of the strings.
  private int longestBeginning() {
    int longest = 0;
    for (String string : strings) {
      for (int length = Math.min(string.length() - 1, held.length()); length > longest; length--) {
        if (held.substring(held.length() - length).equals(string.substring(0, length))) {
          longest = length;
        }
      }
    }
    return longest;
  }
}
