/// Comparing models: variants trained from paired seeds, measured alike, and told apart only where
/// the numbers allow it.
package dev.sluice.study;
