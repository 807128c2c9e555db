/// Gated DeltaNet (Yang et al. 2024, arXiv 2412.06464), the linear attention of Qwen3-Next and
/// Qwen3.5, as the operations that a layer is made of. In their order:
/// [dev.sluice.operations.ShortConvolution] of the projected queries, keys and values,
/// [dev.sluice.deltanet.DeltaRates] of what decays and what is learned,
/// [dev.sluice.operations.DeltaRule] itself, and [dev.sluice.operations.GatedHeadNorm] of its
/// result.
///
/// Legend for shapes: B batch, T tokens of this call, M key heads, N value heads (a multiple of M),
/// K elements of a key or query, V elements of a value, C = 2 · M · K + N · V channels: the queries
/// of all heads, then the keys, then the values.
package dev.sluice.deltanet;
