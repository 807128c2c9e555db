package dev.sluice.decoder;

import dev.sluice.InvalidInputException;
import dev.sluice.attention.Attention;
import dev.sluice.attention.AttentionConfig;
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
/// @param intermediateSize the feed-forward width
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
    List<Gate> gates) {
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
            hiddenSize, attentionHeads, keyValueHeads, headDim, qkNorm, rmsNormEps, gates);
  }

  private static void requirePositive(String name, double value) {
    if (!(value > 0)) {
      throw new InvalidInputException(name + " must be positive, not " + value);
    }
  }

  /// The shape of every attention layer.
  public AttentionConfig attention() {
    return new AttentionConfig(
        hiddenSize, attentionHeads, keyValueHeads, headDim, qkNorm, rmsNormEps, gates);
  }

  /// The same model with other gates.
  public DecoderConfig with(List<Gate> changed) {
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
        tieWordEmbeddings,
        initializerRange,
        changed);
  }

  /// The same model with another feed-forward width.
  public DecoderConfig withIntermediateSize(int changed) {
    return new DecoderConfig(
        vocabSize,
        hiddenSize,
        changed,
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
        gates);
  }

  /// This model with the feed-forward width, a multiple of `multiple`, whose parameter count comes
  /// closest to `target`: how the paper pays for a gate.
  public DecoderConfig matchingParameters(long target, int multiple) {
    long perColumn = 3L * hiddenSize * layers;
    long rest = parameterCount() - perColumn * intermediateSize;
    int width =
        Math.toIntExact(Math.round((target - rest) / (double) (perColumn * multiple)) * multiple);
    if (width < multiple) {
      throw new InvalidInputException(
          "no feed-forward width brings this model down to " + target + " parameters");
    }
    return withIntermediateSize(width);
  }

  /// Names and shapes of all parameters, in order. Nothing is allocated.
  public Map<String, long[]> parameterShapes() {
    var shapes = new LinkedHashMap<String, long[]>();
    shapes.put("model.embed_tokens.weight", new long[] {vocabSize, hiddenSize});
    for (int layer = 0; layer < layers; layer++) {
      String block = "model.layers." + layer + ".";
      shapes.put(block + "input_layernorm.weight", new long[] {hiddenSize});
      Attention.shapes(attention())
          .forEach((name, shape) -> shapes.put(block + "self_attn." + name, shape));
      shapes.put(block + "post_attention_layernorm.weight", new long[] {hiddenSize});
      shapes.put(block + "mlp.gate_proj.weight", new long[] {intermediateSize, hiddenSize});
      shapes.put(block + "mlp.up_proj.weight", new long[] {intermediateSize, hiddenSize});
      shapes.put(block + "mlp.down_proj.weight", new long[] {hiddenSize, intermediateSize});
    }
    shapes.put("model.norm.weight", new long[] {hiddenSize});
    if (!tieWordEmbeddings) {
      shapes.put("lm_head.weight", new long[] {vocabSize, hiddenSize});
    }
    return shapes;
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
  /// every weight of a matrix product, the output's among them, and attention's two products over
  /// the half of the scores that causality leaves, `6 T N H` a layer. What a backward pass computes
  /// again is not counted.
  ///
  /// @param tokens T of a sequence
  public double trainingFlopsPerToken(long tokens) {
    double weights = 0;
    for (var entry : parameterShapes().entrySet()) {
      boolean lookedUp = entry.getKey().equals("model.embed_tokens.weight") && !tieWordEmbeddings;
      if (entry.getValue().length == 2 && !lookedUp) {
        weights += (double) entry.getValue()[0] * entry.getValue()[1];
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
