package dev.sluice.evaluation;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import java.util.Arrays;
import java.util.Locale;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/// What becomes of a data set's texts before a model sees them, as lm-evaluation-harness does it.
public enum Cleaning {
  NONE,
  /// The spaces that WikiText's tokens have around marks, and its `@-@`, are taken out.
  WIKITEXT,
  /// HellaSwag's `[title]` becomes a full stop, other parts in brackets are left out.
  HELLASWAG;

  private static final Pattern BRACKETS = Pattern.compile("\\[.*?\\]");
  private static final int UNICODE = Pattern.UNICODE_CHARACTER_CLASS;
  private static final Pattern ROUND = Pattern.compile("\\(\\s*([^\\)]*?)\\s*\\)", UNICODE);
  private static final Pattern SQUARE = Pattern.compile("\\[\\s*([^\\]]*?)\\s*\\]", UNICODE);
  private static final Pattern CURLY = Pattern.compile("\\{\\s*([^}]*?)\\s*\\}", UNICODE);
  private static final Pattern DOUBLE = Pattern.compile("\"\\s*([^\"]*?)\\s*\"", UNICODE);
  private static final Pattern SINGLE = Pattern.compile("'\\s*([^']*?)\\s*'", UNICODE);

  String word() {
    return name().toLowerCase(Locale.ROOT);
  }

  static Cleaning parse(String word, String where) {
    return Arrays.stream(values())
        .filter(each -> each.word().equals(word))
        .findFirst()
        .orElseThrow(
            () ->
                new InvalidInputException(
                    "%s has the cleaning '%s'; known are %s"
                        .formatted(
                            where,
                            Printable.brief(word, 60),
                            Arrays.stream(values())
                                .map(Cleaning::word)
                                .collect(Collectors.joining(", ")))));
  }

  String apply(String text) {
    return switch (this) {
      case NONE -> text;
      case WIKITEXT -> wikitext(text);
      case HELLASWAG ->
          BRACKETS
              .matcher(text.strip().replace(" [title]", ". "))
              .replaceAll("")
              .replace("  ", " ");
    };
  }

  /// The harness's steps in their order.
  private static String wikitext(String page) {
    String text = page.replace("s '", "s'");
    text = text.replaceAll("/' [0-9]/", "/'[0-9]/");
    text = text.replace(" @-@ ", "-").replace(" @,@ ", ",").replace(" @.@ ", ".");
    text = text.replace(" : ", ": ").replace(" ; ", "; ").replace(" . ", ". ");
    text = text.replace(" ! ", "! ").replace(" ? ", "? ").replace(" , ", ", ");
    text = ROUND.matcher(text).replaceAll("($1)");
    text = SQUARE.matcher(text).replaceAll("[$1]");
    text = CURLY.matcher(text).replaceAll("{$1}");
    text = DOUBLE.matcher(text).replaceAll("\"$1\"");
    text = SINGLE.matcher(text).replaceAll("'$1'");
    text = text.replace("= = = =", "====").replace("= = =", "===").replace("= =", "==");
    text = text.replace(" ° ", "°").replace(" \n", "\n").replace("\n ", "\n");
    return text.replace(" N ", " 1 ").replace(" 's", "'s");
  }
}
