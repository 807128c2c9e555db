/// Attention sinks, massive activations and gate sparsity of a decoder, as numbers. Every metric is
/// a probe that keeps numbers only; [dev.sluice.sink.SinkReport] measures all of them in one pass.
///
/// The metrics watch whole sequences from their first token, without a cache. Legend for shapes: B
/// batch, T queries, S keys, N query heads, H head size, D hidden size; layers, heads and tokens
/// count from 0.
package dev.sluice.sink;
