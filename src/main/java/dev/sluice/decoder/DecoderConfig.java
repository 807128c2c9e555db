package dev.sluice.decoder;

import dev.sluice.InvalidInputException;
import dev.sluice.attention.Attention;
import dev.sluice.attention.AttentionConfig;
import dev.sluice.attention.AttentionVariant;
import dev.sluice.attention.RopeScaling;
import dev.sluice.gate.Gate;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

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

  public DecoderConfig {
    requirePositive("vocab_size", vocabSize);
    requirePositive("intermediate_size", intermediateSize);
    requirePositive("num_hidden_layers", layers);
    requirePositive("max_position_embeddings", maxPositionEmbeddings);
    requirePositive("rope_theta", ropeTheta);
    requirePositive("rms_norm_eps", rmsNormEps);
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
    if (!(value > 0)) {
      throw new InvalidInputException(name + " must be positive, not " + value);
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
    int rounded = Math.toIntExact(Math.round(width / multiple) * multiple);
    if (rounded < multiple) {
      throw new InvalidInputException("no feed-forward width brings this model down to " + target);
    }
    return withIntermediateSize(rounded);
  }

  /// Names and shapes of all parameters, in order. Nothing is allocated.
  public Map<String, long[]> parameterShapes() {
    var shapes = new LinkedHashMap<String, long[]>();
    shapes.put("model.embed_tokens.weight", new long[] {vocabSize, hiddenSize});
    for (int layer = 0; layer < layers; layer++) {
      String block = "model.layers." + layer + ".";
      norm(shapes, block + "input_layernorm.");
      Attention.shapes(attention())
          .forEach((name, shape) -> shapes.put(block + "self_attn." + name, shape));
      if (residualVariant.sandwichNorm()) {
        norm(shapes, block + "attention_output_layernorm.");
      }
      norm(shapes, block + "post_attention_layernorm.");
      if (experts.count() == 0) {
        swiGlu(shapes, block + "mlp.");
      } else {
        shapes.put(block + "mlp.gate.weight", new long[] {experts.count(), hiddenSize});
        for (int expert = 0; expert < experts.count(); expert++) {
          swiGlu(shapes, block + EXPERTS + expert + ".");
        }
      }
      if (residualVariant.sandwichNorm()) {
        norm(shapes, block + "mlp_output_layernorm.");
      }
    }
    norm(shapes, "model.norm.");
    if (!tieWordEmbeddings) {
      shapes.put("lm_head.weight", new long[] {vocabSize, hiddenSize});
    }
    return shapes;
  }

  private void swiGlu(Map<String, long[]> shapes, String name) {
    shapes.put(name + "gate_proj.weight", new long[] {intermediateSize, hiddenSize});
    shapes.put(name + "up_proj.weight", new long[] {intermediateSize, hiddenSize});
    shapes.put(name + "down_proj.weight", new long[] {hiddenSize, intermediateSize});
  }

  private void norm(Map<String, long[]> shapes, String name) {
    shapes.put(name + "weight", new long[] {hiddenSize});
    int rank = residualVariant.gatedNormRank();
    if (rank > 0) {
      shapes.put(name + "gate_down.weight", new long[] {rank, hiddenSize});
      shapes.put(name + "gate_up.weight", new long[] {hiddenSize, rank});
    }
  }

  /// How many parameters a token goes through: all but those of the experts that are not its own.
  public long activeParameterCount() {
    long perExpert = 3L * hiddenSize * intermediateSize;
    return parameterCount() - layers * (experts.count() - (long) experts.perToken()) * perExpert;
  }

  /// How many parameters the model has.
  public long parameterCount() {
    long count = 0;
    for (long[] shape : parameterShapes().values()) {
      long elements = 1;
      for (long length : shape) {
        elements *= length;
      }
      count += elements;
    }
    return count;
  }

  /// Floating-point operations that training on one token takes, forwards and backwards: 6 for
  /// every weight of a matrix product that the token goes through, the output's among them, and
  /// attention's two products over the half of the scores that causality leaves, `6 T N H` a layer.
  /// What a backward pass computes again is not counted.
  ///
  /// @param tokens T of a sequence
  public double trainingFlopsPerToken(long tokens) {
    double weights = 0;
    for (var entry : parameterShapes().entrySet()) {
      boolean lookedUp = entry.getKey().equals("model.embed_tokens.weight") && !tieWordEmbeddings;
      if (entry.getValue().length == 2 && !lookedUp) {
        double share =
            entry.getKey().contains(EXPERTS) ? (double) experts.perToken() / experts.count() : 1;
        weights += share * entry.getValue()[0] * entry.getValue()[1];
      }
    }
    return 6 * weights + 6.0 * layers * tokens * attentionHeads * headDim;
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
