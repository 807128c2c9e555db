package dev.sluice.training;

import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.ExpertLoad;
import dev.sluice.operations.DocumentStarts;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.Tensor;
import java.util.LinkedHashMap;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/// What a step of training minimises, and which parameters move.
public interface Objective extends AutoCloseable {
  /// Of a micro-batch.
  ///
  /// @param total what is minimised; the only one with a gradient, unless it is the cross-entropy
  /// @param crossEntropy mean next-token loss in nats
  /// @param zLoss what was added of it, or null for nothing
  /// @param parts the other parts by the names that a run records them under, before they are
  ///   weighted; the caller's scope holds them
  record Terms(
      Tensor total, Tensor crossEntropy, @Nullable Tensor zLoss, Map<String, Tensor> parts) {
    public Terms {
      parts = new LinkedHashMap<>(parts);
    }
  }

  /// Next-token loss alone, with a z-loss of that weight.
  static Objective nextTokens(double zLoss) {
    return (decoder, idsBT, targetsBT, documents, load, _) -> {
      var loss = decoder.loss(idsBT, targetsBT, documents, load, zLoss);
      return new Terms(loss.total(), loss.crossEntropy(), loss.zLoss(), Map.of());
    };
  }

  /// The terms of a micro-batch.
  ///
  /// @param documents as in [Decoder#hiddenStatesByDocument]
  /// @param load of the step
  /// @param step from 0
  Terms terms(
      Decoder decoder,
      Tensor idsBT,
      Tensor targetsBT,
      @Nullable DocumentStarts documents,
      ExpertLoad load,
      int step);

  /// Lets those parameters have gradients that the next update moves.
  ///
  /// @return whether they are others than before
  default boolean choose(Decoder decoder, int updates) {
    return false;
  }

  /// How the model is to be looked at after so many steps, where it is not as it is saved yet.
  default Probe view(int steps) {
    return Probe.NONE;
  }

  @Override
  default void close() {}
}
