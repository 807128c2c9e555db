package dev.sluice.deltanet;

import dev.sluice.operations.DeltaHeads;
import dev.sluice.tensor.ParameterSpec;
import dev.sluice.tensor.ParameterSpec.Initial;
import java.util.LinkedHashMap;
import java.util.Map;

/// The shape of a Gated DeltaNet layer.
///
/// @param hiddenSize D
/// @param heads of queries, keys and values
/// @param convolutionWidth W, the tokens that the convolution sees
/// @param rmsNormEps ε of the norm of each head's result
public record GatedDeltaNetConfig(
    int hiddenSize, DeltaHeads heads, int convolutionWidth, double rmsNormEps) {
  public GatedDeltaNetConfig {
    if (convolutionWidth < 1) {
      throw new IllegalArgumentException("a convolution over " + convolutionWidth + " tokens");
    }
  }

  /// N · V.
  long resultWidth() {
    return (long) heads.valueHeads() * heads.valueWidth();
  }

  /// The layer's parameters by their names without prefix, in order; the names are those of
  /// `transformers`' `modeling_qwen3_5.py`, the first values those of the paper's code (`fla`,
  /// `gated_deltanet.py`): where a model begins with `transformers`' own dt_bias of one, most heads
  /// forget all before at every token.
  public Map<String, ParameterSpec> parameters() {
    var parameters = new LinkedHashMap<String, ParameterSpec>();
    parameters.put("in_proj_qkv.weight", ParameterSpec.drawn(heads.channels(), hiddenSize));
    parameters.put("in_proj_z.weight", ParameterSpec.drawn(resultWidth(), hiddenSize));
    parameters.put("in_proj_b.weight", ParameterSpec.drawn(heads.valueHeads(), hiddenSize));
    parameters.put("in_proj_a.weight", ParameterSpec.drawn(heads.valueHeads(), hiddenSize));
    parameters.put("conv1d.weight", ParameterSpec.drawn(heads.channels(), convolutionWidth));
    parameters.put(
        "A_log",
        new ParameterSpec(new long[] {heads.valueHeads()}, new Initial.LogOfUniform(1e-3, 16)));
    parameters.put(
        "dt_bias",
        new ParameterSpec(
            new long[] {heads.valueHeads()}, new Initial.SoftplusOfLogUniform(1e-3, 0.1)));
    parameters.put("norm.weight", ParameterSpec.constant(1, heads.valueWidth()));
    parameters.put("out_proj.weight", ParameterSpec.drawn(hiddenSize, resultWidth()));
    return parameters;
  }
}
