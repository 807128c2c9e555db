package dev.sluice.training;

import dev.sluice.settings.Setting;

/// When a run is saved, and which checkpoints stay.
public record CheckpointSettings(
    @Setting(initial = "100", least = 1, help = "Steps between checkpoints.") int saveEvery,
    @Setting(initial = "3", least = 1, help = "How many of the newest checkpoints stay.")
        int keepCheckpoints,
    @Setting(
            initial = "0",
            least = 0,
            use = "0 for none",
            help = "Checkpoints at multiples of so many steps stay too; 0 for none.")
        int keepEvery,
    @Setting(initial = "true", help = "The checkpoint with the lowest held-out loss stays too.")
        boolean keepBest,
    @Setting(
            initial = "true",
            help =
                "Write checkpoints from a copy while training goes on; false lets training wait,"
                    + " and needs no memory for a copy of weights and optimizer.")
        boolean saveWhileTraining) {
  boolean isDue(int step) {
    return step % saveEvery == 0;
  }

  Retention retention() {
    return new Retention(keepCheckpoints, keepEvery, keepBest, saveEvery);
  }
}
