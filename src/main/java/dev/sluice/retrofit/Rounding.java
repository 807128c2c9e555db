package dev.sluice.retrofit;

import dev.sluice.decoder.Decoder;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;

/// Numbers rounded to few bits as a quantised model has them, and computed with in float32: `s ·
/// round(x / s)`, symmetric, with the scale s from the largest |x| of a group. What a large outlier
/// shares its group with is rounded away.
public enum Rounding {
  /// Weights of all matrices in the layers, a scale for each output channel (row), −127 … 127.
  WEIGHTS_INT8("weights int8, a scale per output channel"),
  /// The same, −7 … 7.
  WEIGHTS_INT4("weights int4, a scale per output channel"),
  /// Inputs of the layers' products, a scale for each token, −127 … 127.
  ACTIVATIONS_INT8_BY_TOKEN("activations int8, a scale per token"),
  /// The same with one scale for all tokens of a window.
  ACTIVATIONS_INT8_BY_WINDOW("activations int8, a scale per window");

  private static final int INT8 = 127;
  private static final int INT4 = 7;

  private final String words;

  Rounding(String words) {
    this.words = words;
  }

  /// What is rounded, with how many scales.
  public String words() {
    return words;
  }

  /// Rounds the weights, where it is they that are; the model is then good for nothing else.
  void applyTo(Decoder decoder) {
    switch (this) {
      case WEIGHTS_INT8 -> roundWeights(decoder, INT8);
      case WEIGHTS_INT4 -> roundWeights(decoder, INT4);
      case ACTIVATIONS_INT8_BY_TOKEN, ACTIVATIONS_INT8_BY_WINDOW -> {}
    }
  }

  /// Through which the model is looked at; windows go through it one at a time.
  Probe probe() {
    return switch (this) {
      case WEIGHTS_INT8, WEIGHTS_INT4 -> Probe.NONE;
      case ACTIVATIONS_INT8_BY_TOKEN -> activations(true);
      case ACTIVATIONS_INT8_BY_WINDOW -> activations(false);
    };
  }

  private static Probe activations(boolean byToken) {
    return new Probe() {
      @Override
      public boolean changesProductInputs() {
        return true;
      }

      @Override
      public Tensor productInput(Tensor x) {
        float[] values = x.floats();
        int group = byToken ? Math.toIntExact(x.size(-1)) : values.length;
        for (int from = 0; from < values.length; from += group) {
          round(values, from, from + group, INT8);
        }
        return Tensor.of(values, x.shape()).to(x.type()).to(x.device());
      }
    };
  }

  /// Matrices of the layers' products: neither embedding, output matrix and norms, nor the short
  /// convolutions of Gated DeltaNet.
  private static void roundWeights(Decoder decoder, int most) {
    decoder
        .parameters()
        .weights()
        .forEach(
            (name, weight) -> {
              if (weight.spec().isMatrix()
                  && name.startsWith("model.layers.")
                  && !name.contains("conv1d")) {
                roundRows(weight, most);
              }
            });
  }

  private static void roundRows(Weight weight, int most) {
    int width = Math.toIntExact(weight.spec().shape()[1]);
    float[] values = weight.leaf().floats();
    for (int from = 0; from < values.length; from += width) {
      round(values, from, from + width, most);
    }
    try (var _ = Scope.withoutGradient()) {
      weight.leaf().copyFrom(Tensor.of(values, weight.leaf().shape()));
    }
  }

  /// Rounds `from … to` with one scale, ties to even.
  static void round(float[] values, int from, int to, int most) {
    float largest = 0;
    for (int i = from; i < to; i++) {
      largest = Math.max(largest, Math.abs(values[i]));
    }
    if (!(largest > 0) || !Float.isFinite(largest)) {
      return; // nothing to round, or nothing that can be
    }
    double scale = (double) largest / most;
    for (int i = from; i < to; i++) {
      values[i] = (float) (Math.rint(values[i] / scale) * scale);
    }
  }
}
