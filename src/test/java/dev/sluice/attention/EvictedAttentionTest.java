package dev.sluice.attention;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.decoder.TinyDecoders;
import dev.sluice.gate.Gate;
import dev.sluice.probe.KeptKeys;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class EvictedAttentionTest {
  private static final int HEADS = 4;
  private static final int KEY_HEADS = 2;
  private static final int WIDTH = 6;

  private static float[] random(int count, long seed) {
    var random = new SplittableRandom(seed);
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }

  /// A vector turned to a position, in float64.
  private static double[] turned(float[] all, int at, int position, float[] frequencies) {
    double[] y = new double[WIDTH];
    int half = WIDTH / 2;
    for (int i = 0; i < half; i++) {
      double angle = position * frequencies[i];
      y[i] = all[at + i] * Math.cos(angle) - all[at + half + i] * Math.sin(angle);
      y[half + i] = all[at + half + i] * Math.cos(angle) + all[at + i] * Math.sin(angle);
    }
    return y;
  }

  /// Against a cache that is fed one token after the other, evicts, and turns its keys anew.
  @ParameterizedTest
  @CsvSource({"0, 5, 23", "4, 5, 23", "4, 1, 9", "3, 300, 12", "2, 7, 600", "30, 2, 23"})
  void asACacheThatEvicts(int first, int last, int tokens) {
    var rotary = new Rotary(100, new RopeScaling.None());
    float[] frequencies = rotary.inverseFrequencies(WIDTH, 1);
    float[] q = random(tokens * HEADS * WIDTH, 1);
    float[] k = random(tokens * KEY_HEADS * WIDTH, 2);
    float[] v = random(tokens * KEY_HEADS * WIDTH, 3);
    float[] y;
    try (var _ = Scope.withoutGradient()) {
      var rotation = new RotaryEmbedding(rotary, WIDTH).rotation(0, tokens, Device.CPU);
      var query = Tensor.of(q, 1, tokens, HEADS, WIDTH);
      y =
          EvictedAttention.attend(
                  rotation.rotate(query),
                  rotation.upTo(first + last - 1).rotate(query),
                  rotation.rotate(Tensor.of(k, 1, tokens, KEY_HEADS, WIDTH)),
                  Tensor.of(v, 1, tokens, KEY_HEADS, WIDTH),
                  null,
                  new KeptKeys(first, last))
              .contiguous()
              .floats();
    }
    List<Integer> cache = new ArrayList<>();
    for (int t = 0; t < tokens; t++) {
      cache.add(t);
      if (cache.size() > first + last) {
        cache.remove(first);
      }
      for (int head = 0; head < HEADS; head++) {
        int of = head / (HEADS / KEY_HEADS);
        double[] query = turned(q, (t * HEADS + head) * WIDTH, cache.size() - 1, frequencies);
        double[] sum = new double[WIDTH];
        double total = 0;
        for (int place = 0; place < cache.size(); place++) {
          int at = (cache.get(place) * KEY_HEADS + of) * WIDTH;
          double[] key = turned(k, at, place, frequencies);
          double score = 0;
          for (int i = 0; i < WIDTH; i++) {
            score += query[i] * key[i];
          }
          double weight = Math.exp(score / Math.sqrt(WIDTH));
          total += weight;
          for (int i = 0; i < WIDTH; i++) {
            sum[i] += weight * v[at + i];
          }
        }
        for (int i = 0; i < WIDTH; i++) {
          assertEquals(sum[i] / total, y[(t * HEADS + head) * WIDTH + i], 1e-4, "token " + t);
        }
      }
    }
  }

  private static float[] hidden(@Nullable KeptKeys kept, Gate... gates) {
    var probe =
        new Probe() {
          @Override
          public @Nullable KeptKeys keptKeys() {
            return kept;
          }
        };
    try (var decoder = TinyDecoders.random(gates);
        var _ = Scope.withoutGradient()) {
      return decoder
          .hiddenStates(Tensor.of(TinyDecoders.tokens(40, 5), 1, 40), null, probe)
          .floats();
    }
  }

  /// A model whose cache evicts nothing is the model; one that evicts differs where it does.
  @Test
  void aModelWithAllKeysIsTheModel() {
    for (Gate[] gates : new Gate[][] {{}, {Gate.SDPA_ELEMENTWISE}, {Gate.SDPA_HEADWISE}}) {
      float[] whole = hidden(null, gates);
      float[] kept = hidden(new KeptKeys(4, 36), gates);
      float[] evicted = hidden(new KeptKeys(4, 8), gates);
      int width = whole.length / 40;
      double most = 0;
      for (int i = 0; i < whole.length; i++) {
        assertEquals(whole[i], kept[i], 1e-3);
        if (i < 12 * width) {
          assertEquals(whole[i], evicted[i], 1e-3);
        } else {
          most = Math.max(most, Math.abs(whole[i] - evicted[i]));
        }
      }
      assertTrue(most > 0.05, "" + most);
    }
  }
}
