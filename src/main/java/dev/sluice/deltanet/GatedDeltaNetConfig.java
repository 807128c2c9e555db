package dev.sluice.deltanet;

import dev.sluice.InvalidInputException;
import dev.sluice.attention.AttentionConfig;
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
      throw new InvalidInputException(
          "linear_conv_kernel_dim must be positive, not " + convolutionWidth);
    }
    AttentionConfig.requireWidth("linear_conv_kernel_dim " + convolutionWidth, convolutionWidth);
    requireWidth("linear_num_key_heads", heads.keyHeads(), "linear_key_head_dim", heads.keyWidth());
    requireWidth(
        "linear_num_value_heads", heads.valueHeads(), "linear_value_head_dim", heads.valueWidth());
  }

  private static void requireWidth(String heads, int count, String head, int width) {
    AttentionConfig.requireWidth(
        "%s %d of %s %d".formatted(heads, count, head, width), (double) count * width);
  }

  /// The same layer with other heads.
  public GatedDeltaNetConfig with(DeltaHeads changed) {
    return new GatedDeltaNetConfig(hiddenSize, changed, convolutionWidth, rmsNormEps);
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
    long keys = (long) heads.keyHeads() * heads.keyWidth();
    parameters.put(
        "in_proj_qkv.weight",
        ParameterSpec.drawn(heads.channels(), hiddenSize).asMaps(keys, keys, resultWidth()));
    parameters.put("in_proj_z.weight", ParameterSpec.map(resultWidth(), hiddenSize));
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
    parameters.put("out_proj.weight", ParameterSpec.map(hiddenSize, resultWidth()));
    return parameters;
  }
}
