/// The paper's gate, its axes as types: what is gated ([dev.sluice.gate.GatePosition]), how finely
/// ([dev.sluice.gate.Granularity]), by what ([dev.sluice.gate.GateInput]), through which function
/// ([dev.sluice.gate.Activation]) and how it is combined ([dev.sluice.gate.Combination]).
///
/// Legend for shapes: B batch, T tokens, D hidden size, N heads of the gated tensor (query heads,
/// or key/value heads for keys and values), H head size.
///
/// Start reading at [dev.sluice.gate.Gate]; [dev.sluice.gate.GateProjection] computes it.
package dev.sluice.gate;
