package dev.sluice.evaluation;

import org.jspecify.annotations.Nullable;

/// What a model answered to one question of a row.
///
/// @param logLikelihood Σ ln p of what was scored; 0 where the model wrote
/// @param greedy whether it would have written that
/// @param tokens scored, or written
/// @param cut tokens that were left out at the start
/// @param text that it wrote, or null
public record Response(
    double logLikelihood, boolean greedy, int tokens, int cut, @Nullable String text) {}
