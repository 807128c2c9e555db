/// Means, medians, intervals and tests of a few repeated measurements; below all that report any.
package dev.sluice.statistics;
