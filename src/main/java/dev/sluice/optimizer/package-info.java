/// From gradients to new weights: clipping by the global norm, AdamW or Muon, learning-rate
/// schedules.
package dev.sluice.optimizer;
