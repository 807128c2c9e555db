package dev.sluice.attention;

import dev.sluice.InvalidInputException;
import dev.sluice.gate.Gate;
import dev.sluice.gate.GateInput;
import dev.sluice.gate.GatePosition;
import dev.sluice.tensor.RmsNorm;
import java.util.EnumSet;
import java.util.List;

/// The shape of an attention layer.
///
/// @param hiddenSize D
/// @param attentionHeads N, query heads
/// @param keyValueHeads M, a divisor of N
/// @param headDim H
/// @param qkNorm RMS norm of queries and keys per head, before rotation
/// @param norm that norm
/// @param positions what positions do
/// @param biases which projections have one
/// @param gates at most one per position; none for plain attention
/// @param variant what it has besides gates
public record AttentionConfig(
    int hiddenSize,
    int attentionHeads,
    int keyValueHeads,
    int headDim,
    boolean qkNorm,
    RmsNorm norm,
    Positions positions,
    Biases biases,
    List<Gate> gates,
    AttentionVariant variant) {
  /// The most numbers that a token's vector may have, far beyond any model: what is wider is a
  /// mistake, and all that is narrower can be counted.
  public static final int WIDEST = 1 << 24;

  public AttentionConfig {
    requirePositive("hidden_size", hiddenSize);
    requirePositive("num_attention_heads", attentionHeads);
    requirePositive("num_key_value_heads", keyValueHeads);
    requirePositive("head_dim", headDim);
    requireWidth("hidden_size " + hiddenSize, hiddenSize);
    requireWidth(
        "num_attention_heads %d of head_dim %d".formatted(attentionHeads, headDim),
        (double) attentionHeads * headDim);
    requireWidth(
        "num_key_value_heads %d of head_dim %d with switch_head %s"
            .formatted(keyValueHeads, headDim, variant.switchHead().word()),
        (double) keyValueHeads * headDim * Math.max(1, variant.switchHead().experts()));
    if (attentionHeads % keyValueHeads != 0) {
      throw new InvalidInputException(
          "num_attention_heads ("
              + attentionHeads
              + ") is not a multiple of num_key_value_heads ("
              + keyValueHeads
              + "); choose one that is");
    }
    if (positions.rotary().isPresent()) {
      requirePairs(positions.rotary().get(), headDim);
    }
    gates = List.copyOf(gates);
    var gated = EnumSet.noneOf(GatePosition.class);
    for (Gate gate : gates) {
      if (!gated.add(gate.position())) {
        throw new InvalidInputException(
            "two gates at the position '" + gate.position().word() + "'; keep one");
      }
      if (gate.input() instanceof GateInput.TruncatedHiddenState(int dimensions)
          && dimensions > hiddenSize) {
        throw new InvalidInputException(
            "a gate of the first "
                + dimensions
                + " dimensions needs a hidden_size of as many, not "
                + hiddenSize);
      }
      if (gate.input() instanceof GateInput.LowRank(int rank)) {
        requireWidth("a gate of rank*" + rank, rank);
      }
    }
  }

  /// A layer without gates whose queries and keys turn, and with nothing else.
  public AttentionConfig(
      int hiddenSize,
      int attentionHeads,
      int keyValueHeads,
      int headDim,
      boolean qkNorm,
      RmsNorm norm,
      Rotary rotary) {
    this(
        hiddenSize,
        attentionHeads,
        keyValueHeads,
        headDim,
        qkNorm,
        norm,
        new Positions(rotary),
        Biases.NONE,
        List.of(),
        AttentionVariant.PLAIN);
  }

  /// The same layer with other gates.
  public AttentionConfig with(List<Gate> changed) {
    return with(positions, biases, changed, variant);
  }

  /// The same layer with another variant.
  public AttentionConfig with(AttentionVariant changed) {
    return with(positions, biases, gates, changed);
  }

  /// The same layer with other positions.
  public AttentionConfig with(Positions changed) {
    return with(changed, biases, gates, variant);
  }

  /// The same layer with other biases.
  public AttentionConfig with(Biases changed) {
    return with(positions, changed, gates, variant);
  }

  private AttentionConfig with(
      Positions changedPositions,
      Biases changedBiases,
      List<Gate> changedGates,
      AttentionVariant changedVariant) {
    return new AttentionConfig(
        hiddenSize,
        attentionHeads,
        keyValueHeads,
        headDim,
        qkNorm,
        norm,
        changedPositions,
        changedBiases,
        changedGates,
        changedVariant);
  }

  /// Refuses what makes vectors wider than [#WIDEST].
  ///
  /// @param what makes them so, with its value
  public static void requireWidth(String what, double width) {
    if (width > WIDEST) {
      throw new InvalidInputException(
          "%s is wider than %d numbers a token, the most that Sluice computes; choose less"
              .formatted(what, WIDEST));
    }
  }

  private static void requirePairs(Rotary rotary, int headDim) {
    int turning = rotary.dimensions(headDim);
    if (turning % 2 != 0 || turning == 0) {
      throw new InvalidInputException(
          rotary.share() == 1
              ? "head_dim must be even for rotary embedding, not " + headDim
              : "partial_rotary_factor %s turns %d of the %d elements of a head; it must be an even number of at least 2"
                  .formatted(rotary.share(), turning, headDim));
    }
    if (turning == 2 && rotary.scaling().dependsOnLength()) {
      throw new InvalidInputException(
          "rope type dynamic stretches no frequency of a head of which 2 elements turn; it needs 4"
              + " or more");
    }
  }

  private static void requirePositive(String name, int value) {
    if (value < 1) {
      throw new InvalidInputException(name + " must be positive, not " + value);
    }
  }

  /// How many logits per token a gate of this layer has.
  public int logits(Gate gate) {
    return switch (gate.position()) {
      case QUERY, SDPA_OUTPUT -> gate.logits(attentionHeads, headDim);
      case KEY, VALUE -> gate.logits(keyValueHeads, headDim);
      case DENSE_OUTPUT -> gate.logits(1, hiddenSize);
    };
  }
}
