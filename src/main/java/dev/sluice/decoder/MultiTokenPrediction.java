package dev.sluice.decoder;

import dev.sluice.attention.RotaryEmbedding;
import dev.sluice.operations.Precision;
import dev.sluice.probe.Probe;
import dev.sluice.state.Past;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.ParameterSpec;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.jspecify.annotations.Nullable;

/// The head with which Qwen3-Next and Qwen3.5 were trained to predict one token further
/// (multi-token prediction, MTP), as vLLM's `qwen3_next_mtp.py` and llama.cpp's `qwen35` have it.
/// Of a token's hidden state h, after the model's final norm, and the token that follows it
///
/// ```
/// z = fc · [norm_e(embedding of the token that follows); norm_h(h)]
/// ```
///
/// goes through a block of softmax attention, which has keys and values of its own, and a norm.
/// [Decoder#logits] makes of the result the logits of the token after the one that follows.
///
/// Embeddings and output matrix are the model's. The head's own weights stand among the decoder's,
/// under the names of [#parameters].
public final class MultiTokenPrediction {
  private static final String PREFIX = "mtp.";

  /// The head's names, whatever the model: the projection, and the norms before and after it.
  private static final String PROJECTION = PREFIX + "fc.weight";

  private static final String EMBEDDING_NORM = PREFIX + "pre_fc_norm_embedding.";
  private static final String HIDDEN_NORM = PREFIX + "pre_fc_norm_hidden.";
  private static final String NORM = PREFIX + "norm.";

  private final Decoder model;
  private final Precision precision;
  private final Weight projection;
  private final GatedNorm embeddingNorm;
  private final GatedNorm hiddenNorm;
  private final GatedNorm norm;
  private final DecoderBlock block;
  private final Optional<RotaryEmbedding> rotary;

  /// @param model among whose weights the head's are; it stays its owner's
  public MultiTokenPrediction(Decoder model) {
    var config = withBlock(model.config());
    Parameters parameters = model.parameters();
    int layer = config.layers().size() - 1;
    this.model = model;
    this.precision = model.precision();
    this.projection = parameters.weight(PROJECTION);
    this.embeddingNorm = new GatedNorm(config.norm(), precision, parameters, EMBEDDING_NORM);
    this.hiddenNorm = new GatedNorm(config.norm(), precision, parameters, HIDDEN_NORM);
    this.norm = new GatedNorm(config.norm(), precision, parameters, NORM);
    var shape = config.layers().get(layer);
    this.block = new DecoderBlock(shape, config.norm(), precision, layer, parameters);
    this.rotary =
        shape
            .attention()
            .flatMap(
                attention ->
                    attention
                        .positions()
                        .rotary()
                        .map(turning -> new RotaryEmbedding(turning, attention.headDim())));
  }

  /// The model with the head's block as one more layer, which is like the last of its layers that
  /// have softmax attention: files count it so.
  public static DecoderConfig withBlock(DecoderConfig model) {
    var layers = new ArrayList<>(model.layers());
    layers.add(
        model.layers().reversed().stream()
            .filter(layer -> layer.attention().isPresent())
            .findFirst()
            .orElseThrow(
                () -> new IllegalArgumentException("a head that drafts, for no attention")));
    return model.withLayers(layers);
  }

  /// The head's parameters by their names, in order: those of its block, as of a layer after the
  /// model's, and those around it.
  public static Map<String, ParameterSpec> parameters(DecoderConfig model) {
    int width = model.hiddenSize();
    var parameters = new LinkedHashMap<String, ParameterSpec>();
    parameters.put(EMBEDDING_NORM + "weight", model.norm().weight(width));
    parameters.put(HIDDEN_NORM + "weight", model.norm().weight(width));
    parameters.put(PROJECTION, ParameterSpec.map(width, 2L * width));
    withBlock(model)
        .layers()
        .getLast()
        .parameters(model.norm())
        .forEach(
            (name, spec) ->
                parameters.put("model.layers." + model.layers().size() + "." + name, spec));
    parameters.put(NORM + "weight", model.norm().weight(width));
    return parameters;
  }

  /// The model whose hidden states the head takes.
  public Decoder model() {
    return model;
  }

  /// The head's hidden states `[B, T, D]` after its norm, without gradients.
  ///
  /// @param hiddenBTD the model's, of tokens that follow one another
  /// @param followingBT the ids of the tokens that follow each, int64
  /// @param past the head's own keys and values, of the hidden states before these, which grow by
  ///   these; null where there are none before and will be none after
  public Tensor hiddenStates(Tensor hiddenBTD, Tensor followingBT, @Nullable Past past) {
    try (var scope = Scope.withoutGradient()) {
      int tokens = Math.toIntExact(hiddenBTD.size(1));
      int[] starts = past == null ? new int[1] : past.lengths();
      if (past != null) {
        past.begin(hiddenBTD.size(0), tokens);
      }
      var embedded = embeddingNorm.apply(model.embedded(followingBT), null).normedBTD();
      var hidden = hiddenNorm.apply(hiddenBTD.to(ElementType.FLOAT32), null).normedBTD();
      var z = precision.linear(Tensor.concatenate(List.of(embedded, hidden), 2), projection);
      var x =
          block.forward(
              new DecoderBlock.Residual(z.to(ElementType.FLOAT32), null),
              rotary.map(each -> each.rotation(starts, tokens, model.device())).orElse(null),
              null,
              past,
              Probe.NONE,
              null);
      if (past != null) {
        past.advance(tokens);
      }
      return scope.keep(norm.apply(x.streamBTD(), x.addedBTD()).normedBTD());
    }
  }
}
