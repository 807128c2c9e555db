package dev.sluice.attention;

import static dev.sluice.gate.GatePosition.DENSE_OUTPUT;
import static dev.sluice.gate.GatePosition.KEY;
import static dev.sluice.gate.GatePosition.QUERY;
import static dev.sluice.gate.GatePosition.SDPA_OUTPUT;
import static dev.sluice.gate.GatePosition.VALUE;

import dev.sluice.gate.Gate;
import dev.sluice.gate.GatePosition;
import dev.sluice.gate.GateProjection;
import dev.sluice.kernel.Floats;
import dev.sluice.operations.DocumentStarts;
import dev.sluice.operations.OneTokenAttention;
import dev.sluice.operations.Operations;
import dev.sluice.operations.Precision;
import dev.sluice.operations.Rotation;
import dev.sluice.operations.TokenSteps;
import dev.sluice.probe.KeptKeys;
import dev.sluice.probe.Probe;
import dev.sluice.state.Past;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.ParameterSpec;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/// Grouped-query causal self-attention, with the paper's gates where they are asked for (arXiv
/// 2505.06708, figure 1).
public final class Attention {
  private final AttentionConfig config;
  private final Precision precision;
  private final int layer;

  /// The weights that the hidden state is multiplied with: query, key, value, routers', then the
  /// gates'.
  private final List<Weight> projections = new ArrayList<>();

  /// Those of them that are no gate's.
  private final List<Weight> ungatedProjections;

  private final Weight output;
  private final @Nullable Tensor queryBias;
  private final @Nullable Tensor keyBias;
  private final @Nullable Tensor valueBias;
  private final @Nullable Tensor outputBias;
  private final @Nullable Tensor queryNorm;
  private final @Nullable Tensor keyNorm;
  private final @Nullable Tensor learnedSinks;
  private final @Nullable Tensor outputNorm;
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
    projections.add(parameters.weight(prefix + "q_proj.weight"));
    projections.add(parameters.weight(prefix + "k_proj.weight"));
    projections.add(parameters.weight(prefix + "v_proj.weight"));
    for (String router : List.of("k_router.weight", "v_router.weight")) {
      var weight = parameters.findWeight(prefix + router);
      if (weight != null) {
        projections.add(weight);
      }
    }
    this.ungatedProjections = List.copyOf(projections);
    this.output = parameters.weight(prefix + "o_proj.weight");
    this.queryBias = parameters.find(prefix + "q_proj.bias");
    this.keyBias = parameters.find(prefix + "k_proj.bias");
    this.valueBias = parameters.find(prefix + "v_proj.bias");
    this.outputBias = parameters.find(prefix + "o_proj.bias");
    this.queryNorm = config.qkNorm() ? parameters.get(prefix + "q_norm.weight") : null;
    this.keyNorm = config.qkNorm() ? parameters.get(prefix + "k_norm.weight") : null;
    this.learnedSinks = parameters.find(prefix + "sinks");
    this.outputNorm = parameters.find(prefix + "sdpa_norm.weight");
    for (Gate gate : config.gates()) {
      String name = prefix + gateName(gate.position());
      var projection =
          new GateProjection(
              gate,
              parameters.weight(name + "weight"),
              parameters.findWeight(name + "down.weight"),
              parameters.find(name + "bias"));
      gates.put(gate.position(), projection);
    }
    gates.values().forEach(gate -> gate.ofHiddenState().ifPresent(projections::add));
  }

  /// The layer's parameters by their names without prefix, in order.
  public static Map<String, ParameterSpec> parameters(AttentionConfig c) {
    long queries = (long) c.attentionHeads() * c.headDim();
    long keys = (long) keyHeads(c) * c.headDim();
    long values = (long) valueHeads(c) * c.headDim();
    var parameters = new LinkedHashMap<String, ParameterSpec>();
    parameters.put("q_proj.weight", ParameterSpec.map(queries, c.hiddenSize()));
    long expert = (long) c.keyValueHeads() * c.headDim(); // where heads are chosen among experts
    parameters.put("k_proj.weight", ParameterSpec.drawn(keys, c.hiddenSize()).asMapsOf(expert));
    parameters.put("v_proj.weight", ParameterSpec.drawn(values, c.hiddenSize()).asMapsOf(expert));
    parameters.put("o_proj.weight", ParameterSpec.map(c.hiddenSize(), queries));
    if (c.biases().queryKeyValue()) {
      parameters.put("q_proj.bias", ParameterSpec.constant(0, queries));
      parameters.put("k_proj.bias", ParameterSpec.constant(0, keys));
      parameters.put("v_proj.bias", ParameterSpec.constant(0, values));
    }
    if (c.biases().output()) {
      parameters.put("o_proj.bias", ParameterSpec.constant(0, c.hiddenSize()));
    }
    if (c.qkNorm()) {
      parameters.put("q_norm.weight", c.norm().weight(c.headDim()));
      parameters.put("k_norm.weight", c.norm().weight(c.headDim()));
    }
    if (c.variant().switchHead().keys()) {
      parameters.put("k_router.weight", ParameterSpec.drawn(keyHeads(c), c.hiddenSize()));
    }
    if (c.variant().switchHead().experts() > 0) {
      parameters.put("v_router.weight", ParameterSpec.drawn(valueHeads(c), c.hiddenSize()));
    }
    if (c.variant().sink() == SoftmaxSink.LEARNED) {
      parameters.put("sinks", ParameterSpec.constant(0, c.attentionHeads()));
    }
    if (c.variant().nonlinearity() == SdpaNonlinearity.RMS_NORM) {
      parameters.put("sdpa_norm.weight", ParameterSpec.constant(1, queries));
    }
    for (Gate gate : c.gates()) {
      GateProjection.parameters(
              gate, c.logits(gate), c.hiddenSize(), c.keyValueHeads() * c.headDim(), c.headDim())
          .forEach((name, spec) -> parameters.put(gateName(gate.position()) + name, spec));
    }
    return parameters;
  }

  private static int keyHeads(AttentionConfig c) {
    return c.variant().switchHead().keyHeads(c.keyValueHeads());
  }

  private static int valueHeads(AttentionConfig c) {
    return c.variant().switchHead().valueHeads(c.keyValueHeads());
  }

  /// What the names of a gate's weights within the layer start with.
  public static String gateName(GatePosition position) {
    return "gates." + position.word() + ".";
  }

  /// Attends over these tokens and those before.
  ///
  /// @param hiddenBTD the layer's pre-normed input
  /// @param rotation of the T positions of each row; null where the layer turns nothing
  /// @param documents of which a token sees its own alone; null where each row is one document
  /// @param past the tokens before, or null when there are none
  /// @return `[B, T, D]`, to be added to the residual stream
  public Tensor forward(
      Tensor hiddenBTD,
      @Nullable Rotation rotation,
      @Nullable DocumentStarts documents,
      @Nullable Past past,
      Probe probe) {
    boolean ungated = probe.passesOverGates();
    var xBTD = probe.productInput(hiddenBTD);
    var projected = precision.linear(xBTD, ungated ? ungatedProjections : projections).iterator();
    var qBTNH = heads(biased(projected.next(), queryBias), config.attentionHeads());
    var kBTMH = heads(biased(projected.next(), keyBias), keyHeads(config));
    var vBTMH = heads(biased(projected.next(), valueBias), valueHeads(config));
    var switchHead = config.variant().switchHead();
    kBTMH = switchHead.keys() ? switchHead.apply(kBTMH, projected.next()) : kBTMH;
    vBTMH = switchHead.experts() > 0 ? switchHead.apply(vBTMH, projected.next()) : vBTMH;
    var logits = ungated ? Map.<GatePosition, Tensor>of() : gateLogits(xBTD, vBTMH, projected);

    qBTNH = gated(QUERY, qBTNH, logits, probe);
    kBTMH = gated(KEY, kBTMH, logits, probe);
    vBTMH = gated(VALUE, vBTMH, logits, probe);

    var operations = Operations.of(xBTD);
    var unturnedBTNH = qBTNH;
    qBTNH = operations.rotatedHeads(qBTNH, queryNorm, config.norm(), rotation);
    kBTMH = operations.rotatedHeads(kBTMH, keyNorm, config.norm(), rotation);

    var fusedLogits = fusedLogits(logits, probe);
    var kept = probe.keptKeys();
    var yBTNH =
        kept == null
            ? ScaledDotProductAttention.attend(
                qBTNH,
                kBTMH,
                vBTMH,
                sinks(xBTD),
                fusedLogits,
                config.positions().window(),
                documents,
                past,
                layer,
                probe)
            : evicting(unturnedBTNH, qBTNH, kBTMH, vBTMH, fusedLogits, rotation, past, kept);
    var gatedBTNH = yBTNH;
    if (fusedLogits == null) {
      yBTNH = exclusive(yBTNH, vBTMH);
      yBTNH = nonlinear(yBTNH);
      gatedBTNH = gated(SDPA_OUTPUT, yBTNH, logits, probe);
    }
    if (probe.wantsGates(layer)) {
      probe.sdpaOutput(layer, yBTNH, gatedBTNH);
    }
    var outBTD =
        biased(precision.linear(probe.productInput(joined(gatedBTNH)), output), outputBias);
    return joined(gated(DENSE_OUTPUT, heads(outBTD, 1), logits, probe));
  }

  /// Writes down what [#forward] does with one token of each of a few sequences, where the layer
  /// has nothing besides biases, QK-norm, rotation, a window, sinks and a plain gate on attention's
  /// output, and all its matrices are stored.
  ///
  /// @param x the layer's pre-normed input, `[B, D]`
  /// @return null where it has, and nothing is written down that can be used
  public @Nullable Written write(TokenSteps steps, Floats x) {
    var gate = gates.get(SDPA_OUTPUT);
    boolean gatedPlainly =
        gates.size() == (gate == null ? 0 : 1) && (gate == null || gate.isOneProduct());
    var sink = config.variant().sink();
    if (!gatedPlainly || !config.variant().equals(AttentionVariant.PLAIN.with(sink))) {
      return null;
    }
    var projected = steps.products(x, projections);
    if (projected == null) {
      return null;
    }
    add(steps, projected.get(0), queryBias);
    add(steps, projected.get(1), keyBias);
    add(steps, projected.get(2), valueBias);
    var attention =
        steps.attention(
            new OneTokenAttention.Shape(
                config.attentionHeads(),
                config.keyValueHeads(),
                config.headDim(),
                config.positions().window()),
            projected.get(0),
            projected.get(1),
            projected.get(2),
            sink == SoftmaxSink.NONE ? null : sinks(Tensor.zeros(ElementType.FLOAT32, 1)),
            gate == null ? null : projected.get(3),
            queryNorm,
            keyNorm,
            config.norm());
    var out = steps.products(attention.result(), List.of(output));
    if (out == null) {
      return null;
    }
    add(steps, out.getFirst(), outputBias);
    return new Written(attention, config, layer, out.getFirst());
  }

  private static void add(TokenSteps steps, Floats products, @Nullable Tensor bias) {
    if (bias != null) {
      steps.add(products, bias);
    }
  }

  /// A layer that was written down.
  ///
  /// @param steps between its products
  /// @param result `[B, D]`, to be added to the residual stream
  public record Written(OneTokenAttention steps, AttentionConfig config, int layer, Floats result) {
    /// Says what the steps will find before the next tokens.
    ///
    /// @param past whose pass of one token has begun
    /// @param rotation of the tokens' positions, or null where the layer turns nothing
    /// @param like a tensor on the CPU
    public void begin(Past past, @Nullable Rotation rotation, Tensor like) {
      int heads = config.keyValueHeads();
      int width = config.headDim();
      int[] lengths = past.lengths();
      steps.turn(rotation);
      for (int row = 0; row < lengths.length; row++) {
        steps.begin(
            row,
            past.roomForKeys(layer, row, like, heads, width),
            past.roomForValues(layer, row, like, heads, width),
            lengths[row]);
      }
    }
  }

  /// Attention over the keys that are kept. To the first ones a query stands where the end of the
  /// cache is; those in the window are as far away as they ever were.
  private Tensor evicting(
      Tensor unturnedBTNH,
      Tensor qBTNH,
      Tensor kBTMH,
      Tensor vBTMH,
      @Nullable Tensor fusedLogits,
      @Nullable Rotation rotation,
      @Nullable Past past,
      KeptKeys kept) {
    if (past != null) {
      throw new IllegalArgumentException("keys are taken from whole sequences alone");
    }
    var operations = Operations.of(qBTNH);
    var atEndBTNH =
        rotation == null
            ? qBTNH
            : operations.rotatedHeads(
                unturnedBTNH,
                queryNorm,
                config.norm(),
                rotation.upTo((long) kept.first() + kept.last() - 1));
    int window = config.positions().window();
    int last = window == 0 ? kept.last() : Math.min(window, kept.last());
    var yBTNH =
        EvictedAttention.attend(
            qBTNH, atEndBTNH, kBTMH, vBTMH, sinks(qBTNH), new KeptKeys(kept.first(), last));
    return fusedLogits == null ? yBTNH : operations.sigmoidGate(yBTNH, fusedLogits);
  }

  /// The product with a bias added in float32, or the product itself where there is none.
  private static Tensor biased(Tensor product, @Nullable Tensor bias) {
    return bias == null ? product : product.plus(bias).to(product.type());
  }

  /// What each gate's scores are computed from.
  private Map<GatePosition, Tensor> gateLogits(
      Tensor xBTD, Tensor vBTMH, Iterator<Tensor> products) {
    var logits = new EnumMap<GatePosition, Tensor>(GatePosition.class);
    gates.forEach(
        (position, gate) -> logits.put(position, gate.logits(xBTD, vBTMH, products, precision)));
    return logits;
  }

  /// The logits of the gate on attention's output where attention itself can apply it, else null.
  private @Nullable Tensor fusedLogits(Map<GatePosition, Tensor> logits, Probe probe) {
    var gate = gates.get(SDPA_OUTPUT);
    var ofGate = logits.get(SDPA_OUTPUT);
    boolean isNext =
        !config.variant().exclusive() && config.variant().nonlinearity() == SdpaNonlinearity.NONE;
    return gate == null || ofGate == null || !isNext
        ? null
        : gate.sigmoidLogits(ofGate, config.attentionHeads(), layer, probe);
  }

  /// The scores that take attention from the keys, one per head; null for plain softmax.
  private @Nullable Tensor sinks(Tensor like) {
    return switch (config.variant().sink()) {
      case NONE -> null;
      case OFF_BY_ONE ->
          Tensor.uninitialized(like, ElementType.FLOAT32, config.attentionHeads()).fill(0);
      case LEARNED -> Objects.requireNonNull(learnedSinks);
    };
  }

  private Tensor exclusive(Tensor yBTNH, Tensor vBTMH) {
    return config.variant().exclusive() ? ExclusiveAttention.apply(yBTNH, vBTMH) : yBTNH;
  }

  private Tensor nonlinear(Tensor yBTNH) {
    return switch (config.variant().nonlinearity()) {
      case NONE -> yBTNH;
      case RMS_NORM -> headNorm(yBTNH, Objects.requireNonNull(outputNorm));
      case SILU -> yBTNH.to(ElementType.FLOAT32).silu().to(yBTNH.type());
    };
  }

  /// RMSNorm over each head.
  ///
  /// @param weight `[N · H]`
  private Tensor headNorm(Tensor yBTNH, Tensor weight) {
    var y = yBTNH.to(ElementType.FLOAT32);
    var root = y.square().mean(3).plus(config.norm().epsilon()).squareRoot();
    return y.dividedBy(root)
        .times(weight.reshape(1, 1, yBTNH.size(2), yBTNH.size(3)))
        .to(yBTNH.type());
  }

  /// The gated tensor, or `y` itself where there is no gate at this position, or all are passed
  /// over.
  private Tensor gated(
      GatePosition position, Tensor y, Map<GatePosition, Tensor> logits, Probe probe) {
    var gate = gates.get(position);
    var ofGate = logits.get(position);
    return gate == null || ofGate == null ? y : gate.apply(y, ofGate, layer, probe);
  }

  /// `[B, T, N·H]` as `[B, T, N, H]`.
  private static Tensor heads(Tensor flat, int heads) {
    return flat.reshape(flat.size(0), flat.size(1), heads, flat.size(2) / heads);
  }

  private static Tensor joined(Tensor heads) {
    return heads.reshape(heads.size(0), heads.size(1), heads.size(2) * heads.size(3));
  }
}
