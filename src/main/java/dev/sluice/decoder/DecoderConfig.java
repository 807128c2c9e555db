package dev.sluice.decoder;

import dev.sluice.InvalidInputException;
import dev.sluice.attention.Attention;
import dev.sluice.attention.AttentionConfig;
import dev.sluice.attention.AttentionVariant;
import dev.sluice.attention.RopeScaling;
import dev.sluice.gate.Gate;
import dev.sluice.tensor.ParameterSpec;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

/// The shape of a decoder: pre-norm RMSNorm, grouped-query attention with gates, SwiGLU (paper
/// section 2 and table 7).
///
/// @param vocabSize V
/// @param hiddenSize D
/// @param intermediateSize the feed-forward width, that of each expert where there are experts
/// @param layers number of blocks
/// @param attentionHeads query heads
/// @param keyValueHeads key/value heads
/// @param headDim size of a head
/// @param maxPositionEmbeddings the longest sequence the model is meant for
/// @param ropeTheta base of the rotary frequencies
/// @param ropeScaling how they are stretched
/// @param rmsNormEps ε of every norm
/// @param qkNorm RMS norm of queries and keys per head
/// @param tieWordEmbeddings whether the output matrix is the embedding
/// @param initializerRange standard deviation of a new model's weights
/// @param gates at most one per position
/// @param attentionVariant what attention layers have besides gates
/// @param residualVariant what blocks have besides pre-norm
/// @param experts the mixture of experts in place of the feed-forward layer
public record DecoderConfig(
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
    List<Gate> gates,
    AttentionVariant attentionVariant,
    ResidualVariant residualVariant,
    Experts experts) {
  private static final String EXPERTS = "mlp.experts.";

  /// Beyond any model: the largest published have some 70,000, three for an expert of a layer.
  private static final int MOST_TENSORS = 250_000;

  /// Of a layer, without its experts'.
  private static final int TENSORS_OF_A_LAYER = 16;

  public DecoderConfig {
    requirePositive("vocab_size", vocabSize);
    requirePositive("intermediate_size", intermediateSize);
    requirePositive("num_hidden_layers", layers);
    requirePositive("max_position_embeddings", maxPositionEmbeddings);
    requirePositive("rms_norm_eps", rmsNormEps);
    if (!(ropeTheta >= 1e-30 && ropeTheta <= 1e30)) { // float32 holds its powers
      throw new InvalidInputException(
          "rope_theta must be a number from 1e-30 to 1e30, not " + ropeTheta);
    }
    if (ropeTheta == 1 && !(ropeScaling instanceof RopeScaling.None)) {
      throw new InvalidInputException(
          "rope_theta is 1: all dimensions turn alike, so YaRN cannot tell them apart; use"
              + " another");
    }
    if (!(initializerRange >= 0) || !Float.isFinite((float) initializerRange)) {
      throw new InvalidInputException(
          "initializer_range must be 0 or a positive number, not " + initializerRange);
    }
    if (layers * (TENSORS_OF_A_LAYER + 3.0 * experts.count()) > MOST_TENSORS) {
      throw new InvalidInputException(
          "num_hidden_layers %d%s are more than %d weight matrices, which no model has; choose fewer"
              .formatted(
                  layers,
                  experts.count() == 0 ? "" : " of %d experts".formatted(experts.count()),
                  MOST_TENSORS));
    }
    AttentionConfig.requireWidth("intermediate_size " + intermediateSize, intermediateSize);
    AttentionConfig.requireWidth(
        "gated_norm_rank " + residualVariant.gatedNormRank(), residualVariant.gatedNormRank());
    gates = List.copyOf(gates);
    var _ =
        new AttentionConfig(
            hiddenSize,
            attentionHeads,
            keyValueHeads,
            headDim,
            qkNorm,
            rmsNormEps,
            gates,
            attentionVariant);
  }

  /// A model with nothing but gates.
  public DecoderConfig(
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
    this(
        vocabSize,
        hiddenSize,
        intermediateSize,
        layers,
        attentionHeads,
        keyValueHeads,
        headDim,
        maxPositionEmbeddings,
        ropeTheta,
        ropeScaling,
        rmsNormEps,
        qkNorm,
        tieWordEmbeddings,
        initializerRange,
        gates,
        AttentionVariant.PLAIN,
        ResidualVariant.PLAIN,
        Experts.NONE);
  }

  private static void requirePositive(String name, double value) {
    if (!(value > 0) || !Float.isFinite((float) value)) {
      throw new InvalidInputException(
          name
              + " must be positive, not "
              + (value == Math.rint(value) ? String.valueOf((long) value) : value));
    }
  }

  /// The shape of every attention layer.
  public AttentionConfig attention() {
    return new AttentionConfig(
        hiddenSize,
        attentionHeads,
        keyValueHeads,
        headDim,
        qkNorm,
        rmsNormEps,
        gates,
        attentionVariant);
  }

  /// The same model with other gates.
  public DecoderConfig with(List<Gate> changed) {
    return with(intermediateSize, changed, attentionVariant, residualVariant, experts);
  }

  public DecoderConfig with(AttentionVariant changed) {
    return with(intermediateSize, gates, changed, residualVariant, experts);
  }

  public DecoderConfig with(ResidualVariant changed) {
    return with(intermediateSize, gates, attentionVariant, changed, experts);
  }

  public DecoderConfig with(Experts changed) {
    return with(intermediateSize, gates, attentionVariant, residualVariant, changed);
  }

  /// The same model with another feed-forward width.
  public DecoderConfig withIntermediateSize(int changed) {
    return with(changed, gates, attentionVariant, residualVariant, experts);
  }

  /// The same model with or without an output matrix of its own.
  public DecoderConfig withTieWordEmbeddings(boolean changed) {
    return new DecoderConfig(
        vocabSize,
        hiddenSize,
        intermediateSize,
        layers,
        attentionHeads,
        keyValueHeads,
        headDim,
        maxPositionEmbeddings,
        ropeTheta,
        ropeScaling,
        rmsNormEps,
        qkNorm,
        changed,
        initializerRange,
        gates,
        attentionVariant,
        residualVariant,
        experts);
  }

  private DecoderConfig with(
      int changedIntermediateSize,
      List<Gate> changedGates,
      AttentionVariant changedAttention,
      ResidualVariant changedResidual,
      Experts changedExperts) {
    return new DecoderConfig(
        vocabSize,
        hiddenSize,
        changedIntermediateSize,
        layers,
        attentionHeads,
        keyValueHeads,
        headDim,
        maxPositionEmbeddings,
        ropeTheta,
        ropeScaling,
        rmsNormEps,
        qkNorm,
        tieWordEmbeddings,
        initializerRange,
        changedGates,
        changedAttention,
        changedResidual,
        changedExperts);
  }

  /// This model with the feed-forward width, a multiple of `multiple`, whose parameter count comes
  /// closest to `target`: how the paper pays for a gate.
  public DecoderConfig matchingParameters(long target, int multiple) {
    double perColumn = 3.0 * hiddenSize * layers * Math.max(1, experts.count());
    double rest = parameterCount() - perColumn * intermediateSize;
    return withWidth((target - rest) / perColumn, multiple, target + " parameters");
  }

  /// The same with the floating-point operations of training on a token of sequences of `tokens`.
  public DecoderConfig matchingFlops(double target, long tokens, int multiple) {
    double perColumn = 6 * 3.0 * hiddenSize * layers * Math.max(1, experts.perToken());
    double rest = trainingFlopsPerToken(tokens) - perColumn * intermediateSize;
    return withWidth(
        (target - rest) / perColumn, multiple, target + " floating-point operations a token");
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
    for (int layer = 0; layer < layers; layer++) {
      parameters.putAll(layer("model.layers." + layer + ".", experts.count()));
    }
    parameters.putAll(output());
    return parameters;
  }

  private Map<String, ParameterSpec> embedding() {
    return Map.of("model.embed_tokens.weight", ParameterSpec.drawn(vocabSize, hiddenSize));
  }

  /// @param expertsNamed how many of the experts are among them
  private Map<String, ParameterSpec> layer(String block, int expertsNamed) {
    var parameters = new LinkedHashMap<String, ParameterSpec>();
    norm(parameters, block + "input_layernorm.");
    Attention.parameters(attention())
        .forEach((name, spec) -> parameters.put(block + "self_attn." + name, spec));
    if (residualVariant.sandwichNorm()) {
      norm(parameters, block + "attention_output_layernorm.");
    }
    norm(parameters, block + "post_attention_layernorm.");
    if (experts.count() == 0) {
      swiGlu(parameters, block + "mlp.");
    } else {
      parameters.put(block + "mlp.gate.weight", ParameterSpec.drawn(experts.count(), hiddenSize));
      for (int expert = 0; expert < expertsNamed; expert++) {
        swiGlu(parameters, block + EXPERTS + expert + ".");
      }
    }
    if (residualVariant.sandwichNorm()) {
      norm(parameters, block + "mlp_output_layernorm.");
    }
    return parameters;
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
    norm(parameters, "model.norm.");
    return parameters;
  }

  private void swiGlu(Map<String, ParameterSpec> parameters, String name) {
    parameters.put(name + "gate_proj.weight", ParameterSpec.drawn(intermediateSize, hiddenSize));
    parameters.put(name + "up_proj.weight", ParameterSpec.drawn(intermediateSize, hiddenSize));
    parameters.put(name + "down_proj.weight", ParameterSpec.drawn(hiddenSize, intermediateSize));
  }

  private void norm(Map<String, ParameterSpec> parameters, String name) {
    parameters.put(name + "weight", ParameterSpec.constant(1, hiddenSize));
    int rank = residualVariant.gatedNormRank();
    if (rank > 0) {
      parameters.put(name + "gate_down.weight", ParameterSpec.drawn(rank, hiddenSize));
      parameters.put(name + "gate_up.weight", ParameterSpec.constant(0, hiddenSize, rank));
    }
  }

  /// How many parameters a token goes through: all but those of the experts that are not its own.
  public long activeParameterCount() {
    return parameterCount()
        - (long) layers * (experts.count() - experts.perToken()) * elementsOfExpert();
  }

  /// How many parameters the model has.
  public long parameterCount() {
    try {
      long layer =
          Math.addExact(all(layer("", 0)), Math.multiplyExact(experts.count(), elementsOfExpert()));
      return Math.addExact(
          Math.addExact(all(embedding()), all(output())), Math.multiplyExact(layers, layer));
    } catch (ArithmeticException e) {
      throw uncountable(e);
    }
  }

  private long elementsOfExpert() {
    return 3L * hiddenSize * intermediateSize; // below 2^50
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
    return new InvalidInputException(
        "vocab_size %d, hidden_size %d, intermediate_size %d, %d heads of %d, %d layers and %d experts make more parameters than can be counted; choose less"
            .formatted(
                vocabSize,
                hiddenSize,
                intermediateSize,
                attentionHeads,
                headDim,
                layers,
                experts.count()),
        e);
  }

  /// Floating-point operations that training on one token takes, forwards and backwards: 6 for
  /// every weight of a matrix product that the token goes through, the output's among them, and
  /// attention's two products over the half of the scores that causality leaves, `6 T N H` a layer.
  /// What a backward pass computes again is not counted.
  ///
  /// @param tokens T of a sequence
  public double trainingFlopsPerToken(long tokens) {
    try {
      long layer =
          Math.addExact(
              matrices(layer("", 0)), Math.multiplyExact(experts.perToken(), elementsOfExpert()));
      long head = matrices(embedding()); // has the output's shape where it is not the output
      long weights =
          Math.addExact(
              Math.addExact(Math.multiplyExact(layers, layer), head), matrices(finalNorm()));
      return 6.0 * weights + 6.0 * layers * tokens * attentionHeads * headDim;
    } catch (ArithmeticException e) {
      throw uncountable(e);
    }
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
