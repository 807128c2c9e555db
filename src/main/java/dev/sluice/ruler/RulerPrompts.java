package dev.sluice.ruler;

import dev.sluice.InvalidInputException;
import dev.sluice.corpus.Documents;
import dev.sluice.files.Sha256;
import dev.sluice.ruler.PromptMaker.Prompt;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Optional;
import java.util.SplittableRandom;
import java.util.function.ToIntFunction;
import org.jspecify.annotations.Nullable;

/// Makes RULER's prompts of a length, always the same for a seed and a tokenizer; equal in form to
/// those of the programs, and not in bytes.
///
/// Lengths are found as there: NVIDIA's programs halve an interval of sizes, the port grows step by
/// step; then each sample loses whole steps until it fits. So a length is an upper bound.
public final class RulerPrompts {
  /// After so many draws of the smallest size a task is said not to fit. The programs draw for
  /// ever.
  private static final int MOST_DRAWS = 2000;

  /// After so many, when all were too long by far more than they differ.
  private static final int FEWEST_DRAWS = 20;

  /// A size beyond which no search goes: all haystacks of a million tokens are smaller.
  private static final int LARGEST = 1 << 22;

  /// What could be made.
  ///
  /// @param samples none where the task does not fit
  /// @param refusal why there are none, or fewer than were asked for
  public record Made(List<Sample> samples, Optional<String> refusal) {}

  private final RulerMode mode;
  private final ToIntFunction<String> tokens;
  private final Haystack haystack;
  private final @Nullable Questions squad;
  private final @Nullable Questions hotpot;
  private final long seed;

  /// @param tokens how many a text has
  /// @param questions files for `qa_1` and `qa_2`, at most one of each form
  public RulerPrompts(
      RulerMode mode,
      ToIntFunction<String> tokens,
      Documents haystack,
      List<Path> questions,
      long seed) {
    this(
        mode,
        tokens,
        Haystack.of(haystack),
        questions.stream().map(Questions::read).toList(),
        seed);
  }

  RulerPrompts(
      RulerMode mode,
      ToIntFunction<String> tokens,
      Haystack haystack,
      List<Questions> questions,
      long seed) {
    this.mode = mode;
    this.tokens = tokens;
    this.haystack = haystack;
    this.squad = only(questions, true);
    this.hotpot = only(questions, false);
    this.seed = seed;
  }

  private static @Nullable Questions only(List<Questions> all, boolean ofSquad) {
    var those = all.stream().filter(each -> each.ofSquad() == ofSquad).toList();
    if (those.size() > 1) {
      throw new InvalidInputException(
          "%s and %s have the same form, and each form is for one task; name one of them"
              .formatted(those.getFirst().name(), those.get(1).name()));
    }
    return those.isEmpty() ? null : those.getFirst();
  }

  /// The texts that prompts are made of, with their SHA-256.
  public List<String> sources() {
    List<String> sources = new ArrayList<>();
    sources.add("haystack: %s, %s".formatted(haystack.name(), haystack.fingerprint()));
    for (var questions : new @Nullable Questions[] {squad, hotpot}) {
      if (questions != null) {
        sources.add("questions: %s, %s".formatted(questions.name(), questions.fingerprint()));
      }
    }
    return sources;
  }

  /// Whether there is what a task is made of: those of questions need a file.
  public boolean has(RulerTask task) {
    return switch (task) {
      case QA_1 -> squad != null;
      case QA_2 -> hotpot != null;
      default -> true;
    };
  }

  /// Makes the samples of a task and a length.
  public Made make(RulerTask task, int maxLength, int count) {
    var fit = random(task, maxLength, -1);
    var maker = maker(task, maxLength, fit);
    if (maker == null) {
      return new Made(List.of(), Optional.of(doesNotFit(task, maxLength)));
    }
    int size = size(maker, maxLength, fit);
    List<Sample> samples = new ArrayList<>();
    int possible = Math.min(count, maker.samples());
    for (int number = 0; number < possible; number++) {
      var prompt = fitting(maker, size, number, maxLength, random(task, maxLength, number));
      if (prompt == null) {
        return new Made(List.of(), Optional.of(doesNotFit(task, maxLength)));
      }
      samples.add(sample(task, maxLength, number, prompt));
    }
    return new Made(
        samples,
        possible == count
            ? Optional.empty()
            : Optional.of(
                "%s has %d samples and not %d, as there are no more questions"
                    .formatted(task.word(), possible, count)));
  }

  private static String doesNotFit(RulerTask task, int maxLength) {
    return "%s does not fit into %d tokens with this tokenizer, so it is left out there (RULER's own program would try for ever)"
        .formatted(task.word(), maxLength);
  }

  private @Nullable PromptMaker maker(RulerTask task, int maxLength, SplittableRandom random) {
    return switch (task) {
      case NIAH_SINGLE_1,
          NIAH_SINGLE_2,
          NIAH_SINGLE_3,
          NIAH_MULTIKEY_1,
          NIAH_MULTIKEY_2,
          NIAH_MULTIKEY_3,
          NIAH_MULTIVALUE,
          NIAH_MULTIQUERY ->
          Needles.of(task, mode, haystack, maxLength, seed);
      case VT -> variableTracking(maxLength, random);
      case CWE -> new CommonWords(mode, haystack, maxLength, seed);
      case FWE -> new FrequentWords(mode, maxLength, seed);
      case QA_1 -> squad == null ? null : new QuestionAnswering(mode, squad, seed);
      case QA_2 -> hotpot == null ? null : new QuestionAnswering(mode, hotpot, seed);
    };
  }

  private @Nullable PromptMaker variableTracking(int maxLength, SplittableRandom random) {
    int most = VariableTracking.EXAMPLE_LENGTH;
    var ofExample = new VariableTracking(mode, most, null);
    var solved = fitting(ofExample, size(ofExample, most, random), 0, most, random);
    return solved == null
        ? null
        : new VariableTracking(
            mode, maxLength, new VariableTracking.Example(solved.text(), solved.outputs()));
  }

  /// The size to start with.
  private int size(PromptMaker maker, int maxLength, SplittableRandom random) {
    return maker.grows() ? grown(maker, maxLength, random) : halved(maker, maxLength, random);
  }

  private int grown(PromptMaker maker, int maxLength, SplittableRandom random) {
    int size = maker.start();
    while (size <= LARGEST) {
      var prompt = maker.make(Math.min(size, maker.most()), 0, random);
      int used = prompt == null ? 0 : tokens.applyAsInt(prompt.probed()) + maker.reserved();
      if (used > maxLength) {
        return Math.max(1, size - maker.step());
      }
      if (size >= maker.most()) {
        return maker.most();
      }
      if (used == maxLength) {
        break;
      }
      size += maker.step();
    }
    return size;
  }

  private int halved(PromptMaker maker, int maxLength, SplittableRandom random) {
    int step = maker.step();
    var probe = maker.make(step, 0, random);
    int used = probe == null ? 1 : Math.max(1, tokens.applyAsInt(probe.probed()));
    long above = Math.min(LARGEST, Math.max(3L * maxLength * step / used, 2L * step));
    int low = step;
    int high = (int) above;
    int best = step;
    while (low <= high) {
      int middle = (low + high) >>> 1;
      var prompt = maker.make(middle, 0, random);
      if (prompt != null && tokens.applyAsInt(prompt.counted()) + maker.reserved() <= maxLength) {
        best = middle;
        low = middle + 1;
      } else {
        high = middle - 1;
      }
    }
    return best;
  }

  /// The first draw that fits, whole steps smaller each time; null for none.
  private @Nullable Prompt fitting(
      PromptMaker maker, int size, int number, int maxLength, SplittableRandom random) {
    int floor = maker.floor(number);
    int used = Math.max(1, size);
    int drawn = 0;
    int least = Integer.MAX_VALUE;
    int largest = 0;
    while (drawn < MOST_DRAWS && used > 0) {
      var prompt = maker.make(used, number, random);
      int length = prompt == null ? -1 : tokens.applyAsInt(prompt.counted()) + maker.reserved();
      if (prompt != null && length <= maxLength) {
        return prompt;
      }
      if (used > floor) {
        used -= maker.step();
        used = mode == RulerMode.NVIDIA ? used : Math.max(floor, used);
        continue;
      }
      drawn++;
      if (prompt != null) {
        least = Math.min(least, length);
        largest = Math.max(largest, length);
      }
      if (drawn == FEWEST_DRAWS && (largest == 0 || least - maxLength > 3 * (largest - least))) {
        return null;
      }
    }
    return null;
  }

  private Sample sample(RulerTask task, int maxLength, int number, Prompt prompt) {
    int used = tokens.applyAsInt(prompt.counted()) + task.newTokens();
    int at = prompt.input().indexOf(prompt.outputs().getFirst());
    return new Sample(
        task,
        maxLength,
        number,
        number,
        prompt.text(),
        prompt.input(),
        prompt.answerPrefix(),
        prompt.outputs(),
        used,
        used,
        task.hasNeedle() ? tokens.applyAsInt(prompt.input().substring(0, at)) : null);
  }

  /// A stream of its own for each sample, so that more of them, and other lengths, change none.
  private SplittableRandom random(RulerTask task, int maxLength, int number) {
    var digest = Sha256.digest();
    Sha256.update(digest, "%d %s %d %d".formatted(seed, task.word(), maxLength, number));
    return new SplittableRandom(HexFormat.fromHexDigitsToLong(Sha256.hex(digest).substring(0, 16)));
  }
}
