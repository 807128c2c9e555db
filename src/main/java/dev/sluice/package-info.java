/// Sluice: gated attention, trained, studied, measured. The packages below are the concepts;
/// `ARCHITECTURE.md` has their order.
package dev.sluice;
