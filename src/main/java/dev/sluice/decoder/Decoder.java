package dev.sluice.decoder;

import dev.sluice.InvalidInputException;
import dev.sluice.attention.RotaryEmbedding;
import dev.sluice.operations.DistilledLoss;
import dev.sluice.operations.DocumentStarts;
import dev.sluice.operations.Operations;
import dev.sluice.operations.Precision;
import dev.sluice.operations.Rotation;
import dev.sluice.operations.TokenSteps;
import dev.sluice.probe.Probe;
import dev.sluice.state.Past;
import dev.sluice.state.SequenceState;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.ParameterSpec;
import dev.sluice.tensor.ParameterSpec.Initial;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.SplittableRandom;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.DoubleSupplier;
import java.util.function.IntFunction;
import org.jspecify.annotations.Nullable;

/// A decoder-only transformer with its weights. The same code trains, evaluates, prefills and
/// decodes with a cache.
public final class Decoder implements AutoCloseable {
  private final DecoderConfig config;
  private final Precision precision;
  private final Device device;
  private final Parameters parameters;
  private final List<DecoderBlock> blocks = new ArrayList<>();
  private final GatedNorm finalNorm;
  private Recompute recompute = Recompute.NONE;
  private ElementType keyValueType = ElementType.FLOAT32;

  /// The steps of one token of each of so many sequences, as they were asked for; empty where not
  /// all that the model has is written down.
  private final Map<Integer, Optional<OneToken>> oneToken = new ConcurrentHashMap<>();

  /// That of each layer; layers that turn alike have the same, those without positions none.
  private final List<Optional<RotaryEmbedding>> rotary = new ArrayList<>();

  /// @param parameters float32, of [DecoderConfig#parameters], on `device`; the decoder takes them
  ///   over
  public Decoder(DecoderConfig config, Precision precision, Device device, Parameters parameters) {
    this.config = config;
    this.precision = precision;
    this.device = device;
    this.parameters = parameters;
    config.parameters().forEach(this::requireDeclared);
    this.finalNorm = new GatedNorm(config.norm(), precision, parameters, "model.norm.");
    Map<Object, RotaryEmbedding> embeddings = new HashMap<>();
    for (int layer = 0; layer < config.layers().size(); layer++) {
      var shape = config.layers().get(layer);
      blocks.add(new DecoderBlock(shape, config.norm(), precision, layer, parameters));
      rotary.add(
          shape
              .attention()
              .flatMap(
                  attention ->
                      attention
                          .positions()
                          .rotary()
                          .map(
                              turning ->
                                  embeddings.computeIfAbsent(
                                      List.of(turning, attention.headDim()),
                                      _ -> new RotaryEmbedding(turning, attention.headDim())))));
    }
  }

  private Optional<OneToken> oneToken(int sequences) {
    return oneToken.computeIfAbsent(
        sequences,
        _ -> {
          boolean here = device.equals(Device.CPU);
          var table = here ? parameters.weight("model.embed_tokens.weight").stored() : null;
          double multiplier = config.embeddingMultiplier();
          return Optional.ofNullable(OneToken.of(sequences, table, multiplier, blocks, finalNorm));
        });
  }

  /// Else what is to be left alone would be trained, or a map be moved as if it were none.
  private void requireDeclared(String name, ParameterSpec spec) {
    var given = parameters.weight(name).spec();
    if (given.trained() != spec.trained()
        || !Arrays.equals(given.shape(), spec.shape())
        || !Arrays.equals(given.maps(), spec.maps())) {
      throw new IllegalArgumentException(
          "the model declares the parameter %s as %s and was given %s"
              .formatted(name, spec, given));
    }
  }

  /// A new model. Every parameter is drawn from a stream of its own, seeded by `seed` and its name,
  /// so that models that differ in a gate start with the same weights elsewhere. Matrices are N(0,
  /// initializer_range²), norms one.
  public static Decoder initialize(
      DecoderConfig config, Precision precision, Device device, long seed) {
    return initialize(config, precision, device, seed, Map.of());
  }

  /// The same with weights that are there already, such as those of a model to which something is
  /// added.
  ///
  /// @param given float32 by name, of the declared shapes, on `device`; what is not among them is
  ///   new
  /// @throws IllegalArgumentException if one is given that the model does not have
  public static Decoder initialize(
      DecoderConfig config,
      Precision precision,
      Device device,
      long seed,
      Map<String, Tensor> given) {
    Map<String, Tensor> tensors = new LinkedHashMap<>();
    try (var _ = Scope.open()) {
      var declared = config.parameters();
      if (!declared.keySet().containsAll(given.keySet())) {
        throw new IllegalArgumentException("weights that the model does not have: " + given);
      }
      declared.forEach(
          (name, spec) -> {
            var there = given.get(name);
            tensors.put(name, there == null ? initial(config, name, spec, seed) : there);
          });
      tensors.replaceAll((_, tensor) -> tensor.to(device));
      var parameters = new Parameters(declared, tensors);
      parameters.requireGradients(true);
      return new Decoder(config, precision, device, parameters);
    }
  }

  private static Tensor initial(DecoderConfig config, String name, ParameterSpec spec, long seed) {
    var values = Tensor.zeros(ElementType.FLOAT32, spec.shape());
    var random = new SplittableRandom(seed * 0x9E3779B97F4A7C15L + hash(name));
    var memory = values.memory();
    DoubleSupplier next =
        switch (spec.initial()) {
          case Initial.Normal() -> () -> random.nextGaussian() * config.initializerRange();
          case Initial.Constant(double value) -> () -> value;
          case Initial.LogOfUniform(double least, double most) ->
              () -> Math.log(random.nextDouble(least, most));
          case Initial.SoftplusOfLogUniform(double least, double most) ->
              () -> {
                double value = Math.exp(random.nextDouble(Math.log(least), Math.log(most)));
                return value + Math.log(-Math.expm1(-value)); // softplus, inverted
              };
        };
    for (long i = 0; i < values.elements(); i++) {
      memory.setAtIndex(ValueLayout.JAVA_FLOAT, i, (float) next.getAsDouble());
    }
    return values;
  }

  private static long hash(String name) {
    long hash = 0xCBF29CE484222325L; // FNV-1a
    for (byte b : name.getBytes(StandardCharsets.UTF_8)) {
      hash = (hash ^ (b & 0xFF)) * 0x100000001B3L;
    }
    return hash;
  }

  public DecoderConfig config() {
    return config;
  }

  public Device device() {
    return device;
  }

  public Precision precision() {
    return precision;
  }

  public Parameters parameters() {
    return parameters;
  }

  /// The hidden states `[B, T, D]` after the final norm.
  ///
  /// @param idsBT token ids, int64
  /// @param past what the tokens continue, a sequence for each row, which grow by these; null when
  ///   there are no tokens before and will be none after
  public Tensor hiddenStates(Tensor idsBT, @Nullable Past past, Probe probe) {
    return hiddenStates(idsBT, null, past, probe, null);
  }

  /// The hidden states of rows that hold several documents each, of which a token sees its own
  /// alone.
  ///
  /// @param documents of these ids; null where each row is one document
  public Tensor hiddenStatesByDocument(
      Tensor idsBT, @Nullable DocumentStarts documents, Probe probe) {
    return hiddenStates(idsBT, documents, null, probe, null);
  }

  private Tensor hiddenStates(
      Tensor idsBT,
      @Nullable DocumentStarts documents,
      @Nullable Past past,
      Probe probe,
      @Nullable ExpertLoad load) {
    try (var scope = Scope.open()) {
      int tokens = Math.toIntExact(idsBT.size(1));
      int[] starts = past == null ? new int[1] : past.lengths();
      if (past != null) {
        past.begin(idsBT.size(0), tokens);
      }
      Map<RotaryEmbedding, Rotation> rotations = new HashMap<>();
      IntFunction<@Nullable Rotation> rotation =
          layer ->
              rotary
                  .get(layer)
                  .map(
                      embedding ->
                          rotations.computeIfAbsent(
                              embedding, each -> each.rotation(starts, tokens, device)))
                  .orElse(null);
      if (past != null
          && tokens == 1
          && starts.length <= TokenSteps.MOST_SEQUENCES
          && probe.equals(Probe.NONE)) {
        var hidden =
            oneToken(starts.length).map(steps -> steps.hiddenStates(idsBT, past, rotation));
        if (hidden.isPresent()) {
          past.advance(tokens);
          return scope.keep(hidden.get());
        }
      }
      var x = new DecoderBlock.Residual(embedded(idsBT), null);
      boolean again = recomputes(past, probe);
      for (int layer = 0; layer < blocks.size(); layer++) {
        var turning = rotation.apply(layer); // outside of the block's scope, which others share
        try (var block = Scope.open()) {
          x =
              again
                  ? RecomputedBlock.apply(blocks.get(layer), leaves(layer), x, turning, documents)
                  : blocks.get(layer).forward(x, turning, documents, past, probe, load);
          x.keep(block);
        }
      }
      if (past != null) {
        past.advance(tokens);
      }
      var last = finalNorm.apply(x.streamBTD(), x.addedBTD());
      probe.residual(blocks.size(), last.sumBTD());
      probe.residual(blocks.size() + 1, last.normedBTD());
      return scope.keep(last.normedBTD());
    }
  }

  /// Says in which type keys and values of texts are kept that begin from now on; usually float32.
  /// In bfloat16 they take half the memory, and a long text is written faster; a pass that begins a
  /// text attends over what is not rounded yet, where it is too long for
  /// [Operations#attendsOneByOne].
  ///
  /// @param type float32 or bfloat16
  /// @throws InvalidInputException for bfloat16 where there are none, or on another device than the
  ///   CPU
  public void keepKeysAndValuesIn(ElementType type) {
    if (type != ElementType.FLOAT32 && !device.equals(Device.CPU)) {
      throw new InvalidInputException(
          "keys and values are kept in bfloat16 on the CPU alone, and this model is on %s; keep them"
                  .formatted(device)
              + " in float32, or run it on the CPU");
    }
    if (type != ElementType.FLOAT32
        && config.layers().stream().allMatch(layer -> layer.attention().isEmpty())) {
      throw new InvalidInputException(
          "no layer of this model keeps keys and values, so there are none to keep in bfloat16;"
              + " keep them in float32");
    }
    this.keyValueType = type;
  }

  /// In which type keys and values of texts are kept that begin now.
  public ElementType keyValueType() {
    return keyValueType;
  }

  /// What this model's layers keep of several texts at a time.
  ///
  /// @param slots the most of them
  /// @param capacity the most tokens of each
  public SequenceState newState(int slots, int capacity) {
    return new SequenceState(slots, capacity, keyValueType);
  }

  /// Says what training passes keep from now on.
  ///
  /// @throws IllegalArgumentException for [Recompute#BLOCKS] with experts, whose losses that
  ///   balance them are taken from the forward pass
  public void recompute(Recompute recompute) {
    boolean experts =
        config.layers().stream().anyMatch(layer -> layer.feedForward().experts().count() > 0);
    if (recompute == Recompute.BLOCKS && experts) {
      throw new IllegalArgumentException("blocks with experts cannot be recomputed");
    }
    this.recompute = recompute;
  }

  private boolean recomputes(@Nullable Past past, Probe probe) {
    boolean training =
        recompute == Recompute.BLOCKS
            && FusedOp.recording(List.of(), List.copyOf(parameters.all().values()));
    if (training && (past != null || !probe.equals(Probe.NONE))) {
      throw new IllegalStateException(
          "a pass with gradients whose blocks are recomputed can neither be watched nor go on");
    }
    return training;
  }

  private List<Tensor> leaves(int layer) {
    String prefix = "model.layers." + layer + ".";
    return parameters.all().entrySet().stream()
        .filter(entry -> entry.getKey().startsWith(prefix))
        .map(Map.Entry::getValue)
        .toList();
  }

  /// Whether one token of each of a few sequences goes in steps that were written down.
  boolean isWrittenDown() {
    return oneToken(1).isPresent();
  }

  Tensor embedded(Tensor idsBT) {
    var rowsBTD =
        Operations.of(idsBT).embedding(parameters.weight("model.embed_tokens.weight"), idsBT);
    double multiplier = config.embeddingMultiplier();
    return multiplier == 1 ? rowsBTD : rowsBTD.times(multiplier);
  }

  /// The logits `[…, V]` of hidden states `[…, D]`, float32.
  public Tensor logits(Tensor hidden) {
    return precision.logits(hidden, head());
  }

  private Weight head() {
    return parameters.weight(
        config.tieWordEmbeddings() ? "model.embed_tokens.weight" : "lm_head.weight");
  }

  /// What a training pass gives.
  ///
  /// @param crossEntropy mean next-token cross-entropy in nats
  /// @param zLoss what was added of it, or null for nothing
  /// @param divergence from another model's answers in nats, or null where there is none
  /// @param total what is to be minimised: all of it, with the losses that balance experts, where
  ///   there are any
  public record Loss(
      Tensor crossEntropy, @Nullable Tensor zLoss, @Nullable Tensor divergence, Tensor total) {}

  /// Mean next-token cross-entropy in nats.
  ///
  /// @param idsBT inputs
  /// @param targetsBT the token that follows each input
  public Tensor loss(Tensor idsBT, Tensor targetsBT) {
    return loss(idsBT, targetsBT, null, new ExpertLoad(), 0).crossEntropy();
  }

  /// The losses of a micro-batch in training.
  ///
  /// @param documents as in [#hiddenStatesByDocument]
  /// @param load of the step, which takes this micro-batch up
  /// @param zLoss weight of the z-loss, or 0 for none
  public Loss loss(
      Tensor idsBT,
      Tensor targetsBT,
      @Nullable DocumentStarts documents,
      ExpertLoad load,
      double zLoss) {
    return loss(idsBT, targetsBT, documents, load, Probe.NONE, zLoss);
  }

  /// The same where a probe watches the pass.
  public Loss loss(
      Tensor idsBT,
      Tensor targetsBT,
      @Nullable DocumentStarts documents,
      ExpertLoad load,
      Probe probe,
      double zLoss) {
    try (var scope = Scope.open()) {
      var hidden = hiddenStates(idsBT, documents, null, probe, load);
      var loss =
          Operations.of(hidden)
              .nextTokenLoss(hidden, head(), targetsBT, precision.elementType(), zLoss);
      return kept(scope, loss.crossEntropy(), loss.zLoss(), null, loss.total(), load);
    }
  }

  /// The same together with the divergence from another model's answers.
  ///
  /// @param teacher the other model's answers to `idsBT`
  /// @param shares what each part counts
  public Loss distilledLoss(
      Tensor idsBT,
      Tensor targetsBT,
      @Nullable DocumentStarts documents,
      ExpertLoad load,
      Probe probe,
      DistilledLoss.Teacher teacher,
      DistilledLoss.Shares shares) {
    try (var scope = Scope.open()) {
      var hidden = hiddenStates(idsBT, documents, null, probe, load);
      var loss =
          Operations.of(hidden)
              .distilledLoss(hidden, head(), targetsBT, teacher, precision.elementType(), shares);
      return kept(scope, loss.crossEntropy(), loss.zLoss(), loss.divergence(), loss.total(), load);
    }
  }

  private static Loss kept(
      Scope scope,
      Tensor crossEntropy,
      @Nullable Tensor zLoss,
      @Nullable Tensor divergence,
      Tensor total,
      ExpertLoad load) {
    var balance = load.takeLoss();
    return new Loss(
        scope.keep(crossEntropy),
        zLoss == null ? null : scope.keep(zLoss),
        divergence == null ? null : scope.keep(divergence),
        scope.keep(balance == null ? total : total.plus(balance)));
  }

  /// This model's answers for another one to learn from.
  ///
  /// @param documents as in [#hiddenStatesByDocument]
  public DistilledLoss.Teacher teach(
      Tensor idsBT, @Nullable DocumentStarts documents, Probe probe) {
    try (var scope = Scope.withoutGradient()) {
      return new DistilledLoss.Teacher(
          scope.keep(hiddenStatesByDocument(idsBT, documents, probe)), head());
    }
  }

  @Override
  public void close() {
    rotary.stream().flatMap(Optional::stream).forEach(RotaryEmbedding::close);
    parameters.close();
  }
}
