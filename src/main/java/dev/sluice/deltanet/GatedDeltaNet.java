package dev.sluice.deltanet;

import dev.sluice.operations.DocumentStarts;
import dev.sluice.operations.Operations;
import dev.sluice.operations.Precision;
import dev.sluice.operations.ShortConvolution;
import dev.sluice.probe.Probe;
import dev.sluice.state.Past;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.util.ArrayList;
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
  private final List<Weight> projections;

  private final Tensor convolution;
  private final Tensor logA;
  private final Tensor bias;
  private final Tensor norm;
  private final Weight output;

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
            parameters.weight(prefix + "in_proj_qkv.weight"),
            parameters.weight(prefix + "in_proj_z.weight"),
            parameters.weight(prefix + "in_proj_b.weight"),
            parameters.weight(prefix + "in_proj_a.weight"));
    this.convolution = parameters.get(prefix + "conv1d.weight");
    this.logA = parameters.get(prefix + "A_log");
    this.bias = parameters.get(prefix + "dt_bias");
    this.norm = parameters.get(prefix + "norm.weight");
    this.output = parameters.weight(prefix + "out_proj.weight");
  }

  /// Mixes these tokens with those before.
  ///
  /// @param xBTD the layer's pre-normed input
  /// @param documents at whose first tokens the state and the convolution start anew; null where
  ///   each row is one document
  /// @param past what the tokens before left, or null when there are none
  /// @return `[B, T, D]`, to be added to the residual stream
  public Tensor forward(
      Tensor xBTD, @Nullable DocumentStarts documents, @Nullable Past past, Probe probe) {
    var projected = precision.linear(probe.productInput(xBTD), projections);
    var mixed = convolved(projected.get(0), documents, past);
    var rates = rates(projected.get(3), projected.get(2), past);
    var yBTNV = remembered(mixed, rates, documents, past, probe);
    var zBTNV = projected.get(1).reshape(yBTNV.shape());
    var gated = Operations.of(yBTNV).gatedHeadNorm(yBTNV, zBTNV, norm, config.rmsNormEps());
    var joined = gated.reshape(xBTD.size(0), xBTD.size(1), config.resultWidth());
    return precision.linear(probe.productInput(joined), output);
  }

  /// Few tokens that continue others have theirs one by one: libtorch computes the last ones of
  /// many numbers in another way than the first.
  private DeltaRates rates(Tensor aBTN, Tensor bBTN, @Nullable Past past) {
    long tokens = aBTN.size(1);
    if (past == null || tokens == 1 || tokens > Operations.FEW) {
      return DeltaRates.of(aBTN, bBTN, logA, bias);
    }
    var decays = new ArrayList<Tensor>();
    var learned = new ArrayList<Tensor>();
    for (long i = 0; i < tokens; i++) {
      var one = DeltaRates.of(aBTN.narrow(1, i, 1), bBTN.narrow(1, i, 1), logA, bias);
      decays.add(one.decaysBTN());
      learned.add(one.ratesBTN());
    }
    return new DeltaRates(Tensor.concatenate(decays, 1), Tensor.concatenate(learned, 1));
  }

  private Tensor convolved(Tensor xBTC, @Nullable DocumentStarts documents, @Nullable Past past) {
    var operations = Operations.of(xBTC);
    if (past == null) {
      return operations.shortConvolution(xBTC, convolution, null, documents);
    }
    long kept = config.convolutionWidth() - 1L;
    var histories =
        past.recurrent(layer, CONVOLUTION, xBTC, xBTC.type(), kept, config.heads().channels());
    var history = together(histories, FusedOp.recording(List.of(xBTC), List.of(convolution)));
    var mixed = operations.shortConvolution(xBTC, convolution, history, null);
    var beforeLast = past.beforeLast(layer, CONVOLUTION);
    if (beforeLast != null) {
      var rest = xBTC.narrow(1, 0, xBTC.size(1) - 1);
      leave(beforeLast, ShortConvolution.history(rest, convolution, history));
    }
    leave(histories, ShortConvolution.history(xBTC, convolution, history));
    return mixed;
  }

  private Tensor remembered(
      Tensor mixed,
      DeltaRates rates,
      @Nullable DocumentStarts documents,
      @Nullable Past past,
      Probe probe) {
    var g = rates.decaysBTN();
    var beta = rates.ratesBTN();
    var heads = config.heads();
    var operations = Operations.of(mixed);
    boolean watched = probe.wantsRecurrence(layer);
    if (past == null) {
      var decays = documents == null ? g : documents.forgetting(g);
      var result = operations.deltaRule(mixed, decays, beta, null, heads);
      if (watched) {
        probe.recurrence(layer, g, beta, result.state());
      }
      return result.yBTNV();
    }
    var memories =
        past.recurrent(
            layer,
            MEMORY,
            mixed,
            ElementType.FLOAT32,
            heads.valueHeads(),
            heads.keyWidth(),
            heads.valueWidth());
    boolean recorded = FusedOp.recording(List.of(mixed, g, beta), List.of());
    if (mixed.size(1) <= Operations.FEW && !recorded && !watched) {
      return operations.deltaSteps(mixed, g, beta, memories, past.beforeLast(layer, MEMORY), heads);
    }
    var result = operations.deltaRule(mixed, g, beta, together(memories, recorded), heads);
    if (watched) {
      probe.recurrence(layer, g, beta, result.state());
    }
    leave(memories, result.state());
    return result.yBTNV();
  }

  /// The states of all rows.
  ///
  /// @param recorded whether they must stay as they are until a backward pass
  private static Tensor together(List<Tensor> states, boolean recorded) {
    return states.size() == 1 && !recorded ? states.getFirst() : Tensor.concatenate(states, 0);
  }

  /// Puts what the rows of a batch leave in place of what they left before.
  private static void leave(List<Tensor> states, Tensor batch) {
    try (var _ = Scope.withoutGradient()) {
      for (int row = 0; row < states.size(); row++) {
        states.get(row).copyFrom(Past.row(batch, row));
      }
    }
  }
}
