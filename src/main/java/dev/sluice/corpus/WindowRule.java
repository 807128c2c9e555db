package dev.sluice.corpus;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.tokenizer.Tokenizer;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.stream.IntStream;

/// Where the windows begin that a text is cut into.
public enum WindowRule {
  /// One after the other through the text, whatever stands there.
  STREAM,
  /// At documents: with the token that ends documents, which thereby is the start token too, and
  /// then the document's first tokens. Shorter documents are followed by those after them; what is
  /// beyond the window of a longer one is not read.
  DOCUMENTS;

  /// The name in settings.
  public String word() {
    return name().toLowerCase(Locale.ROOT);
  }

  /// @throws InvalidInputException if there is no such rule
  public static WindowRule parse(String word) {
    return Arrays.stream(values())
        .filter(rule -> rule.word().equals(word))
        .findFirst()
        .orElseThrow(
            () ->
                new InvalidInputException(
                    "unknown windows '%s'; use %s"
                        .formatted(Printable.brief(word, 60), String.join(" or ", words()))));
  }

  /// The ids of what a model continues that was trained on such windows: with the start token
  /// before it where its sequences have one, or where there is no text.
  public int[] prompt(String text, Tokenizer tokenizer) {
    int[] ids = tokenizer.encode(text);
    return this == STREAM && ids.length > 0
        ? ids
        : IntStream.concat(IntStream.of(tokenizer.endOfText()), Arrays.stream(ids)).toArray();
  }

  private static List<String> words() {
    return Arrays.stream(values()).map(WindowRule::word).toList();
  }
}
