package dev.sluice.training;

import dev.sluice.InvalidInputException;
import dev.sluice.checkpoint.CheckpointDirectory;
import java.io.IOException;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/// Which checkpoints stay: the newest, those at multiples of a number of steps, the best, and the
/// one that a run would go back to. Nothing but complete checkpoints that are none of these is ever
/// removed.
///
/// @param newest how many of the newest stay, at least 1
/// @param every checkpoints at multiples of so many steps stay; 0 for none
/// @param best whether the one with the lowest held-out loss stays
/// @param saveEvery steps between the saves that a run may go back to
record Retention(int newest, int every, boolean best, int saveEvery) {
  /// Removes what does not stay of `checkpoints`.
  void apply(Path checkpoints) throws IOException {
    List<Path> complete = CheckpointDirectory.complete(checkpoints);
    Set<Path> stay =
        new HashSet<>(complete.subList(Math.max(0, complete.size() - newest), complete.size()));
    double lowest = Double.POSITIVE_INFINITY;
    Path lowestAt = null;
    for (Path checkpoint : complete) {
      if (every > 0 && CheckpointDirectory.step(checkpoint).orElseThrow() % every == 0) {
        stay.add(checkpoint);
      }
      Double heldOut = best ? TrainingCheckpoint.heldOutLoss(checkpoint) : null;
      if (heldOut != null && heldOut < lowest) {
        lowest = heldOut;
        lowestAt = checkpoint;
      }
    }
    if (lowestAt != null) {
      stay.add(lowestAt);
    }
    complete.reversed().stream()
        .filter(checkpoint -> isGood(checkpoint, saveEvery))
        .findFirst()
        .ifPresent(stay::add);
    for (Path checkpoint : complete) {
      if (!stay.contains(checkpoint)) {
        CheckpointDirectory.remove(checkpoint);
      }
    }
  }

  /// Whether a run may go back to a checkpoint: saved when the settings ask for it and not because
  /// the run was stopped, so that a stopped run goes back to where an unbroken one does, and not
  /// amid steps that were passed over.
  static boolean isGood(Path checkpoint, int saveEvery) {
    if (CheckpointDirectory.step(checkpoint).orElseThrow() % saveEvery != 0) {
      return false;
    }
    try {
      return TrainingCheckpoint.state(checkpoint).guard().skipsInARow() == 0;
    } catch (InvalidInputException _) {
      return false;
    }
  }
}
