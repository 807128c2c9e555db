/// Continues text: sampling, decoding with a cache, and streaming.
package dev.sluice.generation;
