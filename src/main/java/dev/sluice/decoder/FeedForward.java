package dev.sluice.decoder;

import dev.sluice.probe.Probe;
import dev.sluice.tensor.Tensor;
import org.jspecify.annotations.Nullable;

/// A block's second sublayer.
sealed interface FeedForward permits DenseFeedForward, MixtureOfExperts {
  /// @param load takes up how tokens are shared among experts, in training
  Tensor forward(Tensor xBTD, @Nullable ExpertLoad load, Probe probe);
}
