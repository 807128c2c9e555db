package dev.sluice.operations;

import static dev.sluice.tensor.Differentiated.gaussian;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;

import dev.sluice.kernel.Threads;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.util.Objects;
import java.util.SplittableRandom;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/// Rows of a table, and the sums of gradients of rows that were taken several times.
class TokenEmbeddingTest {
  private static final int VOCABULARY = 19;

  private final SplittableRandom random = new SplittableRandom(43);
  private Scope scope;

  @BeforeEach
  void open() {
    Libtorch.poisonUninitialized(true);
    scope = Scope.open();
  }

  @AfterEach
  void close() {
    scope.close();
    Libtorch.poisonUninitialized(false);
    Threads.count(Runtime.getRuntime().availableProcessors());
  }

  private Tensor ids(long... shape) {
    long[] ids = random.longs(shape[0] * shape[1], 0, VOCABULARY - 1).toArray(); // not the last
    return Tensor.of(ids, shape);
  }

  private static float[] gradient(Tensor table) {
    return Objects.requireNonNull(table.gradient()).floats();
  }

  /// Values are the rows; gradients are float32 sums in the ids' order, bit for bit, also over two
  /// passes and with any number of threads.
  @Test
  void rowsAndSumsOfTheirGradients() {
    for (int width : new int[] {1, 7, 63, 65, 130, 200}) {
      for (int threads = 1; threads <= 3; threads++) {
        Threads.count(threads);
        var table = gaussian(random, ElementType.FLOAT32, VOCABULARY, width);
        float[] rows = table.detach().floats();
        float[] sums = new float[VOCABULARY * width];
        for (int pass = 0; pass < 2; pass++) {
          var ids = ids(2, 65);
          var y = TokenEmbedding.apply(new Weight("table", table), ids);
          assertArrayEquals(new long[] {2, 65, width}, y.shape());
          float[] values = y.detach().floats();
          var upstream = gaussian(random, ElementType.FLOAT32, 2, 65, width).detach();
          float[] more = upstream.floats();
          y.backward(upstream);
          long[] at = ids.longs();
          for (int i = 0; i < values.length; i++) {
            int row = (int) at[i / width] * width + i % width;
            assertEquals(rows[row], values[i]);
            sums[row] += more[i];
          }
          assertArrayEquals(sums, gradient(table), width + " by " + threads + " threads");
        }
      }
    }
  }

  @Test
  void transposedIdsAndUpstream() {
    var table = gaussian(random, ElementType.FLOAT32, VOCABULARY, 7);
    var ids = ids(5, 13);
    var upstream = gaussian(random, ElementType.FLOAT32, 5, 13, 7).detach();
    TokenEmbedding.apply(new Weight("table", table), ids).backward(upstream);
    float[] expected = gradient(table);
    table.clearGradient();
    var y = TokenEmbedding.apply(new Weight("table", table), ids.transpose(0, 1));
    assertArrayEquals(
        table.embedding(ids).transpose(0, 1).contiguous().detach().floats(), y.detach().floats());
    y.backward(upstream.transpose(0, 1));
    assertArrayEquals(expected, gradient(table), 65 * 0x1p-23f); // another order of the sums
  }

  @Test
  void noGradientIsWanted() {
    var table = gaussian(random, ElementType.FLOAT32, VOCABULARY, 7);
    assertFalse(
        TokenEmbedding.apply(new Weight("table", table.detach()), ids(2, 3)).requiresGradient());
    try (var _ = Scope.withoutGradient()) {
      assertFalse(TokenEmbedding.apply(new Weight("table", table), ids(2, 3)).requiresGradient());
    }
    assertNull(table.gradient());
  }
}
