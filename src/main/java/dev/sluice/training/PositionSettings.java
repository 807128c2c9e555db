package dev.sluice.training;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.attention.Positions;
import dev.sluice.attention.RopeScaling;
import dev.sluice.attention.Rotary;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.settings.Setting;
import java.util.Optional;

/// How the model knows positions, where that is not as the named model or the checkpoint has it;
/// what makes contexts longer (arXiv 2505.06708, section 4.4).
public record PositionSettings(
    @Setting(
            initial = "0",
            called = "the model's",
            least = 0,
            below = 1e30,
            use = "0 for the model's, or a number such as 1e6",
            help = "Base of the rotary frequencies; a larger one is for longer sequences.")
        double ropeTheta,
    @Setting(
            initial = "model",
            help =
                "How rotary frequencies are stretched: model (as the model has them), none, or"
                    + " yarn*FACTOR, linear*FACTOR or dynamic*FACTOR, such as yarn*4 for four times"
                    + " the context.")
        String ropeScaling,
    @Setting(
            initial = "0",
            called = "what follows from the others",
            least = 0,
            use = "0 for what follows from the others",
            help = "The longest sequence that the model is meant for.")
        int context) {
  private static final String OWN = "model";
  private static final String NONE = "none";

  /// Tokens of the longest context that makes sense to ask for.
  private static final int LONGEST = 1 << 30;

  public PositionSettings {
    var _ = scaling(ropeScaling, 1);
  }

  /// Whether anything is other than the model's own.
  public boolean isGiven() {
    return ropeTheta > 0 || context > 0 || !ropeScaling.equals(OWN);
  }

  /// The model with these positions, for sequences of at least so many tokens, stretched from all
  /// of its context.
  DecoderConfig change(DecoderConfig model, int sequenceLength) {
    int trained =
        model
            .firstAttention()
            .flatMap(attention -> attention.positions().rotary())
            .map(rotary -> rotary.scaling().trained(model.maxPositionEmbeddings()))
            .orElse(model.maxPositionEmbeddings());
    return change(model, trained, sequenceLength);
  }

  /// The model with these positions, for sequences of at least so many tokens.
  ///
  /// @param trained the context that the model was trained with, which is what is stretched
  /// @throws InvalidInputException if it has none that turn, or its layers turn differently
  public DecoderConfig change(DecoderConfig model, int trained, int sequenceLength) {
    if (!isGiven()) {
      return model;
    }
    var rotaries =
        model.layers().stream()
            .flatMap(layer -> layer.attention().stream())
            .flatMap(attention -> attention.positions().rotary().stream())
            .distinct()
            .toList();
    if (rotaries.size() != 1) {
      throw new InvalidInputException(
          rotaries.isEmpty()
              ? "rope_theta, rope_scaling and context change how attention turns with positions,"
                  + " and no layer of the model does; leave them out"
              : "rope_theta, rope_scaling and context change all layers alike, and the model's turn in %d different ways; leave them out"
                  .formatted(rotaries.size()));
    }
    var own = rotaries.getFirst();
    var scaling = ropeScaling.equals(OWN) ? own.scaling() : scaling(ropeScaling, trained);
    var changed = new Rotary(ropeTheta > 0 ? ropeTheta : own.theta(), scaling, own.share());
    return model
        .mapAttention(
            attention ->
                attention.with(
                    new Positions(
                        attention.positions().rotary().map(_ -> changed),
                        attention.positions().window())))
        .withMaxPositionEmbeddings(longest(model, scaling, trained, sequenceLength));
  }

  /// `max_position_embeddings`.
  private int longest(DecoderConfig model, RopeScaling scaling, int trained, int sequenceLength) {
    if (scaling instanceof RopeScaling.Dynamic) {
      if (context > 0 && context != trained) {
        throw new InvalidInputException(
            "context %d cannot be set with rope_scaling %s, which stretches the %d tokens that the model was trained with; leave it out"
                .formatted(context, ropeScaling, trained));
      }
      return trained;
    }
    if (context > 0) {
      if (context < sequenceLength) {
        throw new InvalidInputException(
            "context %d is less than the sequences of %d tokens that the model is trained with; make context larger or sequence_length smaller"
                .formatted(context, sequenceLength));
      }
      return context;
    }
    boolean isStretchedAlready = ropeScaling.equals(OWN) && !scaling.equals(new RopeScaling.None());
    double stretched =
        isStretchedAlready ? model.maxPositionEmbeddings() : scaling.factor() * trained;
    if (stretched > LONGEST) {
      throw new InvalidInputException(
          "rope_scaling %s makes a context of %.3g tokens of %d; use a factor that leaves at most %d"
              .formatted(ropeScaling, stretched, trained, LONGEST));
    }
    return (int) Math.max(Math.round(stretched), sequenceLength);
  }

  /// @param trained the context that is stretched
  private static RopeScaling scaling(String words, int trained) {
    if (words.equals(OWN) || words.equals(NONE)) {
      return new RopeScaling.None();
    }
    int star = words.indexOf('*');
    String kind = star < 0 ? words : words.substring(0, star);
    double factor = factor(star < 0 ? "" : words.substring(star + 1)).orElse(Double.NaN);
    if (Double.isNaN(factor)) {
      throw unknown(words);
    }
    return switch (kind) {
      case "yarn" -> new RopeScaling.Yarn(factor, trained);
      case "linear" -> new RopeScaling.Linear(factor);
      case "dynamic" -> new RopeScaling.Dynamic(factor, trained);
      default -> throw unknown(words);
    };
  }

  private static Optional<Double> factor(String text) {
    try {
      return Optional.of(Double.parseDouble(text));
    } catch (NumberFormatException _) {
      return Optional.empty();
    }
  }

  private static InvalidInputException unknown(String words) {
    return new InvalidInputException(
        "unknown rope_scaling '%s'; use model, none, or yarn, linear or dynamic with a factor, such as yarn*4"
            .formatted(Printable.brief(words, 60)));
  }
}
