package dev.sluice.generation;

import java.util.ArrayList;
import java.util.List;
import java.util.function.Function;

/// Turns tokens into text as they come. A token may end inside a character; text is held back until
/// its bytes are complete.
///
/// A tokenizer shows incomplete bytes as U+FFFD at the end. Tokens are decoded together with those
/// of the piece before, so that what a tokenizer does at the start of a text (dropping a space)
/// does not happen in its middle; the method of Hugging Face's text-generation-inference.
public final class TextStream {
  private static final char INCOMPLETE = '\uFFFD';

  // Bytes that a UTF-8 character can still be waiting behind.
  private static final int UNFINISHED_BYTES = 3;

  // Tokens held back after which trailing U+FFFD are taken for damage, all but those that may still
  // become a character.
  private static final int PATIENCE = 16;

  private final Function<int[], String> decode;
  private final List<Integer> window = new ArrayList<>(); // the piece before, then what is open
  private int before; // tokens of the piece before
  private int emitted; // characters of the decoded window that were given out

  /// @param decode a tokenizer's decoding of several tokens
  public TextStream(Function<int[], String> decode) {
    this.decode = decode;
  }

  /// Takes one token and gives the text that is complete with it, possibly none.
  public String add(int token) {
    window.add(token);
    String text = decode(window);
    int complete = complete(text);
    String piece = piece(text, complete);
    if (complete == text.length()) {
      window.subList(0, before).clear();
      before = window.size();
      emitted = decode(window).length();
    }
    return piece;
  }

  /// Gives what is still held back, incomplete as it is, and starts anew.
  public String finish() {
    String text = decode(window);
    String piece = piece(text, text.length());
    window.clear();
    before = 0;
    emitted = 0;
    return piece;
  }

  private String piece(String text, int end) {
    if (end <= emitted) {
      return "";
    }
    String piece = text.substring(emitted, end);
    emitted = end;
    return piece;
  }

  private int complete(String text) {
    int begin = text.length();
    while (begin > 0 && text.charAt(begin - 1) == INCOMPLETE) {
      begin--;
    }
    return window.size() - before <= PATIENCE
        ? begin
        : Math.max(begin, text.length() - UNFINISHED_BYTES);
  }

  private String decode(List<Integer> tokens) {
    return tokens.isEmpty()
        ? ""
        : decode.apply(tokens.stream().mapToInt(Integer::intValue).toArray());
  }
}
