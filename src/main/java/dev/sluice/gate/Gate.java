package dev.sluice.gate;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.settings.Settings;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.List;
import java.util.Locale;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/// One gate of the paper, y′ = y ⊙ σ(x W_g) by default (arXiv 2505.06708, equation 5), as the
/// choice on each axis.
///
/// @param position the tensor that is gated
/// @param granularity one score per head or per element
/// @param sharing scores of their own for each head, or averaged over heads
/// @param combination multiply or add
/// @param activation from logit to score
/// @param input what logits are computed from
/// @param init how the gate's weights start
public record Gate(
    GatePosition position,
    Granularity granularity,
    Sharing sharing,
    Combination combination,
    Activation activation,
    GateInput input,
    GateInit init) {

  /// The paper's best gate.
  public static final Gate SDPA_ELEMENTWISE =
      new Gate(
          GatePosition.SDPA_OUTPUT,
          Granularity.ELEMENTWISE,
          Sharing.HEAD_SPECIFIC,
          Combination.MULTIPLICATIVE,
          new Activation.Sigmoid(),
          new GateInput.HiddenState(),
          new GateInit.Normal());

  /// The paper's cheapest gate: one score per head.
  public static final Gate SDPA_HEADWISE = SDPA_ELEMENTWISE.with(Granularity.HEADWISE);

  public Gate {
    if (position == GatePosition.DENSE_OUTPUT && granularity == Granularity.HEADWISE) {
      throw new InvalidInputException(
          "a gate on the dense output has no heads, so it cannot be headwise; use"
              + " dense-elementwise");
    }
    if (position == GatePosition.DENSE_OUTPUT && sharing == Sharing.HEAD_SHARED) {
      throw new InvalidInputException(
          "a gate on the dense output has no heads, so it cannot be head-shared; use"
              + " head-specific");
    }
    if (input instanceof GateInput.HeadOutput && position != GatePosition.SDPA_OUTPUT) {
      throw new InvalidInputException(
          "only a gate at the position sdpa can be computed from the head's output, not one at "
              + position.word());
    }
    if (input instanceof GateInput.None && init instanceof GateInit.Bias) {
      throw new InvalidInputException(
          "an input-independent gate is a bias already; leave out -bias*");
    }
  }

  public Gate with(GatePosition changed) {
    return new Gate(changed, granularity, sharing, combination, activation, input, init);
  }

  public Gate with(Granularity changed) {
    return new Gate(position, changed, sharing, combination, activation, input, init);
  }

  public Gate with(Sharing changed) {
    return new Gate(position, granularity, changed, combination, activation, input, init);
  }

  public Gate with(Combination changed) {
    return new Gate(position, granularity, sharing, changed, activation, input, init);
  }

  public Gate with(Activation changed) {
    return new Gate(position, granularity, sharing, combination, changed, input, init);
  }

  public Gate with(GateInput changed) {
    return new Gate(position, granularity, sharing, combination, activation, changed, init);
  }

  public Gate with(GateInit changed) {
    return new Gate(position, granularity, sharing, combination, activation, input, changed);
  }

  /// Whether this is y ⊙ σ(z) with scores of each head's and token's own, which
  /// [dev.sluice.operations.SigmoidGate] computes in one operation.
  public boolean isPlainSigmoid() {
    return activation instanceof Activation.Sigmoid
        && combination == Combination.MULTIPLICATIVE
        && sharing == Sharing.HEAD_SPECIFIC
        && !(input instanceof GateInput.None);
  }

  /// Whether attention can apply the gate where it writes its result: plain, on its output, and not
  /// computed from it.
  public boolean isPartOfAttention() {
    return isPlainSigmoid()
        && position == GatePosition.SDPA_OUTPUT
        && !(input instanceof GateInput.HeadOutput);
  }

  /// Whether a new gate of this kind leaves what it gates as it is, bit for bit: its scores begin
  /// at the one that does nothing, whatever the token is. σ itself is never one.
  public boolean beginsAsIdentity() {
    double logit =
        switch (init) {
          case GateInit.Normal() -> input instanceof GateInput.None ? 0 : Double.NaN;
          case GateInit.Zeros() -> 0;
          case GateInit.Bias(double bias) -> bias;
        };
    if (Double.isNaN(logit) || isPlainSigmoid()) {
      return false;
    }
    try (var _ = Scope.open()) {
      var score = activation.scores(Tensor.of(new float[] {(float) logit}, 1));
      return score.item() == combination.neutralScore();
    }
  }

  /// The gate of this name as it is added to a trained model. Where the name says nothing of how
  /// its weights start they start at zero, and where it says nothing of the activation either and
  /// the gate multiplies, that is 2σ: so that it begins as if it were not there. What the name says
  /// stays.
  public Gate asAdded() {
    var starting =
        init instanceof GateInit.Normal && !(input instanceof GateInput.None)
            ? with(new GateInit.Zeros())
            : this;
    return !starting.beginsAsIdentity()
            && activation instanceof Activation.Sigmoid
            && combination == Combination.MULTIPLICATIVE
            && !(init instanceof GateInit.Bias)
        ? starting.with(new Activation.ScaledSigmoid(2))
        : starting;
  }

  /// How many logits a token has, for a gated tensor of `heads` heads of `headSize` (the dense
  /// output is one head of the hidden size).
  public int logits(int heads, int headSize) {
    return switch (granularity) {
      case HEADWISE -> heads;
      case ELEMENTWISE -> heads * headSize;
    };
  }

  /// The name, such as `sdpa-headwise` or `value-elementwise-shared-additive-silu`; parts at their
  /// default are left out after the granularity. [#parse] reads it back.
  public String name() {
    var name = new StringBuilder(position.word());
    name.append('-').append(granularity.name().toLowerCase(Locale.ROOT));
    if (sharing == Sharing.HEAD_SHARED) {
      name.append("-shared");
    }
    if (combination == Combination.ADDITIVE) {
      name.append("-additive");
    }
    if (!(activation instanceof Activation.Sigmoid)) {
      name.append('-').append(activation.word());
    }
    for (String word : List.of(input.word(), init.word())) {
      if (!word.isEmpty()) {
        name.append('-').append(word);
      }
    }
    return name.toString();
  }

  private static final String NUMBER = "-?\\d+(?:\\.\\d+)?(?:e-?\\d+)?";

  private static final Pattern NAME =
      Pattern.compile(
          "(?<position>query|key|value|sdpa|dense)"
              + "-(?<granularity>headwise|elementwise)"
              + "(?<shared>-shared)?"
              + "(?<additive>-additive)?"
              + ("(?:-(?<activation>ns-sigmoid|silu|softplus|identity|linear-clip"
                  + "|sigmoid(?:\\*(?<factor>"
                  + NUMBER
                  + "))?))?")
              + ("(?:-(?<input>input-independent|from-value|from-output"
                  + "|first\\*(?<first>\\d+)|rank\\*(?<rank>\\d+)))?")
              + "(?:-(?<init>zero-init|bias\\*(?<bias>"
              + NUMBER
              + ")))?");

  /// Gates' names joined by `+`, or `none`.
  public static String names(List<Gate> gates) {
    return gates.isEmpty() ? "none" : String.join("+", gates.stream().map(Gate::name).toList());
  }

  /// Reads a gate's name: POSITION-GRANULARITY, then any of `-shared`, `-additive`, an activation,
  /// an input, a start, in this order.
  public static Gate parse(String name) {
    var parts = NAME.matcher(name.strip().toLowerCase(Locale.ROOT));
    if (!parts.matches()) {
      throw unknown(name);
    }
    return new Gate(
        GatePosition.named(parts.group("position")),
        parts.group("granularity").equals("headwise")
            ? Granularity.HEADWISE
            : Granularity.ELEMENTWISE,
        parts.group("shared") == null ? Sharing.HEAD_SPECIFIC : Sharing.HEAD_SHARED,
        parts.group("additive") == null ? Combination.MULTIPLICATIVE : Combination.ADDITIVE,
        activation(parts),
        input(parts),
        init(parts));
  }

  private static Activation activation(Matcher parts) {
    String factor = parts.group("factor");
    if (factor != null) {
      return new Activation.ScaledSigmoid(Settings.number("a sigmoid's factor", factor));
    }
    return switch (word(parts, "activation")) {
      case "ns-sigmoid" -> new Activation.NonSparseSigmoid();
      case "silu" -> new Activation.Silu();
      case "softplus" -> new Activation.Softplus();
      case "identity" -> new Activation.Identity();
      case "linear-clip" -> new Activation.LinearClip();
      default -> new Activation.Sigmoid();
    };
  }

  private static GateInput input(Matcher parts) {
    String first = parts.group("first");
    if (first != null) {
      return new GateInput.TruncatedHiddenState(integer("first", first));
    }
    String rank = parts.group("rank");
    if (rank != null) {
      return new GateInput.LowRank(integer("rank", rank));
    }
    return switch (word(parts, "input")) {
      case "input-independent" -> new GateInput.None();
      case "from-value" -> new GateInput.Value();
      case "from-output" -> new GateInput.HeadOutput();
      default -> new GateInput.HiddenState();
    };
  }

  private static int integer(String word, String digits) {
    try {
      return Integer.parseInt(digits);
    } catch (NumberFormatException e) {
      throw new InvalidInputException(
          "a gate's -%s*%s is more than a model has dimensions; use a smaller number"
              .formatted(word, Printable.brief(digits, 40)),
          e);
    }
  }

  private static GateInit init(Matcher parts) {
    String bias = parts.group("bias");
    if (bias != null) {
      return new GateInit.Bias(Settings.number("a gate's bias", bias));
    }
    return word(parts, "init").isEmpty() ? new GateInit.Normal() : new GateInit.Zeros();
  }

  private static String word(Matcher parts, String group) {
    String word = parts.group(group);
    return word == null ? "" : word;
  }

  private static InvalidInputException unknown(String name) {
    return new InvalidInputException(
        "unknown gate '"
            + Printable.brief(name, 120)
            + "'; use none, sdpa-headwise, sdpa-elementwise, or"
            + " (query|key|value|sdpa|dense)-(headwise|elementwise) followed, in this order and as"
            + " wanted, by -shared, -additive, one of -sigmoid -sigmoid*FACTOR -ns-sigmoid -silu"
            + " -softplus -identity -linear-clip, one of -input-independent -first*DIMENSIONS"
            + " -rank*RANK -from-value -from-output, one of -zero-init -bias*BIAS");
  }
}
