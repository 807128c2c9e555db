package dev.sluice.evaluation;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.TestData;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.TinyDecoders;
import dev.sluice.evaluation.LikelihoodScorer.Likelihood;
import dev.sluice.gate.Gate;
import dev.sluice.operations.Precision;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import java.util.TreeSet;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/// Scores of many requests, which share starts and batches, against each alone by the definition:
/// the whole sequence at once and all its logits.
class LikelihoodScorerTest {
  private static Decoder decoder;
  private static final List<TokenRequest> REQUESTS = new ArrayList<>();
  private static final List<Likelihood> EXPECTED = new ArrayList<>();

  @BeforeAll
  static void make() {
    decoder = TinyDecoders.random(Gate.SDPA_ELEMENTWISE);
    var random = new SplittableRandom(6);
    int[] examples = tokens(random, 271);
    for (int question = 0; question < 7; question++) {
      int[] context =
          joined(question < 5 ? examples : new int[0], tokens(random, 3 + 2 * question));
      for (int choice = 0; choice < 3; choice++) {
        add(context, tokens(random, 1 + choice + question % 2));
      }
    }
    add(examples, tokens(random, 1)); // ends where the others go on
    add(examples, likeliest(examples, 3));
    add(tokens(random, 1), tokens(random, 1));
    REQUESTS.add(REQUESTS.getFirst());
    REQUESTS.forEach(request -> EXPECTED.add(byDefinition(request)));
  }

  @AfterAll
  static void close() {
    decoder.close();
  }

  private static void add(int[] context, int[] continuation) {
    REQUESTS.add(TokenRequest.after(joined(context, continuation), context.length, 0));
  }

  private static int[] tokens(SplittableRandom random, int count) {
    return random.ints(count, 0, decoder.config().vocabSize()).toArray();
  }

  private static int[] joined(int[] a, int[] b) {
    int[] all = Arrays.copyOf(a, a.length + b.length);
    System.arraycopy(b, 0, all, a.length, b.length);
    return all;
  }

  private static int[] likeliest(int[] context, int count) {
    int[] all = context;
    for (int i = 0; i < count; i++) {
      double[] logits = logits(all);
      int from = logits.length - decoder.config().vocabSize();
      int best = from;
      for (int j = from; j < logits.length; j++) {
        best = logits[j] > logits[best] ? j : best;
      }
      all = joined(all, new int[] {best - from});
    }
    return Arrays.copyOfRange(all, context.length, all.length);
  }

  private static double[] logits(int[] inputs) {
    return logits(decoder, inputs);
  }

  private static double[] logits(Decoder decoder, int[] inputs) {
    try (var _ = Scope.withoutGradient()) {
      long[] ids = Arrays.stream(inputs).asLongStream().toArray();
      float[] logits =
          decoder
              .logits(decoder.hiddenStates(Tensor.of(ids, 1, ids.length), null, Probe.NONE))
              .floats();
      double[] wide = new double[logits.length];
      Arrays.setAll(wide, i -> logits[i]);
      return wide;
    }
  }

  private static Likelihood byDefinition(TokenRequest request) {
    return byDefinition(decoder, request);
  }

  private static Likelihood byDefinition(Decoder decoder, TokenRequest request) {
    double[] logits = logits(decoder, request.inputs());
    int vocabulary = decoder.config().vocabSize();
    double sum = 0;
    boolean greedy = true;
    for (int i = 0; i < request.targets().length; i++) {
      int from = (request.firstScored() + i) * vocabulary;
      double[] row = Arrays.copyOfRange(logits, from, from + vocabulary);
      double total = Arrays.stream(row).map(Math::exp).sum();
      sum += row[request.targets()[i]] - Math.log(total);
      greedy &= Arrays.stream(row).max().orElseThrow() == row[request.targets()[i]];
    }
    return new Likelihood(sum, greedy);
  }

  private static void assertScores(List<Likelihood> scores) {
    for (int i = 0; i < scores.size(); i++) {
      assertEquals(EXPECTED.get(i).logLikelihood(), scores.get(i).logLikelihood(), 2e-4, "" + i);
      assertEquals(EXPECTED.get(i).greedy(), scores.get(i).greedy(), "" + i);
    }
  }

  @Test
  void eachIsScoredAsIfAlone() {
    assertTrue(EXPECTED.stream().anyMatch(Likelihood::greedy));
    assertTrue(EXPECTED.stream().distinct().count() > 20);
    for (int batchSize : new int[] {1, 3, 64}) {
      assertScores(new LikelihoodScorer(decoder, batchSize).score(REQUESTS));
      // As a large model, which shares all it can, and at any length.
      assertScores(new LikelihoodScorer(decoder, batchSize, Probe.NONE, 1).score(REQUESTS));
    }
  }

  /// The examples before five questions go through the model once.
  @Test
  void sharedStartsAreComputedOnce() {
    long[] tokens = new long[1];
    new LikelihoodScorer(decoder, 8).score(REQUESTS, _ -> true, (_, _, n) -> tokens[0] += n);
    long all = REQUESTS.stream().mapToLong(request -> request.inputs().length).sum();
    assertTrue(tokens[0] < all / 4, tokens[0] + " of " + all);
  }

  @Test
  void whatIsNotWantedIsLeftOut() {
    var seen = new TreeSet<Integer>();
    var all = new LikelihoodScorer(decoder, 8).score(REQUESTS);
    new LikelihoodScorer(decoder, 8)
        .score(
            REQUESTS,
            i -> i % 4 == 1,
            (i, likelihood, _) -> {
              assertTrue(seen.add(i));
              assertEquals(all.get(i).logLikelihood(), likelihood.logLikelihood(), 1e-5);
            });
    var wanted = new TreeSet<Integer>();
    for (int i = 1; i < REQUESTS.size(); i += 4) {
      wanted.add(i);
    }
    assertEquals(wanted, seen);
  }

  /// A recurrent state is of all tokens, and has no prefix.
  @Test
  void recurrentStatesAreShared() {
    try (var hybrid =
        ModelDirectory.load(
            TestData.GOLDEN.resolve("qwen3.5"), Precision.FLOAT32, Device.CPU, false)) {
      var random = new SplittableRandom(9);
      int vocabulary = hybrid.config().vocabSize();
      int[] context = random.ints(21, 0, vocabulary).toArray();
      List<TokenRequest> requests = new ArrayList<>();
      for (int choice = 1; choice < 5; choice++) {
        int[] all = joined(context, random.ints(choice, 0, vocabulary).toArray());
        requests.add(TokenRequest.after(all, context.length, 0));
      }
      long[] tokens = new long[1];
      new LikelihoodScorer(hybrid, 4, Probe.NONE, 1)
          .score(
              requests,
              _ -> true,
              (i, likelihood, n) -> {
                tokens[0] += n;
                assertEquals(
                    byDefinition(hybrid, requests.get(i)).logLikelihood(),
                    likelihood.logLikelihood(),
                    2e-3);
              });
      assertTrue(tokens[0] < 60, "" + tokens[0]);
    }
  }
}
