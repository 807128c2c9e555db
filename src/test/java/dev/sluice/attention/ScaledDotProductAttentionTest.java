package dev.sluice.attention;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.sluice.probe.Probe;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.Random;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// The fused attention against the explicit one: values and the gradients of queries, keys and
/// values.
class ScaledDotProductAttentionTest {
  private static final Probe EXPLICIT =
      new Probe() {
        @Override
        public boolean wantsAttention(int layer) {
          return true;
        }
      };

  @ParameterizedTest(name = "B{0} N{1} M{2} T{3} H{4}")
  @CsvSource({"1,1,1,1,2", "2,6,2,7,6", "1,4,4,63,10", "1,4,1,65,16", "3,2,1,130,8"})
  void fusedEqualsExplicit(int batch, int heads, int keyValueHeads, int tokens, int headSize) {
    var random = new Random(tokens);
    float[] q = floats(random, batch * heads * tokens * headSize);
    float[] k = floats(random, batch * keyValueHeads * tokens * headSize);
    float[] v = floats(random, batch * keyValueHeads * tokens * headSize);
    float[] upstream = floats(random, q.length);
    float[][][] results = new float[2][][];
    for (int way = 0; way < 2; way++) {
      try (var _ = Scope.open()) {
        var qBNTH = Tensor.of(q, batch, heads, tokens, headSize).requireGradient(true);
        var kBMSH = Tensor.of(k, batch, keyValueHeads, tokens, headSize).requireGradient(true);
        var vBMSH = Tensor.of(v, batch, keyValueHeads, tokens, headSize).requireGradient(true);
        var y =
            ScaledDotProductAttention.attend(
                qBNTH, kBMSH, vBMSH, 0, way == 0 ? Probe.NONE : EXPLICIT);
        y.backward(Tensor.of(upstream, batch, heads, tokens, headSize));
        results[way] =
            new float[][] {
              y.detach().floats(),
              qBNTH.gradient().floats(),
              kBMSH.gradient().floats(),
              vBMSH.gradient().floats()
            };
      }
    }
    String[] names = {"y", "dq", "dk", "dv"};
    for (int i = 0; i < names.length; i++) {
      for (int j = 0; j < results[1][i].length; j++) {
        assertEquals(results[1][i][j], results[0][i][j], 2e-5, names[i] + "[" + j + "]");
      }
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
