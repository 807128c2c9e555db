/// Decoder-only transformers: the paper's dense models and Qwen3, gated or not, and others as lists
/// of layers; and the head that drafts a token for some of them.
///
/// Legend for shapes: B batch, T tokens, D hidden size, V vocabulary. Parameters carry the names of
/// `transformers`.
package dev.sluice.decoder;
