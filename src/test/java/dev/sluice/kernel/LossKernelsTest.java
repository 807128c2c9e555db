package dev.sluice.kernel;

import static dev.sluice.kernel.KernelNumbers.SCALAR;
import static dev.sluice.kernel.KernelNumbers.VECTOR;
import static dev.sluice.kernel.KernelNumbers.fill;
import static dev.sluice.kernel.KernelNumbers.gaussian;
import static dev.sluice.kernel.KernelNumbers.poisoned;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.sluice.kernel.KernelCase.Expected;
import dev.sluice.kernel.KernelCase.Output;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;

/// The next-token loss of logits.
///
/// A rounded exponent changes its power by as much as the exponent itself: exponents count among
/// the terms.
class LossKernelsTest implements RangeKernelRules {
  private static final int[] VOCABULARIES = {1, 2, 7, 16, 63, 64, 65, 257, 1023, 1024, 1025, 2500};
  private static final double SCALE = 1.0 / 37;

  /// What becomes of a gradient.
  private enum Gradient {
    NOT_WANTED,
    FLOAT32,
    BFLOAT16
  }

  @Override
  public List<KernelCase> cases(Arena arena) {
    var cases = new ArrayList<KernelCase>();
    for (var gradient : Gradient.values()) {
      for (int vocabulary : VOCABULARIES) {
        for (int rows : new int[] {1, 7, 65}) {
          var random = new SplittableRandom(31L * rows + vocabulary);
          var logits = gaussian(arena, random, (long) rows * vocabulary, false);
          cases.add(loss(arena, gradient, "plain", logits, rows, vocabulary, 0));
          cases.add(loss(arena, gradient, "z", logits, rows, vocabulary, 0.1));
        }
      }
      for (int vocabulary : new int[] {7, 64, 1100}) {
        cases.add(loss(arena, gradient, "unlike", unlike(arena, vocabulary), 11, vocabulary, 0));
      }
    }
    return cases;
  }

  /// A few, for other tests.
  static List<KernelCase> sample(Arena arena) {
    var cases = new ArrayList<KernelCase>();
    for (var gradient : Gradient.values()) {
      var logits = gaussian(arena, new SplittableRandom(3), 65 * 65, false);
      cases.add(loss(arena, gradient, "sample", logits, 65, 65, 0.1));
    }
    return cases;
  }

  /// Eleven rows of logits as no model should give them.
  private static Floats unlike(Arena arena, int vocabulary) {
    var random = new SplittableRandom(vocabulary);
    float least = Float.NEGATIVE_INFINITY;
    return fill(
        poisoned(arena, 11L * vocabulary, false),
        i -> {
          int j = i % vocabulary;
          float logit = (float) random.nextGaussian();
          return switch (i / vocabulary) {
            case 0 -> logit * 1e4f;
            case 1 -> logit * 1e30f;
            case 2 -> logit * 1e-30f;
            case 3 -> 17;
            case 4 -> logit + 1e4f;
            case 5 -> j % 3 == 0 ? logit : least; // the target's logit among them or not
            case 6 -> j == vocabulary - 1 ? logit : least;
            case 7 -> j % 2 == 0 ? Float.MAX_VALUE : -Float.MAX_VALUE;
            case 8 -> j == vocabulary / 2 ? Float.NaN : logit;
            case 9 -> j == 0 ? Float.POSITIVE_INFINITY : logit;
            default -> least;
          };
        });
  }

  private static MemorySegment targets(Arena arena, int rows, int vocabulary) {
    var targets = arena.allocate(8L * rows);
    var random = new SplittableRandom(rows);
    for (int r = 0; r < rows; r++) {
      long target =
          switch (r % 3) {
            case 0 -> vocabulary - 1;
            case 1 -> 0;
            default -> random.nextInt(vocabulary);
          };
      targets.setAtIndex(ValueLayout.JAVA_LONG, r, target);
    }
    return targets;
  }

  private static KernelCase loss(
      Arena arena,
      Gradient gradient,
      String what,
      Floats logits,
      int rows,
      int vocabulary,
      double zLoss) {
    var targets = targets(arena, rows, vocabulary);
    boolean wanted = gradient != Gradient.NOT_WANTED;
    var outputs = new ArrayList<Output>();
    outputs.add(Output.written("losses", false, rows, 1));
    outputs.add(Output.written("logSums", false, rows, 1));
    if (wanted) {
      outputs.add(Output.written("dLogits", gradient == Gradient.BFLOAT16, rows, vocabulary));
    }
    return new KernelCase(
        "crossEntropy " + what + " " + rows + " × " + vocabulary + " " + gradient,
        rows,
        outputs,
        (kernels, made, from, to) ->
            kernels.crossEntropy(
                logits.memory(),
                targets,
                made.get(0).memory(),
                made.get(1).memory(),
                wanted ? made.getLast() : null,
                SCALE,
                zLoss,
                vocabulary,
                from,
                to),
        () -> {
          var losses = new Expected(rows);
          var logSums = new Expected(rows);
          var dLogits = new Expected(rows * vocabulary);
          for (int r = 0; r < rows; r++) {
            int target = (int) targets.getAtIndex(ValueLayout.JAVA_LONG, r);
            formula(logits, r, vocabulary, target, zLoss, losses, logSums, dLogits);
          }
          return wanted ? List.of(losses, logSums, dLogits) : List.of(losses, logSums);
        });
  }

  private static void formula(
      Floats logits,
      int r,
      int vocabulary,
      int target,
      double zLoss,
      Expected losses,
      Expected logSums,
      Expected dLogits) {
    int row = r * vocabulary;
    double largest = Double.NEGATIVE_INFINITY;
    for (int j = 0; j < vocabulary; j++) {
      largest = Math.max(largest, logits.get(row + j));
    }
    double sum = 0;
    double terms = 0;
    for (int j = 0; j < vocabulary; j++) {
      double e = Math.exp(logits.get(row + j) - largest);
      sum += e;
      terms += e == 0 ? 0 : e * Math.abs(logits.get(row + j) - largest);
    }
    double loss = Math.log(sum) + largest - logits.get(row + target);
    losses.set(r, loss, 1 + Math.abs(loss) + terms / sum);
    double logSum = Math.log(sum) + largest;
    logSums.set(r, logSum, 1 + Math.abs(logSum) + terms / sum);
    double share = zLoss == 0 ? 1 : 1 + 2 * zLoss * logSum;
    double size = zLoss == 0 ? 1 : 1 + 2 * zLoss * (Math.abs(logSum) + terms / sum);
    for (int j = 0; j < vocabulary; j++) {
      double exponent = logits.get(row + j) - largest;
      double p = Math.exp(exponent) / sum;
      double one = j == target ? 1 : 0;
      double weight = p == 0 ? 0 : p * (1 + Math.abs(exponent) + terms / sum);
      dLogits.set(row + j, SCALE * (p * share - one), SCALE * (weight * size + one));
    }
  }

  /// Equal logits give equal chances, whatever the vocabulary is padded to.
  @Test
  void paddingOfAVocabularyHasNoShare() {
    try (var arena = Arena.ofConfined()) {
      for (int vocabulary : VOCABULARIES) {
        for (float logit : new float[] {-1e4f, 0, 1e4f}) {
          var logits = fill(poisoned(arena, vocabulary, false), _ -> logit);
          for (var kernels : new Kernels[] {SCALAR, VECTOR}) {
            var loss = poisoned(arena, 1, false);
            kernels.crossEntropy(
                logits.memory(),
                targets(arena, 1, vocabulary),
                loss.memory(),
                poisoned(arena, 1, false).memory(),
                null,
                1,
                0,
                vocabulary,
                0,
                1);
            assertEquals(Math.log(vocabulary), loss.get(0), 1e-6);
          }
        }
      }
    }
  }
}
