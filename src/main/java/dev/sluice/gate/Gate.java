package dev.sluice.gate;

import dev.sluice.InvalidInputException;
import java.util.Locale;
import java.util.Map;
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
    input.requireImplemented();
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
    if (input instanceof GateInput.None) {
      name.append("-input-independent");
    }
    if (init instanceof GateInit.Zeros) {
      name.append("-zero-init");
    }
    return name.toString();
  }

  private static final Map<String, Activation> ACTIVATIONS =
      Map.of(
          "-sigmoid", new Activation.Sigmoid(),
          "-ns-sigmoid", new Activation.NonSparseSigmoid(),
          "-silu", new Activation.Silu(),
          "-softplus", new Activation.Softplus(),
          "-identity", new Activation.Identity(),
          "-linear-clip", new Activation.LinearClip());

  private static final Pattern SCALED_SIGMOID =
      Pattern.compile("-sigmoid\\*(-?\\d+(?:\\.\\d+)?(?:e-?\\d+)?)");

  /// Reads a gate's name: POSITION-GRANULARITY, then any of `-shared`, `-additive`, an activation,
  /// `-input-independent`, `-zero-init`, in this order.
  public static Gate parse(String name) {
    String rest = name.strip().toLowerCase(Locale.ROOT);
    Gate gate = SDPA_ELEMENTWISE;
    boolean known = false;
    for (GatePosition position : GatePosition.values()) {
      if (rest.startsWith(position.word() + "-")) {
        gate = gate.with(position);
        rest = rest.substring(position.word().length());
        known = true;
        break;
      }
    }
    if (known && rest.startsWith("-headwise")) {
      gate = gate.with(Granularity.HEADWISE);
      rest = rest.substring("-headwise".length());
    } else if (known && rest.startsWith("-elementwise")) {
      rest = rest.substring("-elementwise".length());
    } else {
      throw unknown(name);
    }
    if (rest.startsWith("-shared")) {
      gate = gate.with(Sharing.HEAD_SHARED);
      rest = rest.substring("-shared".length());
    }
    if (rest.startsWith("-additive")) {
      gate = gate.with(Combination.ADDITIVE);
      rest = rest.substring("-additive".length());
    }
    var scaled = SCALED_SIGMOID.matcher(rest);
    if (scaled.lookingAt()) {
      gate = gate.with(new Activation.ScaledSigmoid(Double.parseDouble(scaled.group(1))));
      rest = rest.substring(scaled.end());
    } else {
      for (var activation : ACTIVATIONS.entrySet()) {
        if (rest.startsWith(activation.getKey())) {
          gate = gate.with(activation.getValue());
          rest = rest.substring(activation.getKey().length());
          break;
        }
      }
    }
    if (rest.startsWith("-input-independent")) {
      gate = gate.with(new GateInput.None());
      rest = rest.substring("-input-independent".length());
    }
    if (rest.startsWith("-zero-init")) {
      gate = gate.with(new GateInit.Zeros());
      rest = rest.substring("-zero-init".length());
    }
    if (!rest.isEmpty()) {
      throw unknown(name);
    }
    return gate;
  }

  private static InvalidInputException unknown(String name) {
    return new InvalidInputException(
        "unknown gate '"
            + name
            + "'; use none, sdpa-headwise, sdpa-elementwise, or"
            + " (query|key|value|sdpa|dense)-(headwise|elementwise) followed, in this order and as"
            + " wanted, by -shared, -additive, one of -sigmoid -sigmoid*FACTOR -ns-sigmoid -silu"
            + " -softplus -identity -linear-clip, -input-independent, -zero-init");
  }
}
