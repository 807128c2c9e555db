package dev.sluice.corpus;

import dev.sluice.InvalidInputException;
import dev.sluice.files.Sha256;
import java.io.StringReader;
import java.security.MessageDigest;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.SequencedMap;
import org.jspecify.annotations.Nullable;

/// The bigram–backcopy task (Guo et al. 2024, arXiv 2410.13835, section 2): documents in which each
/// character follows from the one before it as in a book, except after a trigger, where the
/// character before the trigger comes again.
///
/// A head of attention has work to do at a trigger alone, to fetch the token before. Everywhere
/// else it does best to add nothing, which softmax attention can only do by giving its weight to a
/// token whose value is nearly zero: a sink. Real text makes sinks in the same way, with more kinds
/// of work and after far more training.
///
/// Documents are the same on every machine. Their characters are a to z: with a space, which stands
/// everywhere, heads would as well give their weight to spaces.
public final class BigramBackcopy implements Documents {
  /// What the setting `data` calls it.
  public static final String NAME = "bigram-backcopy";

  /// The most frequent letters of English; together a quarter of all characters.
  private static final String TRIGGERS = "eta";

  /// Of all documents together.
  private static final int CHARACTERS = 3_000_000;

  private static final int LEAST_DOCUMENTS = 100;

  private static final int SYMBOLS = 26;
  private static final long KEY = 0x5EEDL;

  private final int length;
  private final double[][] following; // cumulative shares of what follows each symbol in the book
  private final double[] any; // the same of symbols that are no triggers, whatever precedes

  /// @param length characters of each document, at least 2
  ///
  /// @throws InvalidInputException if so long ones are too few to hold some out
  BigramBackcopy(int length, String book) {
    requireLength(length);
    this.length = length;
    double[][] pairs = new double[SYMBOLS][SYMBOLS];
    double[] counts = new double[SYMBOLS];
    int before = -1;
    for (int i = 0; i < book.length(); i++) {
      char letter = Character.toLowerCase(book.charAt(i));
      if (letter < 'a' || letter > 'z') {
        continue;
      }
      int symbol = letter - 'a';
      if (before >= 0) {
        pairs[before][symbol]++;
      }
      if (!isTrigger(symbol)) {
        counts[symbol]++;
      }
      before = symbol;
    }
    for (double[] row : pairs) {
      cumulate(row);
    }
    cumulate(counts);
    this.following = pairs;
    this.any = counts;
  }

  /// Refuses documents that are so long that they are too few to hold some out.
  public static void requireLength(int length) {
    if (CHARACTERS / length < LEAST_DOCUMENTS) {
      throw new InvalidInputException(
          "%s has %d letters in documents as long as a sequence, and sequences of %d leave fewer than %d; choose a sequence_length of at most %d, or other data"
              .formatted(NAME, CHARACTERS, length, LEAST_DOCUMENTS, CHARACTERS / LEAST_DOCUMENTS));
    }
  }

  private static void cumulate(double[] counts) {
    double sum = 0;
    for (int i = 0; i < counts.length; i++) {
      sum += counts[i];
      counts[i] = sum;
    }
    for (int i = 0; i < counts.length; i++) {
      counts[i] /= sum;
    }
  }

  private static boolean isTrigger(int symbol) {
    return TRIGGERS.indexOf('a' + symbol) >= 0;
  }

  private int documents() {
    return CHARACTERS / length;
  }

  /// The symbols of a document. The first is no trigger: two triggers side by side would repeat for
  /// ever.
  private int[] document(int index) {
    int[] symbols = new int[length];
    for (int i = 0; i < length; i++) {
      double uniform =
          (Permutation.mix(Permutation.mix(KEY + index) + i) >>> 11) * 0x1.0p-53; // [0, 1)
      symbols[i] =
          i > 1 && isTrigger(symbols[i - 1])
              ? symbols[i - 2]
              : draw(i == 0 ? any : following[symbols[i - 1]], uniform);
    }
    return symbols;
  }

  private static int draw(double[] cumulative, double uniform) {
    int symbol = 0;
    while (uniform >= cumulative[symbol]) {
      symbol++;
    }
    return symbol;
  }

  /// What no model can do better than: the mean over characters of −log₂ of the probability that
  /// each was drawn with.
  public double leastBitsPerByte() {
    double bits = 0;
    for (int index = 0; index < documents(); index++) {
      int[] symbols = document(index);
      for (int i = 0; i < length; i++) {
        if (i < 2 || !isTrigger(symbols[i - 1])) {
          double[] from = i == 0 ? any : following[symbols[i - 1]];
          int drawn = symbols[i];
          bits -= Math.log(from[drawn] - (drawn == 0 ? 0 : from[drawn - 1])) / Math.log(2);
        }
      }
    }
    return bits / ((double) documents() * length);
  }

  @Override
  public String name() {
    return NAME;
  }

  @Override
  public String fingerprint() {
    MessageDigest digest = Sha256.digest();
    Sha256.update(digest, NAME + " " + length + " 1");
    return Sha256.hex(digest);
  }

  @Override
  public SequencedMap<String, String> parts() {
    var parts = new LinkedHashMap<String, String>();
    parts.put("%s of %d characters a document".formatted(NAME, length), fingerprint());
    return parts;
  }

  @Override
  public List<String> notes() {
    return List.of(
        String.format(
            Locale.ROOT,
            "%s is a made text: %,d documents of %d letters that follow each other as in"
                + " Moby-Dick; after e, t or a the letter before comes again. On average no"
                + " model can have a loss below %.3f bits per byte.",
            NAME,
            documents(),
            length,
            leastBitsPerByte()));
  }

  @Override
  public DocumentCursor open() {
    return new DocumentCursor() {
      private int index;

      @Override
      public @Nullable Document next() {
        if (index == documents()) {
          return null;
        }
        var text = new StringBuilder();
        for (int symbol : document(index)) {
          text.append((char) ('a' + symbol));
        }
        return new Document(NAME + ":" + ++index, new StringReader(text.toString()));
      }

      @Override
      public void close() {}
    };
  }
}
