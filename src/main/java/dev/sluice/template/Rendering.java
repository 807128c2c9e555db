package dev.sluice.template;

import java.util.ArrayList;
import java.util.Collection;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/// A rendered conversation, which knows what of it the template wrote. Only there do control tokens
/// count: `<|im_end|>` in a user's message is text like any other, and does not end the turn.
///
/// What a filter of the template makes of the conversation's strings stays the conversation's. The
/// template's are its own text and literals, the punctuation of `tojson`, numbers, and the usual
/// roles.
///
/// @param parts in order, none empty, no two neighbours of one origin
public record Rendering(List<Part> parts) {
  /// A stretch of one origin.
  public record Part(String text, boolean isTemplates) {}

  /// A control token, or text without any.
  public record Piece(String text, boolean isControl) {}

  public Rendering {
    parts = List.copyOf(parts);
  }

  static Rendering of(Text text) {
    var parts = new ArrayList<Part>();
    text.runs(
        (from, to, conversations) ->
            parts.add(new Part(text.string().substring(from, to), !conversations)));
    return new Rendering(parts);
  }

  /// All of it.
  public String text() {
    var text = new StringBuilder();
    parts.forEach(part -> text.append(part.text));
    return text.toString();
  }

  /// What a tokenizer is to be given, in order: control tokens are one token each, and the text
  /// between them is tokenised in one go without looking for control tokens in it, whatever parts
  /// it was made of.
  ///
  /// A control token counts where all its characters are the template's; of several that begin at
  /// one place, the longest counts.
  public List<Piece> pieces(Collection<String> controls) {
    Map<Character, List<String>> byFirst = new HashMap<>();
    controls.stream()
        .filter(control -> !control.isEmpty())
        .sorted(Comparator.comparingInt(String::length).reversed())
        .forEach(
            control ->
                byFirst.computeIfAbsent(control.charAt(0), _ -> new ArrayList<>()).add(control));
    var pieces = new ArrayList<Piece>();
    var text = new StringBuilder();
    for (Part part : parts) {
      if (!part.isTemplates) {
        text.append(part.text);
        continue;
      }
      for (int i = 0; i < part.text.length(); ) {
        int at = i;
        String control =
            byFirst.getOrDefault(part.text.charAt(i), List.of()).stream()
                .filter(candidate -> part.text.startsWith(candidate, at))
                .findFirst()
                .orElse("");
        if (control.isEmpty()) {
          text.append(part.text.charAt(i++));
          continue;
        }
        flush(text, pieces);
        pieces.add(new Piece(control, true));
        i += control.length();
      }
    }
    flush(text, pieces);
    return pieces;
  }

  private static void flush(StringBuilder text, List<Piece> pieces) {
    if (!text.isEmpty()) {
      pieces.add(new Piece(text.toString(), false));
      text.setLength(0);
    }
  }
}
