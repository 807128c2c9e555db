package dev.sluice.optimizer;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.tensor.ParameterSpec;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Tensor;
import java.util.Locale;
import java.util.Map;
import java.util.function.Predicate;

/// Moves a model's parameters along their gradients, and owns the state that this takes.
public sealed interface Optimizer extends AutoCloseable permits AdamW, Muon, OldAndNew {
  /// Which there are.
  enum Kind {
    ADAMW,
    MUON;

    /// Reads `adamw` or `muon`.
    public static Kind parse(String word) {
      return switch (word.toLowerCase(Locale.ROOT)) {
        case "adamw" -> ADAMW;
        case "muon" -> MUON;
        default ->
            throw new InvalidInputException(
                "unknown optimizer '%s'; use adamw or muon".formatted(Printable.brief(word, 100)));
      };
    }

    public String word() {
      return name().toLowerCase(Locale.ROOT);
    }

    /// Whether a parameter is moved as maps of features, and not number by number.
    boolean movesMaps(ParameterSpec spec) {
      return this == MUON && spec.maps().length > 0;
    }

    /// How many running means of a parameter's size it keeps.
    public int moments(ParameterSpec spec) {
      return movesMaps(spec) ? 1 : 2;
    }

    /// Bytes of these.
    public double momentBytes(ParameterSpec spec) {
      return (double) moments(spec) * spec.elements() * Float.BYTES;
    }
  }

  /// The constants of one.
  sealed interface Settings permits AdamW.Settings, Muon.Settings {
    Kind kind();

    /// One without a past.
    ///
    /// @param owned which parameters it moves, by name; it has no state of others
    Optimizer over(Parameters parameters, Predicate<String> owned);
  }

  Kind kind();

  /// The running means of gradients by parameter name, for saving and restoring.
  Map<String, Tensor> firstMoments();

  /// The running means of squared gradients by parameter name, of those parameters that have them
  /// ([Kind#moments]), for saving and restoring.
  Map<String, Tensor> secondMoments();

  /// Moves every parameter that has a gradient.
  ///
  /// @param number the step's number, from 1
  /// @param gradientScale gradients are multiplied by this first
  void step(int number, double learningRate, double gradientScale);

  @Override
  void close();
}
