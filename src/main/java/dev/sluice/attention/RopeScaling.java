package dev.sluice.attention;

import dev.sluice.InvalidInputException;
import java.util.ArrayList;
import java.util.List;
import java.util.OptionalInt;
import org.jspecify.annotations.Nullable;

/// How rotary frequencies are stretched beyond the trained context.
public sealed interface RopeScaling {
  /// By how much; 1 for not at all.
  double factor();

  /// As trained.
  record None() implements RopeScaling {
    @Override
    public double factor() {
      return 1;
    }
  }

  /// Positions are divided by a factor (position interpolation, arXiv 2306.15595).
  ///
  /// @param factor s, the stretch
  record Linear(double factor) implements RopeScaling {
    public Linear {
      requireFactor("the factor of rope type linear", factor);
    }
  }

  /// The base grows with the sequence beyond the trained context, so that the slowest frequency
  /// turns over it as it did within (`dynamic` of `modeling_rope_utils.py`). The frequencies of a
  /// token are those of the pass that it came in: keys that are kept stay as they were turned.
  ///
  /// @param factor s; a sequence of s · L₀ tokens is stretched by about s
  /// @param maxPositionEmbeddings L₀, the trained context
  record Dynamic(double factor, int maxPositionEmbeddings) implements RopeScaling {
    public Dynamic {
      requireFactor("the factor of rope type dynamic", factor);
      if (maxPositionEmbeddings < 1) {
        throw new InvalidInputException(
            "rope type dynamic needs a positive max_position_embeddings, not "
                + maxPositionEmbeddings);
      }
    }
  }

  private static void requireFactor(String what, double factor) {
    if (!(factor >= 1) || !Float.isFinite((float) factor)) {
      throw new InvalidInputException(
          factor >= 1
              ? what + " must be a number that float32 has, not " + factor
              : what + " must be a number of at least 1, not " + factor);
    }
  }

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
      requireFactor("YaRN's factor", factor);
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

    /// 0.1 ln s + 1, which is taken where nothing is said; 1 where s is no stretch.
    public static double usualAttentionFactor(double factor) {
      return factor <= 1 ? 1 : 0.1 * Math.log(factor) + 1;
    }

    /// The same with another attention factor.
    public Yarn withAttentionFactor(double changed) {
      return new Yarn(factor, originalMaxPositionEmbeddings, betaFast, betaSlow, changed, truncate);
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
      requireFactor("the factor of rope type llama3", factor);
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

  /// Every frequency is divided by a factor of its own, as in LongRoPE (arXiv 2402.13753) with the
  /// same factors for texts of all lengths.
  ///
  /// @param factors one for each pair of elements that turns
  record Factors(List<Double> factors) implements RopeScaling {
    public Factors {
      factors = List.copyOf(factors);
      for (double each : factors) {
        if (!(each > 0) || !Float.isFinite((float) each)) {
          throw new InvalidInputException(
              "factors of rotary frequencies must be positive numbers that float32 has, not "
                  + each);
        }
      }
    }

    /// The largest.
    @Override
    public double factor() {
      return factors.stream().mapToDouble(Double::doubleValue).max().orElse(1);
    }
  }

  /// One frequency per pair of the `rotaryDimensions`, in radians per position, in float32 as the
  /// reference has them.
  ///
  /// @param tokens of the sequence so far, which [Dynamic] alone asks for
  default float[] inverseFrequencies(double theta, int rotaryDimensions, int tokens) {
    if (this instanceof Dynamic dynamic) {
      return inverseFrequencies(grown(dynamic, theta, rotaryDimensions, tokens), rotaryDimensions);
    }
    float[] inverse = inverseFrequencies(theta, rotaryDimensions);
    return switch (this) {
      case None(), Dynamic _ -> inverse;
      case Linear linear -> divided(inverse, (float) linear.factor());
      case Yarn yarn -> stretch(yarn, inverse, theta, rotaryDimensions);
      case Llama3 llama -> stretch(llama, inverse);
      case Factors(var factors) -> divided(inverse, factors);
    };
  }

  /// The same as factors by which each frequency is divided, in float32, where it is of a type that
  /// divides them; anything else stays.
  default RopeScaling asFactors(double theta, int rotaryDimensions) {
    if (!(this instanceof Llama3 llama)) {
      return this;
    }
    List<Double> factors = new ArrayList<>();
    for (float frequency : inverseFrequencies(theta, rotaryDimensions)) {
      factors.add((double) (float) (1 / share(llama, frequency)));
    }
    return factors.stream().allMatch(each -> each == 1) ? new None() : new Factors(factors);
  }

  /// Whether frequencies depend on the length of the sequence.
  default boolean dependsOnLength() {
    return this instanceof Dynamic;
  }

  /// The longest sequence that a model is meant for.
  ///
  /// @param maxPositionEmbeddings as its configuration says
  default int context(int maxPositionEmbeddings) {
    return this instanceof Dynamic(double factor, int trained)
        ? (int) Math.min(Integer.MAX_VALUE, factor * trained)
        : maxPositionEmbeddings;
  }

  /// For people: `YaRN by 4`.
  default String words() {
    String by = " by " + shown(factor());
    return switch (this) {
      case None() -> "no scaling";
      case Linear _ -> "linear scaling" + by;
      case Dynamic _ -> "dynamic scaling" + by;
      case Yarn _ -> "YaRN" + by;
      case Llama3 _ -> "Llama 3's scaling" + by;
      case Factors _ -> "factors of each frequency, the largest " + shown(factor());
    };
  }

  static String shown(double number) {
    return number == Math.rint(number) && number < 1e15
        ? String.valueOf((long) number)
        : String.valueOf(number);
  }

  /// The context that is stretched, where this says it.
  default OptionalInt original() {
    return switch (this) {
      case None(), Linear _, Factors _ -> OptionalInt.empty();
      case Dynamic dynamic -> OptionalInt.of(dynamic.maxPositionEmbeddings());
      case Yarn yarn -> OptionalInt.of(yarn.originalMaxPositionEmbeddings());
      case Llama3 llama -> OptionalInt.of(llama.originalMaxPositionEmbeddings());
    };
  }

  /// The context that is stretched.
  ///
  /// @param maxPositionEmbeddings as the model's configuration says
  default int trained(int maxPositionEmbeddings) {
    return original().orElse(Math.max(1, (int) (maxPositionEmbeddings / factor())));
  }

  private static float[] inverseFrequencies(double theta, int rotaryDimensions) {
    float[] inverse = new float[rotaryDimensions / 2];
    for (int i = 0; i < inverse.length; i++) {
      // float32 power, as torch computes 1 / (theta ** (arange / dim))
      float exponent = (float) (2 * i) / rotaryDimensions;
      inverse[i] = 1.0f / (float) Math.pow(theta, exponent);
    }
    return inverse;
  }

  /// The base for a sequence of so many tokens.
  private static double grown(Dynamic dynamic, double theta, int dimensions, int tokens) {
    double stretch =
        dynamic.factor()
                * Math.max(tokens, dynamic.maxPositionEmbeddings())
                / dynamic.maxPositionEmbeddings()
            - (dynamic.factor() - 1);
    return theta * Math.pow(stretch, dimensions / (dimensions - 2.0));
  }

  private static float[] divided(float[] inverse, float factor) {
    float[] divided = new float[inverse.length];
    for (int i = 0; i < inverse.length; i++) {
      divided[i] = inverse[i] / factor;
    }
    return divided;
  }

  private static float[] divided(float[] inverse, List<Double> factors) {
    if (factors.size() != inverse.length) {
      throw new InvalidInputException(
          "%d factors of rotary frequencies are given for %d pairs of elements that turn; give one for each"
              .formatted(factors.size(), inverse.length));
    }
    float[] divided = new float[inverse.length];
    for (int i = 0; i < inverse.length; i++) {
      divided[i] = inverse[i] / factors.get(i).floatValue();
    }
    return divided;
  }

  /// What cosines and sines are multiplied by; scores scale by its square.
  default double scale() {
    return switch (this) {
      case None(), Linear _, Dynamic _, Llama3 _, Factors _ -> 1;
      case Yarn yarn -> {
        var given = yarn.attentionFactor();
        yield given != null ? given : Yarn.usualAttentionFactor(yarn.factor());
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
      stretched[i] = (float) (inverse[i] * share(llama, inverse[i]));
    }
    return stretched;
  }

  /// What is left of a frequency.
  private static double share(Llama3 llama, float frequency) {
    double turns = llama.originalMaxPositionEmbeddings() * frequency / (2 * Math.PI);
    double kept =
        (turns - llama.lowFrequencyFactor())
            / (llama.highFrequencyFactor() - llama.lowFrequencyFactor());
    double share = Math.clamp(kept, 0.0, 1.0);
    return share + (1 - share) / llama.factor();
  }

  /// The dimension whose frequency makes `rotations` turns within the trained context.
  private static double dimensionOf(double rotations, Yarn yarn, double theta, int dimensions) {
    return dimensions
        * Math.log(yarn.originalMaxPositionEmbeddings() / (rotations * 2 * Math.PI))
        / (2 * Math.log(theta));
  }
}
