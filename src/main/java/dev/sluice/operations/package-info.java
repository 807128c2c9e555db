/// What a device computes for a model: [dev.sluice.operations.Operations] lists it, and every class
/// here is one of its operations, with its definition (`composed`, of libtorch's operations) beside
/// the fused one of the CPU (`apply`, over [dev.sluice.kernel.Kernels]).
///
/// Legend for shapes: B batch, T tokens of this call, S tokens attended to, D hidden size, V
/// vocabulary, N query heads, M key/value heads, H head size. Of the delta rule: M key heads, N
/// value heads (a multiple of M), K elements of a key or query, V elements of a value, C = 2 · M ·
/// K + N · V channels: the queries of all heads, then the keys, then the values.
package dev.sluice.operations;
