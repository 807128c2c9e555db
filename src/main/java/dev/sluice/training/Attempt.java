package dev.sluice.training;

import dev.sluice.provenance.RunManifest;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/// What a run was begun or resumed with.
///
/// @param commit that Sluice was built from
/// @param device that was used; null where an earlier version did not record it
public record Attempt(String commit, @Nullable String device) {
  /// What `manifest.json` calls them, in order, where they are not all alike.
  static final String ALL = "attempts";

  /// Those that made a run or a checkpoint, each that differs from the one before it.
  public static List<Attempt> of(RunManifest manifest) {
    List<Attempt> attempts = new ArrayList<>();
    if (manifest.config().get(ALL) instanceof List<?> recorded) {
      for (Object one : recorded) {
        if (one instanceof Map<?, ?> attempt) {
          attempts.add(
              new Attempt(String.valueOf(attempt.get("commit")), text(attempt.get("device"))));
        }
      }
    }
    if (attempts.isEmpty()) {
      var device = manifest.config().get(TrainingRun.DEVICE_USED);
      attempts.add(new Attempt(manifest.sluiceCommit(), text(device)));
    }
    return List.copyOf(attempts);
  }

  private static @Nullable String text(@Nullable Object recorded) {
    return recorded == null ? null : recorded.toString();
  }
}
