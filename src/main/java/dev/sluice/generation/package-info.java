/// Continues text: sampling, decoding with a cache, tokens that a head drafts, prompts whose
/// beginnings were read before, and streaming.
package dev.sluice.generation;
