/// Causal self-attention with gates. [dev.sluice.attention.Attention] shows all five gate positions
/// in the paper's order.
///
/// Legend for shapes: B batch, T tokens of this call, S tokens attended to, D hidden size, N query
/// heads, M key/value heads, H head size.
package dev.sluice.attention;
