package dev.sluice.decoder;

import dev.sluice.InvalidInputException;
import dev.sluice.attention.AttentionConfig;
import dev.sluice.attention.AttentionVariant;
import dev.sluice.attention.RopeScaling;
import dev.sluice.attention.Rotary;
import dev.sluice.gate.Gate;
import dev.sluice.operations.DeltaHeads;
import dev.sluice.tensor.ParameterSpec;
import dev.sluice.tensor.RmsNorm;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.ToIntFunction;
import java.util.function.ToLongFunction;
import java.util.function.UnaryOperator;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/// The shape of a decoder: blocks of attention and feed-forward layers in a pre-norm residual
/// stream (paper section 2 and table 7).
///
/// @param vocabSize V
/// @param hiddenSize D
/// @param layers the blocks, in order
/// @param maxPositionEmbeddings the longest sequence the model is meant for
/// @param norm every norm of the residual stream
/// @param tieWordEmbeddings whether the output matrix is the embedding
/// @param initializerRange standard deviation of a new model's weights
/// @param embeddingMultiplier what an embedding is multiplied by on its way into the residual
///   stream; a tied output matrix is not. 1 for nothing
public record DecoderConfig(
    int vocabSize,
    int hiddenSize,
    List<LayerConfig> layers,
    int maxPositionEmbeddings,
    RmsNorm norm,
    boolean tieWordEmbeddings,
    double initializerRange,
    double embeddingMultiplier) {
  /// Beyond any model: the largest published have some 70,000, three for an expert of a layer.
  private static final int MOST_TENSORS = 250_000;

  /// Of a layer, without its experts'.
  private static final int TENSORS_OF_A_LAYER = 16;

  private static final Pattern EXPERT =
      Pattern.compile("model\\.layers\\.(\\d+)\\.mlp\\.experts\\.");

  public DecoderConfig {
    requirePositive("vocab_size", vocabSize);
    requirePositive("num_hidden_layers", layers.size());
    requirePositive("max_position_embeddings", maxPositionEmbeddings);
    requirePositive("rms_norm_eps", norm.epsilon());
    if (!(initializerRange >= 0) || !Float.isFinite((float) initializerRange)) {
      throw new InvalidInputException(
          "initializer_range must be 0 or a positive number, not " + initializerRange);
    }
    requirePositive("the multiplier of embeddings", embeddingMultiplier);
    requireFewTensors(
        layers.size(),
        mostExperts(layers),
        layers.stream().mapToDouble(DecoderConfig::tensors).sum());
    layers = List.copyOf(layers);
    for (var layer : layers) {
      if (layer.mixer().hiddenSize() != hiddenSize
          || layer.feedForward().hiddenSize() != hiddenSize) {
        throw new IllegalArgumentException("a layer that is not as wide as the model: " + layer);
      }
    }
  }

  private static double tensors(LayerConfig layer) {
    var feedForward = layer.feedForward();
    return TENSORS_OF_A_LAYER + (double) feedForward.part().size() * feedForward.experts().count();
  }

  private static int mostExperts(List<LayerConfig> layers) {
    return layers.stream().mapToInt(each -> each.feedForward().experts().count()).max().orElse(0);
  }

  private static void requireFewTensors(int layers, int experts, double tensors) {
    if (tensors > MOST_TENSORS) {
      throw new InvalidInputException(
          "num_hidden_layers %d%s are more than %d weight matrices, which no model has; choose fewer"
              .formatted(
                  layers, experts == 0 ? "" : " of %d experts".formatted(experts), MOST_TENSORS));
    }
  }

  /// A model of equal layers.
  ///
  /// @throws InvalidInputException if there are more than any model has; nothing of their number is
  ///   allocated before
  public static DecoderConfig uniform(
      int vocabSize,
      int layers,
      LayerConfig layer,
      int maxPositionEmbeddings,
      RmsNorm norm,
      boolean tieWordEmbeddings,
      double initializerRange) {
    requirePositive("num_hidden_layers", layers);
    requireFewTensors(layers, layer.feedForward().experts().count(), layers * tensors(layer));
    return new DecoderConfig(
        vocabSize,
        layer.mixer().hiddenSize(),
        Collections.nCopies(layers, layer),
        maxPositionEmbeddings,
        norm,
        tieWordEmbeddings,
        initializerRange,
        1);
  }

  /// A model of equal dense layers with nothing but gates.
  public static DecoderConfig uniform(
      int vocabSize,
      int hiddenSize,
      int intermediateSize,
      int layers,
      int attentionHeads,
      int keyValueHeads,
      int headDim,
      int maxPositionEmbeddings,
      double ropeTheta,
      RopeScaling ropeScaling,
      double rmsNormEps,
      boolean qkNorm,
      boolean tieWordEmbeddings,
      double initializerRange,
      List<Gate> gates) {
    var norm = new RmsNorm(rmsNormEps);
    var attention =
        new AttentionConfig(
                hiddenSize,
                attentionHeads,
                keyValueHeads,
                headDim,
                qkNorm,
                norm,
                new Rotary(ropeTheta, ropeScaling))
            .with(gates);
    var feedForward = new FeedForwardConfig(hiddenSize, intermediateSize, Experts.NONE);
    return uniform(
        vocabSize,
        layers,
        new LayerConfig(attention, feedForward, ResidualVariant.PLAIN),
        maxPositionEmbeddings,
        norm,
        tieWordEmbeddings,
        initializerRange);
  }

  static void requirePositive(String name, double value) {
    if (!(value > 0) || !Float.isFinite((float) value)) {
      throw new InvalidInputException(
          name
              + " must be positive, not "
              + (value == Math.rint(value) ? String.valueOf((long) value) : value));
    }
  }

  /// What all layers that have it have alike.
  ///
  /// @throws IllegalStateException if they differ
  private <T> T common(Stream<T> ofLayers) {
    var different = ofLayers.distinct().toList();
    if (different.size() != 1) {
      throw new IllegalStateException("the layers have not one in common: " + different);
    }
    return different.getFirst();
  }

  /// The softmax attention of all layers that have one.
  public AttentionConfig attention() {
    return common(layers.stream().flatMap(layer -> layer.attention().stream()));
  }

  /// The softmax attention of the first layer that has one; empty where none has.
  public Optional<AttentionConfig> firstAttention() {
    return layers.stream().flatMap(layer -> layer.attention().stream()).findFirst();
  }

  /// The feed-forward layer of all layers.
  public FeedForwardConfig feedForward() {
    return common(layers.stream().map(LayerConfig::feedForward));
  }

  /// How all layers stand in the residual stream.
  public ResidualVariant residual() {
    return common(layers.stream().map(LayerConfig::residual));
  }

  private DecoderConfig map(UnaryOperator<LayerConfig> change) {
    return withLayers(layers.stream().map(change).toList());
  }

  /// The same model with every layer of softmax attention changed; the others stay.
  public DecoderConfig mapAttention(UnaryOperator<AttentionConfig> change) {
    return map(
        layer ->
            layer
                .attention()
                .map(
                    attention ->
                        new LayerConfig(
                            change.apply(attention), layer.feedForward(), layer.residual()))
                .orElse(layer));
  }

  /// The same model with the value heads of every layer of Gated DeltaNet in another order.
  public DecoderConfig with(DeltaHeads.Order changed) {
    return map(
        layer ->
            switch (layer.mixer()) {
              case MixerConfig.SoftmaxAttention _ -> layer;
              case MixerConfig.DeltaNet(var net) ->
                  new LayerConfig(
                      new MixerConfig.DeltaNet(net.with(net.heads().with(changed))),
                      layer.feedForward(),
                      layer.residual());
            });
  }

  private DecoderConfig mapFeedForward(UnaryOperator<FeedForwardConfig> change) {
    return map(
        layer ->
            new LayerConfig(layer.mixer(), change.apply(layer.feedForward()), layer.residual()));
  }

  /// The same model with other gates.
  public DecoderConfig with(List<Gate> changed) {
    return mapAttention(attention -> attention.with(changed));
  }

  public DecoderConfig with(AttentionVariant changed) {
    return mapAttention(attention -> attention.with(changed));
  }

  public DecoderConfig with(ResidualVariant changed) {
    return map(layer -> new LayerConfig(layer.mixer(), layer.feedForward(), changed));
  }

  public DecoderConfig with(Experts changed) {
    return mapFeedForward(feedForward -> feedForward.with(changed));
  }

  /// The same model with other layers.
  public DecoderConfig withLayers(List<LayerConfig> changed) {
    return new DecoderConfig(
        vocabSize,
        hiddenSize,
        changed,
        maxPositionEmbeddings,
        norm,
        tieWordEmbeddings,
        initializerRange,
        embeddingMultiplier);
  }

  /// The same model with another feed-forward width.
  public DecoderConfig withIntermediateSize(int changed) {
    return mapFeedForward(feedForward -> feedForward.withIntermediateSize(changed));
  }

  /// The same model with or without an output matrix of its own.
  public DecoderConfig withTieWordEmbeddings(boolean changed) {
    return new DecoderConfig(
        vocabSize,
        hiddenSize,
        layers,
        maxPositionEmbeddings,
        norm,
        changed,
        initializerRange,
        embeddingMultiplier);
  }

  /// The same model, meant for sequences of another length.
  public DecoderConfig withMaxPositionEmbeddings(int changed) {
    return new DecoderConfig(
        vocabSize,
        hiddenSize,
        layers,
        changed,
        norm,
        tieWordEmbeddings,
        initializerRange,
        embeddingMultiplier);
  }

  /// The longest sequence that the model is meant for: `max_position_embeddings`, or more where its
  /// frequencies adapt to the length.
  public int context() {
    return layers.stream()
        .flatMap(layer -> layer.attention().stream())
        .flatMap(attention -> attention.positions().rotary().stream())
        .mapToInt(rotary -> rotary.scaling().context(maxPositionEmbeddings))
        .min()
        .orElse(maxPositionEmbeddings);
  }

  /// The same model with embeddings multiplied by another number.
  public DecoderConfig withEmbeddingMultiplier(double changed) {
    return new DecoderConfig(
        vocabSize,
        hiddenSize,
        layers,
        maxPositionEmbeddings,
        norm,
        tieWordEmbeddings,
        initializerRange,
        changed);
  }

  /// This model with the feed-forward width, a multiple of `multiple`, whose parameter count comes
  /// closest to `target`: how the paper pays for a gate.
  ///
  /// @throws InvalidInputException if the layers have no one width, or none brings the model there
  public DecoderConfig matchingParameters(long target, int multiple) {
    var one = oneFeedForward();
    double perColumn =
        (3.0 * hiddenSize + (one.biases() ? 2 : 0)) * parts(FeedForwardConfig::parts);
    double rest = parameterCount() - perColumn * one.intermediateSize();
    return withWidth((target - rest) / perColumn, multiple, target + " parameters");
  }

  /// The same with the floating-point operations of training on a token of sequences of `tokens`.
  public DecoderConfig matchingFlops(double target, long tokens, int multiple) {
    double perColumn = 6 * 3.0 * hiddenSize * parts(FeedForwardConfig::partsPerToken);
    double rest = trainingFlopsPerToken(tokens) - perColumn * oneFeedForward().intermediateSize();
    return withWidth(
        (target - rest) / perColumn, multiple, target + " floating-point operations a token");
  }

  private FeedForwardConfig oneFeedForward() {
    var different = layers.stream().map(LayerConfig::feedForward).distinct().toList();
    if (different.size() > 1) {
      throw new InvalidInputException(
          "a model is matched by the one width of its feed-forward layers, and this one has layers of %s; do not match it"
              .formatted(
                  different.stream()
                      .map(
                          each ->
                              each.experts().count() == 0
                                  ? "width " + each.intermediateSize()
                                  : "%d experts of width %d"
                                      .formatted(each.experts().count(), each.intermediateSize()))
                      .distinct()
                      .collect(Collectors.joining(" and of "))));
    }
    return different.getFirst();
  }

  private double parts(ToIntFunction<FeedForwardConfig> parts) {
    return layers.stream().map(LayerConfig::feedForward).mapToDouble(parts::applyAsInt).sum();
  }

  private DecoderConfig withWidth(double width, int multiple, String target) {
    double rounded = (double) Math.round(width / multiple) * multiple;
    if (rounded < multiple) {
      throw new InvalidInputException("no feed-forward width brings this model down to " + target);
    }
    AttentionConfig.requireWidth(
        "the feed-forward layer that brings this model to " + target, rounded);
    return withIntermediateSize((int) rounded);
  }

  /// All parameters by their names, in order. Nothing is allocated.
  public Map<String, ParameterSpec> parameters() {
    var parameters = new LinkedHashMap<>(embedding());
    for (int layer = 0; layer < layers.size(); layer++) {
      String prefix = "model.layers." + layer + ".";
      layers
          .get(layer)
          .parameters(norm)
          .forEach((name, spec) -> parameters.put(prefix + name, spec));
    }
    parameters.putAll(output());
    return parameters;
  }

  private Map<String, ParameterSpec> embedding() {
    return Map.of("model.embed_tokens.weight", ParameterSpec.drawn(vocabSize, hiddenSize));
  }

  private Map<String, ParameterSpec> output() {
    var parameters = finalNorm();
    if (!tieWordEmbeddings) {
      parameters.put("lm_head.weight", ParameterSpec.drawn(vocabSize, hiddenSize));
    }
    return parameters;
  }

  private Map<String, ParameterSpec> finalNorm() {
    var parameters = new LinkedHashMap<String, ParameterSpec>();
    GatedNorm.parameters(hiddenSize, norm, layers.getLast().residual())
        .forEach((name, spec) -> parameters.put("model.norm." + name, spec));
    return parameters;
  }

  /// How many parameters the model has.
  public long parameterCount() {
    return count(FeedForwardConfig::parts);
  }

  /// How many parameters a token goes through: all but those of the experts that are not its own.
  public long activeParameterCount() {
    return count(FeedForwardConfig::partsPerToken);
  }

  private long count(ToIntFunction<FeedForwardConfig> parts) {
    try {
      return Math.addExact(
          Math.addExact(all(embedding()), all(output())), sum(DecoderConfig::all, parts));
    } catch (ArithmeticException e) {
      throw uncountable(e);
    }
  }

  /// Σ over the layers; equal ones, which follow one another in most models, are counted once.
  private long sum(
      ToLongFunction<Map<String, ParameterSpec>> elements, ToIntFunction<FeedForwardConfig> parts) {
    Map<LayerConfig, Long> known = new HashMap<>();
    long sum = 0;
    for (var layer : layers) {
      long ofLayer =
          known.computeIfAbsent(
              layer,
              _ ->
                  Math.addExact(
                      elements.applyAsLong(layer.parametersBesideParts(norm)),
                      Math.multiplyExact(
                          parts.applyAsInt(layer.feedForward()),
                          elements.applyAsLong(layer.feedForward().part()))));
      sum = Math.addExact(sum, ofLayer);
    }
    return sum;
  }

  private static long elements(Stream<ParameterSpec> parameters) {
    return parameters.mapToLong(ParameterSpec::elements).reduce(0, Math::addExact);
  }

  private static long all(Map<String, ParameterSpec> parameters) {
    return elements(parameters.values().stream());
  }

  private static long matrices(Map<String, ParameterSpec> parameters) {
    return elements(parameters.values().stream().filter(ParameterSpec::isMatrix));
  }

  private InvalidInputException uncountable(ArithmeticException e) {
    int widest =
        layers.stream().mapToInt(each -> each.feedForward().intermediateSize()).max().orElse(0);
    return new InvalidInputException(
        "vocab_size %d, hidden_size %d, intermediate_size %d, %d layers and %d experts make more parameters than can be counted; choose less"
            .formatted(vocabSize, hiddenSize, widest, layers.size(), mostExperts(layers)),
        e);
  }

  /// Floating-point operations that training on one token takes, forwards and backwards: 6 for
  /// every weight of a matrix product that the token goes through, the output's among them, and
  /// attention's two products over the scores that causality and windows leave, `6 T N H` a layer
  /// without a window. What a backward pass computes again is not counted.
  ///
  /// @param tokens T of a sequence
  public double trainingFlopsPerToken(long tokens) {
    try {
      long head = matrices(embedding()); // has the output's shape where it is not the output
      long weights =
          Math.addExact(
              Math.addExact(head, matrices(finalNorm())),
              sum(DecoderConfig::matrices, FeedForwardConfig::partsPerToken));
      double mixed =
          layers.stream().mapToDouble(layer -> layer.mixer().flopsBesideWeights(tokens)).sum();
      return 6.0 * weights + mixed;
    } catch (ArithmeticException e) {
      throw uncountable(e);
    }
  }

  /// How many numbers the layers keep of a sequence while it grows, token by token.
  ///
  /// @param tokens of the sequence
  public long stateElements(long tokens) {
    return layers.stream().mapToLong(layer -> layer.mixer().stateElements(tokens)).sum();
  }

  /// Which share of a parameter a token goes through: all, but for those of experts, of which it is
  /// sent to some.
  public double sharePerToken(String parameter) {
    var expert = EXPERT.matcher(parameter);
    if (!expert.lookingAt()) {
      return 1;
    }
    var feedForward = layers.get(Integer.parseInt(expert.group(1))).feedForward();
    return (double) feedForward.partsPerToken() / feedForward.parts();
  }

  /// Bytes of what the layers keep of a sequence that a token moves, see [MixerConfig#bytesMoved].
  public long bytesMoved(long tokens, int keyValueBytes) {
    return layers.stream()
        .mapToLong(layer -> layer.mixer().bytesMoved(tokens, keyValueBytes))
        .sum();
  }

  /// Refuses ids outside the vocabulary: the lookup itself would fail without a word, or kill the
  /// process on CUDA.
  public void requireInVocabulary(long[] ids) {
    for (long id : ids) {
      if (id < 0 || id >= vocabSize) {
        throw new InvalidInputException(
            "token id "
                + id
                + " is outside the model's vocabulary of "
                + vocabSize
                + "; use the tokenizer that belongs to the model");
      }
    }
  }
}
