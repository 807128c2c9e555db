package dev.sluice.decoder;

import dev.sluice.attention.RopeScaling;
import dev.sluice.gate.Gate;
import dev.sluice.operations.Precision;
import dev.sluice.tensor.Device;
import java.util.List;
import java.util.SplittableRandom;

/// Small random decoders for tests, with weights large enough that every path matters.
public final class TinyDecoders {
  public static final int VOCABULARY = 19;
  public static final int LAYERS = 3;
  public static final int HEADS = 4;
  public static final int CONTEXT = 128;

  private TinyDecoders() {}

  public static Decoder random(Gate... gates) {
    return Decoder.initialize(config(gates), Precision.FLOAT32, Device.CPU, 7);
  }

  public static DecoderConfig config(Gate... gates) {
    return DecoderConfig.uniform(
        VOCABULARY,
        16,
        24,
        LAYERS,
        HEADS,
        2,
        8,
        CONTEXT,
        10_000,
        new RopeScaling.None(),
        1e-6,
        true,
        false,
        0.5,
        List.of(gates));
  }

  /// Random token ids.
  public static long[] tokens(int count, long seed) {
    return new SplittableRandom(seed).longs(count, 0, VOCABULARY).toArray();
  }
}
