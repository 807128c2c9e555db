package dev.sluice.attention;

import dev.sluice.InvalidInputException;
import org.jspecify.annotations.Nullable;

/// How rotary frequencies are stretched beyond the trained context.
public sealed interface RopeScaling {
  /// As trained.
  record None() implements RopeScaling {}

  /// YaRN (arXiv 2309.00071) as `transformers` computes it (`modeling_rope_utils.py`).
  ///
  /// @param factor s, the stretch
  /// @param originalMaxPositionEmbeddings L₀, the trained context
  /// @param betaFast rotations within L₀ above which a frequency is kept
  /// @param betaSlow rotations within L₀ below which a frequency is divided by s
  /// @param attentionFactor multiplies cosines and sines; null for 0.1 ln s + 1
  /// @param truncate whether the ramp's ends are rounded outwards to whole dimensions
  record Yarn(
      double factor,
      int originalMaxPositionEmbeddings,
      double betaFast,
      double betaSlow,
      @Nullable Double attentionFactor,
      boolean truncate)
      implements RopeScaling {
    public Yarn {
      if (!(factor >= 1) || !Float.isFinite((float) factor)) {
        throw new InvalidInputException(
            "YaRN's factor must be a number of at least 1, not " + factor);
      }
      requirePositive("beta_fast", betaFast);
      requirePositive("beta_slow", betaSlow);
      if (attentionFactor != null) {
        requirePositive("attention_factor", attentionFactor);
      }
      if (originalMaxPositionEmbeddings < 1) {
        throw new InvalidInputException(
            "YaRN's original_max_position_embeddings must be positive, not "
                + originalMaxPositionEmbeddings);
      }
    }

    public Yarn(double factor, int originalMaxPositionEmbeddings) {
      this(factor, originalMaxPositionEmbeddings, 32, 1, null, true);
    }

    private static void requirePositive(String name, double value) {
      if (!(value > 0) || !Float.isFinite((float) value)) {
        throw new InvalidInputException(
            "YaRN's " + name + " must be a positive number that float32 has, not " + value);
      }
    }
  }

  /// As Llama 3.1 has it and `transformers` computes it (`modeling_rope_utils.py`): frequencies
  /// that turn less than `lowFrequencyFactor` times within the trained context are divided by the
  /// factor, those that turn more than `highFrequencyFactor` times are kept, and those between are
  /// mixed.
  ///
  /// @param factor s, the stretch
  /// @param originalMaxPositionEmbeddings L₀, the trained context
  record Llama3(
      double factor,
      int originalMaxPositionEmbeddings,
      double lowFrequencyFactor,
      double highFrequencyFactor)
      implements RopeScaling {
    public Llama3 {
      if (!(factor >= 1) || !Float.isFinite((float) factor)) {
        throw new InvalidInputException(
            "the factor of rope type llama3 must be a number of at least 1, not " + factor);
      }
      if (originalMaxPositionEmbeddings < 1) {
        throw new InvalidInputException(
            "original_max_position_embeddings of rope type llama3 must be positive, not "
                + originalMaxPositionEmbeddings);
      }
      if (!(lowFrequencyFactor > 0)
          || !(highFrequencyFactor > lowFrequencyFactor)
          || !Float.isFinite((float) highFrequencyFactor)) {
        throw new InvalidInputException(
            "rope type llama3 needs a positive low_freq_factor and a larger high_freq_factor, not %s and %s"
                .formatted(lowFrequencyFactor, highFrequencyFactor));
      }
    }
  }

  /// One frequency per pair of the `rotaryDimensions`, in radians per position, in float32 as the
  /// reference has them.
  default float[] inverseFrequencies(double theta, int rotaryDimensions) {
    float[] inverse = new float[rotaryDimensions / 2];
    for (int i = 0; i < inverse.length; i++) {
      // float32 power, as torch computes 1 / (theta ** (arange / dim))
      float exponent = (float) (2 * i) / rotaryDimensions;
      inverse[i] = 1.0f / (float) Math.pow(theta, exponent);
    }
    return switch (this) {
      case None() -> inverse;
      case Yarn yarn -> stretch(yarn, inverse, theta, rotaryDimensions);
      case Llama3 llama -> stretch(llama, inverse);
    };
  }

  /// What cosines and sines are multiplied by; scores scale by its square.
  default double scale() {
    return switch (this) {
      case None(), Llama3 _ -> 1;
      case Yarn yarn -> {
        var given = yarn.attentionFactor();
        yield given != null ? given : yarn.factor() <= 1 ? 1 : 0.1 * Math.log(yarn.factor()) + 1;
      }
    };
  }

  private static float[] stretch(Yarn yarn, float[] inverse, double theta, int dimensions) {
    double low = dimensionOf(yarn.betaFast(), yarn, theta, dimensions);
    double high = dimensionOf(yarn.betaSlow(), yarn, theta, dimensions);
    if (yarn.truncate()) {
      low = Math.floor(low);
      high = Math.ceil(high);
    }
    low = Math.max(low, 0);
    high = Math.min(high, dimensions - 1);
    if (low == high) {
      high += 0.001;
    }
    float[] stretched = new float[inverse.length];
    for (int i = 0; i < inverse.length; i++) {
      float ramp = Math.clamp((float) ((i - low) / (high - low)), 0f, 1f);
      float interpolated = inverse[i] / (float) yarn.factor();
      stretched[i] = interpolated * ramp + inverse[i] * (1 - ramp);
    }
    return stretched;
  }

  private static float[] stretch(Llama3 llama, float[] inverse) {
    float[] stretched = new float[inverse.length];
    for (int i = 0; i < inverse.length; i++) {
      double turns = llama.originalMaxPositionEmbeddings() * inverse[i] / (2 * Math.PI);
      double kept =
          (turns - llama.lowFrequencyFactor())
              / (llama.highFrequencyFactor() - llama.lowFrequencyFactor());
      double share = Math.clamp(kept, 0.0, 1.0);
      stretched[i] = (float) (inverse[i] * (share + (1 - share) / llama.factor()));
    }
    return stretched;
  }

  /// The dimension whose frequency makes `rotations` turns within the trained context.
  private static double dimensionOf(double rotations, Yarn yarn, double theta, int dimensions) {
    return dimensions
        * Math.log(yarn.originalMaxPositionEmbeddings() / (rotations * 2 * Math.PI))
        / (2 * Math.log(theta));
  }
}
