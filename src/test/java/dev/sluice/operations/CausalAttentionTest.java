package dev.sluice.operations;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.sluice.kernel.Threads;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// What attention in tiles gives besides its result, and what it refuses.
class CausalAttentionTest {
  @BeforeEach
  void poison() {
    Libtorch.poisonUninitialized(true);
  }

  @AfterEach
  void stopPoisoning() {
    Libtorch.poisonUninitialized(false);
  }

  /// The log-sum-exp of each query's scores, against a direct computation in float64: 4 ulp of the
  /// terms of the largest score and of the logarithm.
  @ParameterizedTest(name = "B{0} N{1} M{2} T{3} H{4} {5}")
  @CsvSource({
    "1,1,1,1,2,FLOAT32",
    "2,6,2,65,10,FLOAT32",
    "1,8,1,530,32,FLOAT32",
    "1,3,1,1100,6,FLOAT32",
    "2,6,2,65,10,BFLOAT16",
    "1,8,1,1030,6,BFLOAT16"
  })
  void logSumExp(
      int batch, int heads, int keyValueHeads, int tokens, int headSize, ElementType type) {
    var random = new Random(headSize);
    try (var _ = Scope.open()) {
      var query =
          Tensor.of(
                  floats(random, batch * heads * tokens * headSize), batch, tokens, heads, headSize)
              .to(type);
      var key =
          Tensor.of(
                  floats(random, batch * keyValueHeads * tokens * headSize),
                  batch,
                  tokens,
                  keyValueHeads,
                  headSize)
              .to(type);
      var attended = CausalAttention.inTiles(query, key, key, null, 0, null);
      double[] q = query.doubles();
      double[] k = key.doubles();
      int group = heads / keyValueHeads;
      assertArrayEquals(
          new long[] {batch, keyValueHeads, tokens, group}, attended.logSumExpBMTG().shape());
      double[] actual = attended.logSumExpBMTG().doubles();
      for (int i = 0; i < actual.length; i++) {
        int head = i / group / tokens % keyValueHeads;
        int sequence = i / group / tokens / keyValueHeads;
        int token = i / group % tokens;
        int row = ((sequence * tokens + token) * heads + head * group + i % group) * headSize;
        double sum = 0;
        double terms = 1;
        for (int j = 0; j <= token; j++) {
          int column = ((sequence * tokens + j) * keyValueHeads + head) * headSize;
          double score = 0;
          double magnitudes = 0;
          for (int h = 0; h < headSize; h++) {
            score += q[row + h] * k[column + h] / Math.sqrt(headSize);
            magnitudes += Math.abs(q[row + h] * k[column + h]) / Math.sqrt(headSize);
          }
          sum += Math.exp(score);
          terms = Math.max(terms, 1 + magnitudes);
        }
        assertEquals(Math.log(sum), actual[i], 4 * 0x1p-23 * terms, "row " + i);
      }
    }
  }

  /// The gradient of the log-sum-exp alone, against libtorch's of the explicit one.
  @Test
  void gradientOfTheLogSumExp() {
    var random = new Random(9);
    int tokens = 70;
    try (var _ = Scope.open()) {
      var q = Tensor.of(floats(random, tokens * 2 * 6), 1, tokens, 2, 6).requireGradient(true);
      var k = Tensor.of(floats(random, tokens * 6), 1, tokens, 1, 6).requireGradient(true);
      var weights = Tensor.of(floats(random, tokens * 2), 1, 1, tokens, 2);
      CausalAttention.inTiles(q, k, k.detach(), null, 0, null)
          .logSumExpBMTG()
          .times(weights)
          .sum()
          .backward();
      double[] dq = q.gradient().doubles();
      for (int i = 0; i < dq.length; i += 7) {
        double[] sums = new double[2];
        for (int side = 0; side < 2; side++) {
          float[] moved = q.detach().floats();
          moved[i] += side == 0 ? -1e-2f : 1e-2f;
          var logSumExp =
              CausalAttention.inTiles(
                      Tensor.of(moved, 1, tokens, 2, 6), k.detach(), k.detach(), null, 0, null)
                  .logSumExpBMTG();
          sums[side] =
              logSumExp.to(ElementType.FLOAT64).times(weights.to(ElementType.FLOAT64)).sum().item();
        }
        assertEquals((sums[1] - sums[0]) / 2e-2, dq[i], 2e-3, "dq[" + i + "]");
      }
    }
  }

  /// Same inputs, same bits, also with another number of threads: a block of queries is one
  /// thread's work.
  @Test
  void repeats() {
    var random = new Random(1);
    var q = Tensor.of(floats(random, 2 * 150 * 4 * 16), 2, 150, 4, 16);
    var k = Tensor.of(floats(random, 2 * 150 * 2 * 16), 2, 150, 2, 16);
    var v = Tensor.of(floats(random, 2 * 150 * 2 * 16), 2, 150, 2, 16);
    float[] once = CausalAttention.inTiles(q, k, v, null, 0, null).yBTNH().floats();
    Threads.count(1);
    try {
      assertArrayEquals(once, CausalAttention.inTiles(q, k, v, null, 0, null).yBTNH().floats());
    } finally {
      Threads.count(Runtime.getRuntime().availableProcessors());
    }
  }

  @Test
  void tilesOverACacheRefuseGradients() {
    try (var _ = Scope.open()) {
      var q = Tensor.zeros(ElementType.FLOAT32, 1, 2, 1, 4).requireGradient(true);
      var k = Tensor.zeros(ElementType.FLOAT32, 1, 5, 1, 4);
      assertThrows(
          IllegalArgumentException.class,
          () -> CausalAttention.cachedInTiles(q, List.of(k), List.of(k), null, 0));
    }
  }

  private static float[] floats(Random random, int count) {
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }
}
