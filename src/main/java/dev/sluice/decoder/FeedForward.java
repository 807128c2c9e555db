package dev.sluice.decoder;

import dev.sluice.kernel.Floats;
import dev.sluice.operations.TokenSteps;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.Tensor;
import org.jspecify.annotations.Nullable;

/// A block's second sublayer.
sealed interface FeedForward permits DenseFeedForward, MixtureOfExperts {
  /// @param load takes up how tokens are shared among experts, in training
  Tensor forward(Tensor xBTD, @Nullable ExpertLoad load, Probe probe);

  /// Writes down [#forward] for one token of each of a few sequences.
  ///
  /// @param x `[B, D]`
  /// @return `[B, D]`, to be added to the residual stream; null where nothing is written down that
  ///   can be used
  @Nullable Floats write(TokenSteps steps, Floats x);
}
