package dev.sluice.attention;

/// Which projections of an attention layer add a learned bias, which begins at zero.
///
/// @param queryKeyValue those of queries, keys and values
/// @param output that of the output
public record Biases(boolean queryKeyValue, boolean output) {
  public static final Biases NONE = new Biases(false, false);
}
