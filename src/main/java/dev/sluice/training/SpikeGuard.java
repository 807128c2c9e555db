package dev.sluice.training;

import dev.sluice.statistics.Statistics;
import dev.sluice.training.SpikeGuard.State.Event;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import org.jspecify.annotations.Nullable;

/// Decides, before a step's update, whether its loss and gradient may move the weights.
///
/// What is not finite never may. With a threshold, a loss or gradient norm may not either that is
/// further above the median of the last accepted steps than that many deviations, a deviation being
/// 1.4826 times the median absolute one, which is σ for normal numbers. A step that is judged is
/// not in its own window, and one that was passed over never enters it: a candidate cannot hide in
/// the statistics that judge it, and a NaN cannot spoil them.
///
/// After [Settings#maxSkips] steps in a row the run goes back to its last good checkpoint and
/// passes over the batches since; after [Settings#maxRollbacks] of these it is given up.
final class SpikeGuard {
  /// Accepted steps before a median says anything.
  static final int FEWEST = 16;

  /// From the median absolute deviation of normal numbers to their σ.
  private static final double NORMAL = 1.4826;

  /// A window whose numbers hardly differ makes no spike of the next: the deviation is at least
  /// this share of the median.
  private static final double SMALLEST_DEVIATION = 0.01;

  /// @param threshold deviations above the median; 0 when only what is not finite is passed over
  /// @param window accepted steps
  record Settings(double threshold, int window, int maxSkips, int maxRollbacks) {}

  /// Everything that the guard remembers; part of every checkpoint.
  ///
  /// @param losses of the last accepted steps, oldest first
  /// @param gradientNorms of the same
  /// @param skipsInARow steps passed over since the last accepted one
  /// @param skips steps passed over since the weights were new
  /// @param rollbacks how often the run went back
  /// @param batchesPassedOver how much further than its step the reader is
  /// @param events what was passed over and where the run went back, in order
  record State(
      List<Double> losses,
      List<Double> gradientNorms,
      int skipsInARow,
      int skips,
      int rollbacks,
      long batchesPassedOver,
      List<Event> events) {
    static final State NEW = new State(List.of(), List.of(), 0, 0, 0, 0, List.of());

    /// What cannot be after so many steps, in words that follow a file's name; null for nothing.
    @Nullable String wrong(int step) {
      for (var window : List.of(losses, gradientNorms)) {
        if (window.stream().anyMatch(value -> value == null || !Double.isFinite(value))) {
          return "has a loss or gradient norm that is not finite among those that the guard"
              + " accepted";
        }
      }
      boolean counts =
          skipsInARow >= 0
              && skips >= skipsInARow
              && skips <= step
              && rollbacks >= 0
              && batchesPassedOver >= 0
              && batchesPassedOver <= (long) rollbacks * Integer.MAX_VALUE
              && losses.size() == gradientNorms.size();
      if (!counts) {
        return "counts %d skips (%d in a row), %d rollbacks and %d batches passed over in %d steps, which cannot be"
            .formatted(skips, skipsInARow, rollbacks, batchesPassedOver, step);
      }
      return events.stream()
              .anyMatch(event -> event == null || event.action == null || event.cause == null)
          ? "has an event without action or cause"
          : null;
    }

    /// Something that the guard did.
    ///
    /// @param step at which
    /// @param action `skip`, `rollback` or `give up`
    /// @param cause in words
    /// @param loss of the step
    /// @param gradientNorm of the step
    /// @param toStep where the run went back to; null for other actions
    record Event(
        int step,
        String action,
        String cause,
        double loss,
        double gradientNorm,
        @Nullable Integer toStep) {}
  }

  /// What becomes of a step.
  enum Verdict {
    ACCEPT,
    SKIP,
    ROLL_BACK,
    GIVE_UP
  }

  private final Settings settings;
  private State state;

  SpikeGuard(Settings settings, State state) {
    this.settings = settings;
    this.state = state;
  }

  State state() {
    return state;
  }

  /// Judges a step and remembers it; the last event says why it was not accepted.
  Verdict judge(int step, double loss, double gradientNorm) {
    String cause = cause(loss, gradientNorm);
    if (cause == null) {
      state =
          new State(
              newest(state.losses, loss),
              newest(state.gradientNorms, gradientNorm),
              0,
              state.skips,
              state.rollbacks,
              state.batchesPassedOver,
              state.events);
      return Verdict.ACCEPT;
    }
    boolean again = state.skipsInARow < settings.maxSkips;
    boolean back = state.rollbacks < settings.maxRollbacks;
    Verdict verdict = again ? Verdict.SKIP : back ? Verdict.ROLL_BACK : Verdict.GIVE_UP;
    String action = again || back ? "skip" : "give up";
    state =
        new State(
            state.losses,
            state.gradientNorms,
            state.skipsInARow + 1,
            state.skips + 1,
            state.rollbacks,
            state.batchesPassedOver,
            with(state.events, new Event(step, action, cause, loss, gradientNorm, null)));
    return verdict;
  }

  /// The state of the checkpoint after `toStep` steps, taken up again instead of going on after
  /// `step`: the batches between are passed over.
  State rolledBack(int step, int toStep, State checkpoint) {
    var last = state.events.getLast();
    return new State(
        checkpoint.losses,
        checkpoint.gradientNorms,
        0,
        checkpoint.skips,
        state.rollbacks + 1,
        state.batchesPassedOver + step - toStep,
        with(
            state.events,
            new Event(step, "rollback", last.cause, last.loss, last.gradientNorm, toStep)));
  }

  private @Nullable String cause(double loss, double gradientNorm) {
    if (!Double.isFinite(loss)) {
      return "the loss is " + loss;
    }
    if (!Double.isFinite(gradientNorm)) {
      return "the gradient norm is " + gradientNorm;
    }
    String high = above("the loss", loss, state.losses);
    return high != null ? high : above("the gradient norm", gradientNorm, state.gradientNorms);
  }

  private @Nullable String above(String what, double value, List<Double> window) {
    if (settings.threshold == 0 || window.size() < FEWEST) {
      return null;
    }
    double median = Statistics.median(window.stream().mapToDouble(x -> x).toArray());
    double spread =
        Statistics.median(window.stream().mapToDouble(x -> Math.abs(x - median)).toArray());
    double deviation = Math.max(NORMAL * spread, SMALLEST_DEVIATION * Math.abs(median));
    return value > median + settings.threshold * deviation
        ? String.format(
            Locale.ROOT,
            "%s %.4g is %.1f deviations above the median %.4g",
            what,
            value,
            (value - median) / deviation,
            median)
        : null;
  }

  private List<Double> newest(List<Double> window, double value) {
    var longer = new ArrayList<>(window);
    longer.add(value);
    return List.copyOf(longer.subList(Math.max(0, longer.size() - settings.window), longer.size()));
  }

  private static List<Event> with(List<Event> events, Event event) {
    var longer = new ArrayList<>(events);
    longer.add(event);
    return List.copyOf(longer);
  }
}
