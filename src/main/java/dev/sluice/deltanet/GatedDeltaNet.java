package dev.sluice.deltanet;

import dev.sluice.kernel.Floats;
import dev.sluice.operations.DeltaRates;
import dev.sluice.operations.DocumentStarts;
import dev.sluice.operations.OneTokenDelta;
import dev.sluice.operations.Operations;
import dev.sluice.operations.Precision;
import dev.sluice.operations.ShortConvolution;
import dev.sluice.operations.TokenSteps;
import dev.sluice.probe.Probe;
import dev.sluice.state.Past;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
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
    var logits = new DeltaRates.Logits(projected.get(3), projected.get(2), logA, bias);
    var yBTNV = remembered(mixed, logits, documents, past, probe);
    var zBTNV = projected.get(1).reshape(yBTNV.shape());
    var gated = Operations.of(yBTNV).gatedHeadNorm(yBTNV, zBTNV, norm, config.rmsNormEps());
    var joined = gated.reshape(xBTD.size(0), xBTD.size(1), config.resultWidth());
    return precision.linear(probe.productInput(joined), output);
  }

  /// Writes down what [#forward] does with one token of each of a few sequences, where all matrices
  /// are stored.
  ///
  /// @param x the layer's pre-normed input, `[B, D]`
  /// @return null where they are not, and nothing is written down that can be used
  public @Nullable Written write(TokenSteps steps, Floats x) {
    var products = steps.products(x, projections);
    if (products == null) {
      return null;
    }
    var projected =
        new OneTokenDelta.Projected(
            products.get(0), products.get(1), products.get(2), products.get(3));
    var learned = new OneTokenDelta.Learned(convolution, logA, bias, norm);
    var mixed = steps.delta(config.heads(), projected, learned, config.rmsNormEps());
    var out = steps.products(mixed.result(), List.of(output));
    return out == null ? null : new Written(this, mixed, out.getFirst());
  }

  /// A layer that was written down.
  ///
  /// @param steps between its products
  /// @param result `[B, D]`, to be added to the residual stream
  public record Written(GatedDeltaNet layer, OneTokenDelta steps, Floats result) {
    /// Says what the steps will find before the next tokens, and change.
    ///
    /// @param past whose pass of one token has begun
    /// @param like a tensor on the CPU
    public void begin(Past past, Tensor like) {
      var histories = layer.histories(past, like, ElementType.FLOAT32);
      var memories = layer.memories(past, like);
      for (int row = 0; row < memories.size(); row++) {
        steps.begin(row, histories.get(row), memories.get(row));
      }
    }
  }

  private List<Tensor> histories(Past past, Tensor like, ElementType type) {
    long kept = config.convolutionWidth() - 1L;
    return past.recurrent(layer, CONVOLUTION, like, type, kept, config.heads().channels());
  }

  private List<Tensor> memories(Past past, Tensor like) {
    var heads = config.heads();
    return past.recurrent(
        layer,
        MEMORY,
        like,
        ElementType.FLOAT32,
        heads.valueHeads(),
        heads.keyWidth(),
        heads.valueWidth());
  }

  private Tensor convolved(Tensor xBTC, @Nullable DocumentStarts documents, @Nullable Past past) {
    var operations = Operations.of(xBTC);
    if (past == null) {
      return operations.shortConvolution(xBTC, convolution, null, documents);
    }
    var histories = histories(past, xBTC, xBTC.type());
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
      DeltaRates.Logits logits,
      @Nullable DocumentStarts documents,
      @Nullable Past past,
      Probe probe) {
    var heads = config.heads();
    var operations = Operations.of(mixed);
    boolean watched = probe.wantsRecurrence(layer);
    var memories = past == null ? null : memories(past, mixed);
    boolean recorded =
        FusedOp.recording(
            List.of(mixed, logits.aBTN(), logits.bBTN()), List.of(logits.logA(), logits.bias()));
    boolean few = Operations.recursOneByOne(mixed, heads);
    if (past != null && memories != null && few && !recorded && !watched) {
      var beforeLast = past.beforeLast(layer, MEMORY);
      return operations.deltaSteps(mixed, logits, memories, beforeLast, heads);
    }
    var rates = logits.rates();
    var g = rates.decaysBTN();
    var beta = rates.ratesBTN();
    var decays = documents == null ? g : documents.forgetting(g);
    var before = memories == null ? null : together(memories, recorded);
    var result = operations.deltaRule(mixed, decays, beta, before, heads);
    if (watched) {
      probe.recurrence(layer, g, beta, result.state());
    }
    if (memories != null) {
      leave(memories, result.state());
    }
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
