/// Continues text: sampling, decoding with a cache, prompts whose beginnings were read before, and
/// streaming.
package dev.sluice.generation;
