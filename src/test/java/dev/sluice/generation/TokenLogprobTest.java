package dev.sluice.generation;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.SplittableRandom;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

class TokenLogprobTest {
  /// The likeliest as a stable sort has them, among equals too.
  @Test
  void theLikeliestComeFirst() {
    var random = new SplittableRandom(3);
    float[] logits = new float[50];
    for (int round = 0; round < 20; round++) {
      for (int i = 0; i < logits.length; i++) {
        logits[i] = random.nextInt(8) == 0 ? Float.NEGATIVE_INFINITY : random.nextInt(12);
      }
      var sorted =
          IntStream.range(0, logits.length)
              .boxed()
              .sorted((a, b) -> Float.compare(logits[b], logits[a]))
              .toList();
      for (int count : new int[] {0, 1, 7, 49, 50, 60}) {
        var likeliest =
            TokenLogprob.of(4, logits, count).likeliest().stream()
                .map(TokenLogprob::token)
                .toList();
        assertEquals(sorted.subList(0, Math.min(count, 50)), likeliest);
      }
    }
  }
}
