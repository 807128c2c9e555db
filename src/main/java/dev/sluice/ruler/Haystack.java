package dev.sluice.ruler;

import dev.sluice.InvalidInputException;
import dev.sluice.corpus.Documents;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.TreeSet;
import java.util.regex.Pattern;

/// The text that needles are hidden in, and the words that are drawn for keys and lists.
///
/// RULER draws words from the lists of the library wonderwords; these here are the words of the
/// text itself that stand in it in lower case, of 4 to 10 letters. Where more are wanted than there
/// are, the others are made of syllables.
///
/// @param name of the text
/// @param fingerprint of the text
/// @param words of the text, in order, between spaces
/// @param vocabulary the words to draw from, sorted
public record Haystack(
    String name, String fingerprint, List<String> words, List<String> vocabulary) {
  /// In characters: some millions of tokens.
  private static final int LONGEST = 1 << 26;

  private static final int FEWEST_WORDS = 1000;
  private static final Pattern WORD = Pattern.compile("\\p{Ll}{4,10}");
  private static final Pattern NOT_LETTERS = Pattern.compile("[^\\p{L}'’-]+");

  /// Between sentences: a space after the stop, with closing marks, and before what begins one.
  private static final Pattern BETWEEN_SENTENCES =
      Pattern.compile("(?<=[.!?][”\"’')]{0,2}) (?=[“\"‘'(]?[\\p{Lu}\\d“\"‘])");

  private static final String CONSONANTS = "bcdfghjklmnprstvwz";
  private static final String VOWELS = "aeiou";

  public Haystack {
    words = List.copyOf(words);
    vocabulary = List.copyOf(vocabulary);
  }

  /// Reads all documents, one after the other.
  public static Haystack of(Documents documents) {
    var text = new StringBuilder();
    try (var cursor = documents.open()) {
      for (var document = cursor.next(); document != null; document = cursor.next()) {
        var block = new char[1 << 16];
        try (var reader = document.text()) {
          for (int n = reader.read(block); n >= 0; n = reader.read(block)) {
            text.append(block, 0, n);
            if (text.length() > LONGEST) {
              throw new InvalidInputException(
                  "%s has more than %d characters, more than a haystack needs; name a part of it"
                      .formatted(documents.name(), LONGEST));
            }
          }
        }
        text.append(' ');
      }
    } catch (IOException e) {
      throw new InvalidInputException("%s cannot be read; check it".formatted(documents.name()), e);
    }
    return of(documents.name(), documents.fingerprint(), text.toString());
  }

  static Haystack of(String name, String fingerprint, String text) {
    var words =
        Arrays.stream(text.strip().split("[\\s\\x1C-\\x1F\\u0085\\u00A0]+"))
            .filter(word -> !word.isEmpty())
            .toList();
    if (words.isEmpty()) {
      throw new InvalidInputException(
          "%s has no words, so that nothing can be hidden in it; name another text"
              .formatted(name));
    }
    Set<String> vocabulary = new TreeSet<>();
    for (String word : NOT_LETTERS.split(text)) {
      if (WORD.matcher(word).matches()) {
        vocabulary.add(word);
      }
    }
    var random = new SplittableRandom(0);
    while (vocabulary.size() < FEWEST_WORDS) {
      vocabulary.add(syllables(random));
    }
    return new Haystack(name, fingerprint, words, List.copyOf(vocabulary));
  }

  private static String syllables(SplittableRandom random) {
    var word = new StringBuilder();
    for (int i = 0, count = 2 + random.nextInt(2); i < count; i++) {
      word.append(CONSONANTS.charAt(random.nextInt(CONSONANTS.length())))
          .append(VOWELS.charAt(random.nextInt(VOWELS.length())));
    }
    return word.append(CONSONANTS.charAt(random.nextInt(CONSONANTS.length()))).toString();
  }

  /// A key of two words, such as RULER's of an adjective and a noun.
  String key(SplittableRandom random) {
    return vocabulary.get(random.nextInt(vocabulary.size()))
        + "-"
        + vocabulary.get(random.nextInt(vocabulary.size()));
  }

  /// So many different words.
  List<String> draw(int count, SplittableRandom random) {
    Set<String> drawn = new LinkedHashSet<>();
    if (count <= vocabulary.size()) {
      for (int i : Draw.sample(vocabulary.size(), count, random)) {
        drawn.add(vocabulary.get(i));
      }
    } else {
      List<String> all = new ArrayList<>(vocabulary);
      Set<String> known = new HashSet<>(vocabulary);
      while (all.size() < count) {
        String word = syllables(random);
        if (known.add(word)) {
          all.add(word);
        }
      }
      Draw.shuffle(all, random);
      drawn.addAll(all);
    }
    return List.copyOf(drawn);
  }

  /// The sentences of the first words; the text begins anew where it has fewer.
  ///
  /// @param repeated else it is not longer than it is
  List<String> sentences(int count, boolean repeated) {
    var text = new StringBuilder();
    int most = repeated ? count : Math.min(count, words.size());
    for (int i = 0; i < most; i++) {
      text.append(i == 0 ? "" : " ").append(words.get(i % words.size()));
    }
    return List.of(BETWEEN_SENTENCES.split(text));
  }
}
