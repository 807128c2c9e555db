package dev.sluice.generation;

import java.util.function.IntFunction;

/// How tokens are chosen: logits are adjusted, then restricted, then sampled from.
///
/// @param restrictions which tokens may come in each of several texts, from 0
public record Choice(
    Sampler sampler,
    LogitAdjustments adjustments,
    IntFunction<? extends Restriction> restrictions) {
  /// Any tokens, from logits as the model gives them.
  public Choice(Sampler sampler) {
    this(sampler, LogitAdjustments.NONE);
  }

  /// Any tokens.
  public Choice(Sampler sampler, LogitAdjustments adjustments) {
    this(sampler, adjustments, _ -> Restriction.NONE);
  }

  /// The same with random numbers of another seed.
  public Choice reseeded(long seed) {
    return new Choice(sampler.reseeded(seed), adjustments, restrictions);
  }

  /// The same with a restriction of the one text that there is.
  public Choice restricted(Restriction restriction) {
    return new Choice(sampler, adjustments, _ -> restriction);
  }
}
