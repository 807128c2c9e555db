package dev.sluice.training;

import dev.sluice.settings.Setting;
import dev.sluice.settings.Settings;

/// When a step is passed over, and when a run goes back or ends, see [SpikeGuard] and [Divergence].
public record GuardSettings(
    @Setting(
            initial = "false",
            help =
                "End a run whose loss stays above where it began (with a checkpoint: above that of"
                    + " a guess), or at the first that is not finite.")
        boolean stopDiverged,
    @Setting(
            initial = "0",
            help =
                "Pass over a step whose loss or gradient norm is so many deviations above the"
                    + " median; 0 for only those that are not finite.")
        double spikeThreshold,
    @Setting(
            initial = "128",
            least = SpikeGuard.FEWEST,
            help = "Accepted steps that the median is of.")
        int spikeWindow,
    @Setting(
            initial = "3",
            least = 0,
            use = "0 for none",
            help = "Steps passed over in a row before going back to a checkpoint.")
        int maxSkips,
    @Setting(
            initial = "2",
            least = 0,
            use = "0 for none",
            help = "How often a run goes back before it is given up.")
        int maxRollbacks) {
  public GuardSettings {
    Settings.require(
        spikeThreshold == 0 || spikeThreshold >= 1,
        "spike_threshold",
        spikeThreshold,
        "use 0 for none or at least 1, such as 6");
  }

  SpikeGuard.Settings spikeGuard() {
    return new SpikeGuard.Settings(
        spikeThreshold, spikeWindow, stopDiverged ? 0 : maxSkips, stopDiverged ? 0 : maxRollbacks);
  }
}
