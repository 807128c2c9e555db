package dev.sluice.ruler;

import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import java.util.UUID;
import org.jspecify.annotations.Nullable;

/// Needles in a haystack: the tasks `niah_…`.
///
/// @param hay what the haystack is of
/// @param keys how many
/// @param values of each key
/// @param queries how many keys are asked for
/// @param uuidKeys whether keys are UUIDs, and not words
/// @param uuidValues whether values are UUIDs, and not numbers
/// @param seed of the needles' order, which is the same in all samples
record Needles(
    RulerMode mode,
    Haystack haystack,
    Hay hay,
    int keys,
    int values,
    int queries,
    boolean uuidKeys,
    boolean uuidValues,
    int maxLength,
    long seed)
    implements PromptMaker {
  /// What needles are hidden among.
  enum Hay {
    /// One line again and again.
    NOISE,
    /// The sentences of a text.
    ESSAY,
    /// Other needles.
    NEEDLE
  }

  static final String NOISE =
      "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";

  private static final int DEPTHS = 40;

  static Needles of(RulerTask task, RulerMode mode, Haystack haystack, int maxLength, long seed) {
    var single = new Needles(mode, haystack, Hay.ESSAY, 1, 1, 1, false, false, maxLength, seed);
    return switch (task) {
      case NIAH_SINGLE_1 -> single.in(Hay.NOISE);
      case NIAH_SINGLE_2 -> single;
      case NIAH_SINGLE_3 -> single.uuids(false);
      case NIAH_MULTIKEY_1 -> single.many(4, 1, 1);
      case NIAH_MULTIKEY_2 -> single.in(Hay.NEEDLE);
      case NIAH_MULTIKEY_3 -> single.in(Hay.NEEDLE).uuids(true);
      case NIAH_MULTIVALUE -> single.many(1, 4, 1);
      case NIAH_MULTIQUERY -> single.many(4, 1, 4);
      case VT, CWE, FWE, QA_1, QA_2 -> throw new IllegalArgumentException(task + " has no needles");
    };
  }

  private Needles in(Hay other) {
    return new Needles(
        mode, haystack, other, keys, values, queries, uuidKeys, uuidValues, maxLength, seed);
  }

  private Needles uuids(boolean alsoKeys) {
    return new Needles(mode, haystack, hay, keys, values, queries, alsoKeys, true, maxLength, seed);
  }

  private Needles many(int howManyKeys, int howManyValues, int howManyQueries) {
    return new Needles(
        mode,
        haystack,
        hay,
        howManyKeys,
        howManyValues,
        howManyQueries,
        uuidKeys,
        uuidValues,
        maxLength,
        seed);
  }

  @Override
  public @Nullable Prompt make(int size, int number, SplittableRandom random) {
    List<String> names = new ArrayList<>();
    List<List<String>> answers = new ArrayList<>();
    List<String> needles = new ArrayList<>();
    for (int k = 0; k < keys; k++) {
      names.add(key(random));
      List<String> ofKey = new ArrayList<>();
      for (int v = 0; v < values; v++) {
        ofKey.add(value(random));
        needles.add(needle(names.getLast(), ofKey.getLast()));
      }
      answers.add(ofKey);
    }
    Draw.shuffle(needles, new SplittableRandom(seed));
    String context = context(size, needles, random);
    if (context == null) {
      return null;
    }
    var asked = Draw.sample(keys, queries, random);
    var askedKeys = asked.stream().map(names::get).toList();
    var outputs = asked.stream().flatMap(k -> answers.get(k).stream()).toList();
    String query =
        queries == 1
            ? askedKeys.getFirst()
            : String.join(", ", askedKeys.subList(0, queries - 1)) + ", and " + askedKeys.getLast();
    boolean one = queries * values == 1;
    String kind = one ? type().substring(0, type().length() - 1) : type();
    String input =
        "%s special magic %s %s hidden within the following text. Make sure to memorize it. I will quiz you about the %s afterwards.\n%s\nWhat %s the special magic %s for %s mentioned in the provided text?"
            .formatted(
                one ? "A" : "Some",
                kind,
                one ? "is" : "are",
                kind,
                context,
                one ? "is" : "are all",
                kind,
                query);
    String prefix =
        "The special magic %s for %s mentioned in the provided text %s"
            .formatted(kind, query, one ? "is" : "are");
    return switch (mode) {
      case NVIDIA -> Prompt.counted(input, " " + prefix, outputs);
      case LM_EVAL ->
          new Prompt(input, " ", prefix, outputs, input, input + String.join(" ", outputs));
    };
  }

  private @Nullable String context(int size, List<String> needles, SplittableRandom random) {
    if (hay == Hay.ESSAY) {
      return amongSentences(haystack.sentences(size, mode == RulerMode.NVIDIA), needles, random);
    }
    if (size < needles.size()) {
      return null;
    }
    List<String> lines = new ArrayList<>();
    for (int i = 0; i < size; i++) {
      lines.add(hay == Hay.NOISE ? NOISE : needle(key(random), value(random)));
    }
    var places = new ArrayList<>(Draw.sample(size, needles.size(), random));
    places.sort((a, b) -> b - a);
    for (int i = 0; i < places.size(); i++) {
      lines.add(places.get(i), needles.get(i));
    }
    return String.join("\n", lines);
  }

  /// Each needle at one of 40 depths.
  private static String amongSentences(
      List<String> sentences, List<String> needles, SplittableRandom random) {
    var places =
        Draw.sample(DEPTHS, needles.size(), random).stream()
            .map(i -> Math.round(100.0 * i / (DEPTHS - 1)))
            .map(depth -> (int) (sentences.size() * (depth / 100.0)))
            .sorted()
            .toList();
    List<String> pieces = new ArrayList<>();
    int last = 0;
    for (int i = 0; i < needles.size(); i++) {
      pieces.add(String.join(" ", sentences.subList(last, places.get(i))));
      pieces.add(needles.get(i));
      last = places.get(i);
    }
    pieces.add(String.join(" ", sentences.subList(last, sentences.size())));
    return String.join(" ", pieces);
  }

  private String type() {
    return uuidValues ? "uuids" : "numbers";
  }

  private String needle(String key, String value) {
    return "One of the special magic %s for %s is: %s.".formatted(type(), key, value);
  }

  private String key(SplittableRandom random) {
    return uuidKeys ? uuid(random) : haystack.key(random);
  }

  private String value(SplittableRandom random) {
    return uuidValues ? uuid(random) : String.valueOf(random.nextInt(1_000_000, 10_000_000));
  }

  /// Of version 4.
  private static String uuid(SplittableRandom random) {
    long high = (random.nextLong() & ~0xF000L) | 0x4000L;
    long low = (random.nextLong() & ~(0b11L << 62)) | (0b10L << 62);
    return new UUID(high, low).toString();
  }

  @Override
  public int step() {
    return hay == Hay.ESSAY ? 500 : maxLength < 4096 ? 5 : 25;
  }

  @Override
  public int floor(int number) {
    return mode == RulerMode.NVIDIA ? step() : 1;
  }

  @Override
  public int most() {
    return mode == RulerMode.LM_EVAL && hay == Hay.ESSAY
        ? haystack.words().size()
        : Integer.MAX_VALUE;
  }

  @Override
  public boolean grows() {
    return mode == RulerMode.LM_EVAL;
  }

  @Override
  public int reserved() {
    return 128;
  }
}
