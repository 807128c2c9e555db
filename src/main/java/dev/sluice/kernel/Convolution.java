package dev.sluice.kernel;

/// The sizes of a causal convolution over tokens, each channel on its own.
///
/// @param batch sequences
/// @param tokens of each
/// @param channels of a token, adjacent in memory
/// @param width tokens that one result is made of: itself and those before it
public record Convolution(long batch, long tokens, int channels, int width) {}
