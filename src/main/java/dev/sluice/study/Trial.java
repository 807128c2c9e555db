package dev.sluice.study;

import dev.sluice.training.RunConfig;
import java.nio.file.Path;

/// One training run of a study.
///
/// @param arm what is trained
/// @param seed which of the paired seeds
/// @param config the run's settings
/// @param directory the run's directory
public record Trial(Arm arm, long seed, RunConfig config, Path directory) {}
