package dev.sluice.decoder;

import dev.sluice.InvalidInputException;
import dev.sluice.tensor.Tensor;

/// How a mixture chooses the experts of a token, and what weights they get.
///
/// The router's logits become scores; the experts of the largest scores are chosen, and their
/// scores become their weights. A softmax over the chosen logits alone (`transformers`' gpt_oss) is
/// [#SOFTMAX]: the chosen ones' shares of a softmax over all are the same numbers.
///
/// @param score what logits become
/// @param weighting what the scores of the chosen experts become
/// @param scale the weights are multiplied by this at last; 1 for nothing
/// @param logitBias whether a bias, which is trained, is added to the logits
/// @param selectionBias whether a bias is added to the scores to choose by them, and not to those
///   that become weights. No gradient reaches it, so that training leaves it alone
/// @param softCap c of `c tanh(logit / c)`, which the logits become first; 0 for none
public record Router(
    Score score,
    Weighting weighting,
    double scale,
    boolean logitBias,
    boolean selectionBias,
    double softCap) {
  /// What logits become.
  public enum Score {
    /// Over all experts.
    SOFTMAX,
    /// Each by itself.
    SIGMOID
  }

  /// What the scores of the chosen experts become.
  public sealed interface Weighting {
    /// They are the weights.
    record AsScored() implements Weighting {}

    /// Their shares of their sum.
    ///
    /// @param epsilon added to the sum
    record Shares(double epsilon) implements Weighting {
      public Shares {
        if (!(epsilon >= 0) || !Float.isFinite((float) epsilon)) {
          throw new InvalidInputException(
              "what is added to the sum of an expert's weights must be 0 or a positive number, not "
                  + epsilon);
        }
      }
    }
  }

  /// The largest probabilities, made to sum to one.
  public static final Router SOFTMAX =
      new Router(Score.SOFTMAX, new Weighting.Shares(0), 1, false, false, 0);

  public Router {
    DecoderConfig.requirePositive("the scale of the experts' weights", scale);
    if (!(softCap >= 0) || !Float.isFinite((float) softCap)) {
      throw new InvalidInputException(
          "the soft cap of the router's logits must be positive, or 0 for none, not " + softCap);
    }
  }

  /// The same with scores as weights.
  public Router asScored() {
    return new Router(score, new Weighting.AsScored(), scale, logitBias, selectionBias, softCap);
  }

  /// @param logitsTE [#capped]
  Tensor scores(Tensor logitsTE) {
    return switch (score) {
      case SOFTMAX -> logitsTE.softmax(-1);
      case SIGMOID -> logitsTE.sigmoid();
    };
  }

  Tensor capped(Tensor logitsTE) {
    return softCap == 0 ? logitsTE : logitsTE.times(1 / softCap).tanh().times(softCap);
  }

  /// Scores as shares of one, which the loss that balances experts takes.
  Tensor probabilities(Tensor scoresTE) {
    return switch (score) {
      case SOFTMAX -> scoresTE;
      case SIGMOID -> scoresTE.dividedBy(scoresTE.mean(1).times((double) scoresTE.size(1)));
    };
  }

  /// What becomes of a token's logits in a model that only runs: [#capped] and [#scores], each
  /// rounded once from float64, so that it takes no operation of libtorch.
  ///
  /// @param logits those of `count` experts from `first` on become scores
  void score(float[] logits, int first, int count) {
    double largest = Double.NEGATIVE_INFINITY;
    for (int i = first; i < first + count; i++) {
      if (softCap != 0) {
        logits[i] = (float) (softCap * Math.tanh(logits[i] / softCap));
      }
      largest = Math.max(largest, logits[i]);
    }
    if (score == Score.SIGMOID) {
      for (int i = first; i < first + count; i++) {
        logits[i] = (float) (1 / (1 + Math.exp(-logits[i])));
      }
      return;
    }
    double[] powers = new double[count];
    double sum = 0;
    for (int i = 0; i < count; i++) {
      powers[i] = Math.exp(logits[first + i] - largest);
      sum += powers[i];
    }
    for (int i = 0; i < count; i++) {
      logits[first + i] = (float) (powers[i] / sum);
    }
  }

  /// The weights of a token's experts in a model that only runs, as [#weights] has K times them.
  ///
  /// @param scores of `count` experts from `first` on become weights
  void weigh(float[] scores, int first, int count) {
    double divisor =
        switch (weighting) {
          case Weighting.AsScored() -> 1;
          case Weighting.Shares(double epsilon) -> {
            double sum = epsilon;
            for (int i = first; i < first + count; i++) {
              sum += scores[i];
            }
            yield sum;
          }
        };
    for (int i = first; i < first + count; i++) {
      scores[i] = (float) (scores[i] / divisor * scale);
    }
  }

  /// K times the weights, so that means over a token's experts are weighted sums.
  ///
  /// @param chosenTK1 the chosen experts' scores
  Tensor weights(Tensor chosenTK1) {
    double k = chosenTK1.size(1);
    var weights =
        switch (weighting) {
          case Weighting.AsScored() -> chosenTK1.times(k);
          case Weighting.Shares(double epsilon) -> {
            var mean = chosenTK1.mean(1);
            yield chosenTK1.dividedBy(epsilon == 0 ? mean : mean.plus(epsilon / k));
          }
        };
    return scale == 1 ? weights : weights.times(scale);
  }
}
