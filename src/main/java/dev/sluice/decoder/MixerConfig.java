package dev.sluice.decoder;

import dev.sluice.attention.Attention;
import dev.sluice.attention.AttentionConfig;
import dev.sluice.deltanet.GatedDeltaNetConfig;
import dev.sluice.tensor.ParameterSpec;
import java.util.Map;

/// The shape of a block's first sublayer, which mixes tokens.
public sealed interface MixerConfig {
  /// Softmax attention.
  record SoftmaxAttention(AttentionConfig config) implements MixerConfig {}

  /// Gated DeltaNet, a linear attention.
  record DeltaNet(GatedDeltaNetConfig config) implements MixerConfig {}

  /// D.
  default int hiddenSize() {
    return switch (this) {
      case SoftmaxAttention(var config) -> config.hiddenSize();
      case DeltaNet(var config) -> config.hiddenSize();
    };
  }

  /// What the names of the parameters start with, within the block.
  default String prefix() {
    return switch (this) {
      case SoftmaxAttention _ -> "self_attn.";
      case DeltaNet _ -> "linear_attn.";
    };
  }

  /// The parameters by their names without prefix, in order.
  default Map<String, ParameterSpec> parameters() {
    return switch (this) {
      case SoftmaxAttention(var config) -> Attention.parameters(config);
      case DeltaNet(var config) -> config.parameters();
    };
  }

  /// Multiplications of a token with all of a sequence that training takes forwards and backwards
  /// besides those with weights; what a backward pass computes again is not counted.
  ///
  /// @param tokens T of a sequence
  default double flopsBesideWeights(long tokens) {
    return switch (this) {
      // two products with the keys that a query sees
      case SoftmaxAttention(var config) ->
          12.0 * config.positions().meanKeys(tokens) * config.attentionHeads() * config.headDim();
      // Sᵀk, k δᵀ and Sᵀq
      case DeltaNet(var config) -> {
        var heads = config.heads();
        yield 18.0 * heads.valueHeads() * heads.keyWidth() * heads.valueWidth();
      }
    };
  }

  /// How many numbers the mixer keeps of a sequence: keys and values, which grow with it, or a
  /// state of fixed size with the tokens that the convolution still needs.
  ///
  /// @param tokens of the sequence
  default long stateElements(long tokens) {
    return switch (this) {
      case SoftmaxAttention(var config) -> 2 * tokens * config.keyValueHeads() * config.headDim();
      case DeltaNet(var config) -> {
        var heads = config.heads();
        yield (long) heads.valueHeads() * heads.keyWidth() * heads.valueWidth()
            + (long) heads.channels() * (config.convolutionWidth() - 1);
      }
    };
  }

  /// Bytes of what the mixer keeps of a sequence that a token moves: keys and values are read, a
  /// state is read and written.
  ///
  /// @param tokens of the sequence, with this one
  /// @param keyValueBytes of a number of keys and values
  default long bytesMoved(long tokens, int keyValueBytes) {
    return switch (this) {
      case SoftmaxAttention(var config) ->
          stateElements(config.positions().seen(tokens)) * keyValueBytes;
      case DeltaNet _ -> stateElements(tokens) * Float.BYTES * 2;
    };
  }
}
