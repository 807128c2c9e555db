package dev.sluice.attention;

import static dev.sluice.gate.GatePosition.DENSE_OUTPUT;
import static dev.sluice.gate.GatePosition.KEY;
import static dev.sluice.gate.GatePosition.QUERY;
import static dev.sluice.gate.GatePosition.SDPA_OUTPUT;
import static dev.sluice.gate.GatePosition.VALUE;

import dev.sluice.attention.RotaryEmbedding.Rotation;
import dev.sluice.gate.Gate;
import dev.sluice.gate.GateInput;
import dev.sluice.gate.GatePosition;
import dev.sluice.gate.GateProjection;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Precision;
import dev.sluice.tensor.Tensor;
import java.util.EnumMap;
import java.util.LinkedHashMap;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/// Grouped-query causal self-attention, with the paper's gates where they are asked for (arXiv
/// 2505.06708, figure 1).
public final class Attention {
  private final AttentionConfig config;
  private final Precision precision;
  private final int layer;
  private final Tensor query;
  private final Tensor key;
  private final Tensor value;
  private final Tensor output;
  private final @Nullable Tensor queryNorm;
  private final @Nullable Tensor keyNorm;
  private final Map<GatePosition, GateProjection> gates = new EnumMap<>(GatePosition.class);

  /// @param prefix of the layer's names, such as `model.layers.0.self_attn.`
  public Attention(
      AttentionConfig config,
      Precision precision,
      int layer,
      Parameters parameters,
      String prefix) {
    this.config = config;
    this.precision = precision;
    this.layer = layer;
    this.query = parameters.get(prefix + "q_proj.weight");
    this.key = parameters.get(prefix + "k_proj.weight");
    this.value = parameters.get(prefix + "v_proj.weight");
    this.output = parameters.get(prefix + "o_proj.weight");
    this.queryNorm = config.qkNorm() ? parameters.get(prefix + "q_norm.weight") : null;
    this.keyNorm = config.qkNorm() ? parameters.get(prefix + "k_norm.weight") : null;
    for (Gate gate : config.gates()) {
      gates.put(
          gate.position(),
          new GateProjection(gate, parameters.get(prefix + gateName(gate.position()))));
    }
  }

  /// Names and shapes of the layer's parameters, without their prefix, in order.
  public static Map<String, long[]> shapes(AttentionConfig c) {
    var shapes = new LinkedHashMap<String, long[]>();
    shapes.put(
        "q_proj.weight", new long[] {(long) c.attentionHeads() * c.headDim(), c.hiddenSize()});
    shapes.put(
        "k_proj.weight", new long[] {(long) c.keyValueHeads() * c.headDim(), c.hiddenSize()});
    shapes.put(
        "v_proj.weight", new long[] {(long) c.keyValueHeads() * c.headDim(), c.hiddenSize()});
    shapes.put(
        "o_proj.weight", new long[] {c.hiddenSize(), (long) c.attentionHeads() * c.headDim()});
    if (c.qkNorm()) {
      shapes.put("q_norm.weight", new long[] {c.headDim()});
      shapes.put("k_norm.weight", new long[] {c.headDim()});
    }
    for (Gate gate : c.gates()) {
      shapes.put(
          gateName(gate.position()),
          gate.input() instanceof GateInput.None
              ? new long[] {c.logits(gate)}
              : new long[] {c.logits(gate), c.hiddenSize()});
    }
    return shapes;
  }

  /// The name of a gate's weights within the layer.
  public static String gateName(GatePosition position) {
    return "gates." + position.word() + ".weight";
  }

  /// Attends over these tokens and those before.
  ///
  /// @param xBTD the layer's pre-normed input
  /// @param rotation of the T positions
  /// @param past the tokens before, or null when there are none
  /// @return `[B, T, D]`, to be added to the residual stream
  public Tensor forward(Tensor xBTD, Rotation rotation, @Nullable KeyValueCache past, Probe probe) {
    var qBTNH = heads(precision.linear(xBTD, query), config.attentionHeads());
    var kBTMH = heads(precision.linear(xBTD, key), config.keyValueHeads());
    var vBTMH = heads(precision.linear(xBTD, value), config.keyValueHeads());

    qBTNH = gated(QUERY, qBTNH, xBTD, probe);
    kBTMH = gated(KEY, kBTMH, xBTD, probe);
    vBTMH = gated(VALUE, vBTMH, xBTD, probe);

    var qBNTH = rotation.rotate(normed(qBTNH, queryNorm)).transpose(1, 2);
    var kBMSH = rotation.rotate(normed(kBTMH, keyNorm)).transpose(1, 2);
    var vBMSH = vBTMH.to(ElementType.FLOAT32).transpose(1, 2);
    if (past != null) {
      kBMSH = past.keys(layer, kBMSH);
      vBMSH = past.values(layer, vBMSH);
    }

    var yBTNH = ScaledDotProductAttention.attend(qBNTH, kBMSH, vBMSH, layer, probe).transpose(1, 2);

    var gatedBTNH = gated(SDPA_OUTPUT, yBTNH, xBTD, probe);
    if (probe.wantsGates(layer)) {
      probe.sdpaOutput(layer, yBTNH, gatedBTNH);
    }
    var outBTD = precision.linear(joined(gatedBTNH), output);
    return joined(gated(DENSE_OUTPUT, heads(outBTD, 1), xBTD, probe));
  }

  /// The gated tensor, or `y` itself where there is no gate at this position.
  private Tensor gated(GatePosition position, Tensor y, Tensor xBTD, Probe probe) {
    var gate = gates.get(position);
    return gate == null ? y : gate.apply(y, xBTD, precision, layer, probe);
  }

  private Tensor normed(Tensor heads, @Nullable Tensor weight) {
    var wide = heads.to(ElementType.FLOAT32);
    return weight == null ? wide : wide.rmsNorm(weight, config.rmsNormEps());
  }

  /// `[B, T, N·H]` as `[B, T, N, H]`.
  private static Tensor heads(Tensor flat, int heads) {
    return flat.reshape(flat.size(0), flat.size(1), heads, flat.size(2) / heads);
  }

  private static Tensor joined(Tensor heads) {
    return heads.reshape(heads.size(0), heads.size(1), heads.size(2) * heads.size(3));
  }
}
