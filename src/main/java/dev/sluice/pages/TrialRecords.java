package dev.sluice.pages;

import dev.sluice.study.Arm;
import dev.sluice.training.RunMetrics;
import java.nio.file.Path;
import java.util.SequencedMap;
import java.util.TreeMap;

/// What the trials of a study recorded.
public interface TrialRecords {
  /// Those of trials that are done, each read when it is asked for; others are not shown.
  TrialRecords OF_FINISHED =
      new TrialRecords() {
        @Override
        public RunMetrics finished(Path trial) {
          return RunMetrics.read(trial);
        }

        @Override
        public SequencedMap<Long, RunMetrics> unfinished(Arm arm) {
          return new TreeMap<>();
        }
      };

  /// Of a trial that is done.
  RunMetrics finished(Path trial);

  /// Of the trials of an arm that have begun and are not done, by seed.
  SequencedMap<Long, RunMetrics> unfinished(Arm arm);
}
