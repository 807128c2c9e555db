package dev.sluice.decoder;

import dev.sluice.kernel.Floats;
import dev.sluice.operations.Operations;
import dev.sluice.operations.Precision;
import dev.sluice.operations.ResidualNorm;
import dev.sluice.operations.TokenSteps;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.ParameterSpec;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.RmsNorm;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.util.LinkedHashMap;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/// RMSNorm of what a sublayer adds to the residual stream and of the stream with it, and GatedNorm
/// where the model has it: `n ⊙ 2σ(silu(n W_downᵀ) W_upᵀ)` of the normed n (arXiv 2601.22966).
final class GatedNorm {
  private final RmsNorm norm;
  private final Precision precision;
  private final Tensor weight;
  private final @Nullable Weight down;
  private final @Nullable Weight up;

  /// @param prefix of the norm's names, such as `model.norm.`
  GatedNorm(RmsNorm norm, Precision precision, Parameters parameters, String prefix) {
    this.norm = norm;
    this.precision = precision;
    this.weight = parameters.get(prefix + "weight");
    this.down = parameters.findWeight(prefix + "gate_down.weight");
    this.up = parameters.findWeight(prefix + "gate_up.weight");
  }

  /// A norm's parameters by their names without prefix, in order.
  static Map<String, ParameterSpec> parameters(
      int hiddenSize, RmsNorm norm, ResidualVariant variant) {
    var parameters = new LinkedHashMap<String, ParameterSpec>();
    parameters.put("weight", norm.weight(hiddenSize));
    int rank = variant.gatedNormRank();
    if (rank > 0) {
      parameters.put("gate_down.weight", ParameterSpec.map(rank, hiddenSize));
      parameters.put(
          "gate_up.weight", ParameterSpec.constant(0, hiddenSize, rank).asMaps(hiddenSize));
    }
    return parameters;
  }

  /// @param xBTD the residual stream, float32
  /// @param yBTD what is added to it, or null
  ResidualNorm apply(Tensor xBTD, @Nullable Tensor yBTD) {
    var normed =
        Operations.of(xBTD).residualNorm(xBTD, yBTD, weight, norm, precision.elementType());
    return down == null || up == null
        ? normed
        : new ResidualNorm(normed.sumBTD(), gated(normed.normedBTD(), down, up));
  }

  /// Writes down [#apply] for one token of each of a few sequences; the stream takes up what is
  /// added.
  ///
  /// @return the normed stream; null where the norm has a gate
  @Nullable Floats write(TokenSteps steps, Floats stream, @Nullable Floats added) {
    return down != null || precision.elementType() != ElementType.FLOAT32
        ? null
        : steps.residualNorm(stream, added, weight, norm);
  }

  private Tensor gated(Tensor normedBTD, Weight toRank, Weight fromRank) {
    var inner = precision.linear(normedBTD, toRank);
    var logits = precision.linear(inner.to(ElementType.FLOAT32).silu(), fromRank);
    return Operations.of(normedBTD)
        .sigmoidGate(asOneHead(normedBTD), asOneHead(logits))
        .times(2)
        .reshape(normedBTD.shape());
  }

  private static Tensor asOneHead(Tensor xBTD) {
    return xBTD.reshape(xBTD.size(0), xBTD.size(1), 1, xBTD.size(2));
  }
}
