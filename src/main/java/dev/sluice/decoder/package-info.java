/// Decoder-only transformers: the paper's dense models and Qwen3, gated or not.
///
/// Legend for shapes: B batch, T tokens, D hidden size, V vocabulary. Parameters carry the names of
/// `transformers`.
package dev.sluice.decoder;
