package dev.sluice.retrofit;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.TinyDecoders;
import dev.sluice.gate.Gate;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import org.junit.jupiter.api.Test;

class RoundingTest {
  /// The nearest of 2 · most + 1 steps of the largest, which stays as it is.
  @Test
  void nearestStep() {
    float[] values = {-7, 0.4f, 0.6f, 2.5f, 3.5f, 0, 9};
    Rounding.round(values, 0, 6, 7);
    assertArrayEquals(new float[] {-7, 0, 1, 2, 4, 0, 9}, values);
    float[] zeros = {0, 0};
    Rounding.round(zeros, 0, 2, 127);
    assertArrayEquals(new float[] {0, 0}, zeros);
    float[] outlier = {1000, 1, -3, 3.5f};
    Rounding.round(outlier, 0, 4, 127);
    assertArrayEquals(
        new float[] {1000, 0, 0, 0}, outlier, 1e-9f, "small ones beside a large one go");
  }

  /// Rows of the layers' matrices have at most 15 numbers in int4, each row its own; embedding,
  /// norms and output matrix are as they were.
  @Test
  void weights() {
    try (var decoder = TinyDecoders.random(Gate.SDPA_HEADWISE)) {
      Map<String, float[]> before = new HashMap<>();
      decoder.parameters().all().forEach((name, tensor) -> before.put(name, tensor.floats()));
      Rounding.WEIGHTS_INT4.applyTo(decoder);
      int rounded = 0;
      for (var named : decoder.parameters().weights().entrySet()) {
        float[] now = named.getValue().leaf().floats();
        boolean inLayers = named.getKey().startsWith("model.layers.");
        if (!inLayers || !named.getValue().spec().isMatrix()) {
          assertArrayEquals(before.get(named.getKey()), now, named.getKey());
          continue;
        }
        rounded++;
        int width = (int) named.getValue().spec().shape()[1];
        for (int row = 0; row < now.length; row += width) {
          var different = new HashSet<Float>();
          float largest = 0;
          for (int i = row; i < row + width; i++) {
            different.add(Math.abs(now[i]));
            largest = Math.max(largest, Math.abs(now[i] - before.get(named.getKey())[i]));
          }
          assertTrue(different.size() <= 8, named.getKey());
          assertTrue(largest > 0, named.getKey());
        }
      }
      assertEquals(8 * TinyDecoders.LAYERS, rounded); // q, k, v, o, gate and three of the MLP
    }
  }

  /// Inputs of products are rounded, of a feed-forward layer's inner ones too; coarser scales
  /// change more, and a probe that changes nothing gives the answers of the fused operations.
  @Test
  void activations() {
    long[] ids = TinyDecoders.tokens(40, 3);
    try (var decoder = TinyDecoders.random(Gate.SDPA_ELEMENTWISE)) {
      float[] plain = logits(decoder, ids, Probe.NONE);
      float[] unchanged =
          logits(
              decoder,
              ids,
              new Probe() {
                @Override
                public boolean changesProductInputs() {
                  return true;
                }
              });
      double none = largest(plain, unchanged);
      double byToken =
          largest(plain, logits(decoder, ids, Rounding.ACTIVATIONS_INT8_BY_TOKEN.probe()));
      double byWindow =
          largest(plain, logits(decoder, ids, Rounding.ACTIVATIONS_INT8_BY_WINDOW.probe()));
      assertEquals(0, none, 1e-3 * byToken);
      assertTrue(byToken > 0 && byWindow > byToken, byToken + " and " + byWindow);
    }
  }

  private static float[] logits(Decoder decoder, long[] ids, Probe probe) {
    try (var _ = Scope.withoutGradient()) {
      return decoder
          .logits(decoder.hiddenStates(Tensor.of(ids, 1, ids.length), null, probe))
          .floats();
    }
  }

  private static double largest(float[] left, float[] right) {
    double largest = 0;
    for (int i = 0; i < left.length; i++) {
      largest = Math.max(largest, Math.abs(left[i] - right[i]));
    }
    return largest;
  }
}
