/// From gradients to new weights: clipping by the global norm, AdamW, learning-rate schedules.
package dev.sluice.optimizer;
