package dev.sluice.deltanet;

import dev.sluice.probe.Probe;
import dev.sluice.state.SequenceState;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Precision;
import dev.sluice.tensor.Tensor;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// Gated DeltaNet (Yang et al. 2024, arXiv 2412.06464) as Qwen3-Next and Qwen3.5 have it
/// (`transformers`, `modeling_qwen3_5.py`): a layer that mixes tokens through a state of fixed size
/// instead of keys and values that grow.
public final class GatedDeltaNet {
  private static final String CONVOLUTION = "convolution";
  private static final String MEMORY = "memory";

  private final GatedDeltaNetConfig config;
  private final Precision precision;
  private final int layer;

  /// Of the hidden state: queries, keys and values; the gate; rates; decays.
  private final List<Tensor> projections;

  private final Tensor convolution;
  private final Tensor logA;
  private final Tensor bias;
  private final Tensor norm;
  private final Tensor output;

  /// @param prefix of the layer's names, such as `model.layers.0.linear_attn.`
  public GatedDeltaNet(
      GatedDeltaNetConfig config,
      Precision precision,
      int layer,
      Parameters parameters,
      String prefix) {
    this.config = config;
    this.precision = precision;
    this.layer = layer;
    this.projections =
        List.of(
            parameters.get(prefix + "in_proj_qkv.weight"),
            parameters.get(prefix + "in_proj_z.weight"),
            parameters.get(prefix + "in_proj_b.weight"),
            parameters.get(prefix + "in_proj_a.weight"));
    this.convolution = parameters.get(prefix + "conv1d.weight");
    this.logA = parameters.get(prefix + "A_log");
    this.bias = parameters.get(prefix + "dt_bias");
    this.norm = parameters.get(prefix + "norm.weight");
    this.output = parameters.get(prefix + "out_proj.weight");
  }

  /// Mixes these tokens with those before.
  ///
  /// @param xBTD the layer's pre-normed input
  /// @param past what the tokens before left, or null when there are none
  /// @return `[B, T, D]`, to be added to the residual stream
  public Tensor forward(Tensor xBTD, @Nullable SequenceState past, Probe probe) {
    var projected = precision.linear(xBTD, projections);
    var history = past == null ? null : past.recurrent(layer, CONVOLUTION);
    var mixed = ShortConvolution.apply(projected.get(0), convolution, history);
    if (past != null) {
      past.leave(
          layer, CONVOLUTION, ShortConvolution.history(projected.get(0), convolution, history));
    }
    var rates = DeltaRates.of(projected.get(3), projected.get(2), logA, bias);
    var yBTNV = remembered(mixed, rates, past, probe);
    var zBTNV = projected.get(1).reshape(yBTNV.shape());
    var gated = GatedHeadNorm.apply(yBTNV, zBTNV, norm, config.rmsNormEps());
    return precision.linear(
        gated.reshape(xBTD.size(0), xBTD.size(1), config.resultWidth()), output);
  }

  private Tensor remembered(
      Tensor mixed, DeltaRates rates, @Nullable SequenceState past, Probe probe) {
    var memory = past == null ? null : past.recurrent(layer, MEMORY);
    var inputs = List.of(mixed, rates.decaysBTN(), rates.ratesBTN());
    if (memory != null
        && mixed.size(1) == 1
        && mixed.isOnCpu()
        && !probe.wantsRecurrence(layer)
        && !FusedOp.recording(inputs, List.of())) {
      return DeltaRule.step(mixed, rates.decaysBTN(), rates.ratesBTN(), memory, config.heads());
    }
    var result =
        DeltaRule.apply(mixed, rates.decaysBTN(), rates.ratesBTN(), memory, config.heads());
    if (past != null) {
      past.leave(layer, MEMORY, result.state());
    }
    if (probe.wantsRecurrence(layer)) {
      probe.recurrence(layer, rates.decaysBTN(), rates.ratesBTN(), result.state());
    }
    return result.yBTNV();
  }
}
