package dev.sluice.study;

import dev.sluice.training.RunConfig;
import java.nio.file.Path;
import java.util.Map;

/// One training run of a study.
///
/// @param arm what is trained
/// @param seed which of the paired seeds
/// @param config the run's settings
/// @param directory the run's directory
public record Trial(Arm arm, long seed, RunConfig config, Path directory) {
  /// Which of a study's trials it is.
  ///
  /// @param variant the variant's name
  /// @param point the grid's settings
  record Name(String variant, Map<String, String> point, long seed) {
    @Override
    public String toString() {
      return Arm.name(variant, point) + ", seed " + seed;
    }
  }

  Name name() {
    return new Name(arm.variant().name(), arm.point(), seed);
  }
}
