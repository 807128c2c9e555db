package dev.sluice.report;

import dev.sluice.Printable;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// How far a run has come, as one line:
///
///     step 120/600  20 %  loss 2.134  18,204 tokens/s  1m32s left
///
/// `fields` are whatever the run has to say, already formatted. `remaining` is null while nobody
/// knows, see [RemainingTime]. The caller decides when to print, and on a terminal returns the
/// carriage itself.
public record Progress(
    String unit,
    long done,
    long total,
    Duration elapsed,
    @Nullable Duration remaining,
    List<String> fields) {
  private static final String GAP = "  ";

  public Progress {
    if (done < 0 || total < 0) {
      throw new IllegalArgumentException("no progress: %d of %d".formatted(done, total));
    }
    fields = List.copyOf(fields);
  }

  /// The part done, in [0, 1]; a run of nothing is done.
  public double fraction() {
    return total == 0 ? 1 : Math.min(1, (double) done / total);
  }

  /// The line for a log: with the elapsed time, because lines stay and are compared.
  public String logLine() {
    List<String> parts = parts();
    parts.add(Numbers.duration(elapsed) + " elapsed");
    addRemaining(parts);
    return String.join(GAP, parts);
  }

  /// The line for a terminal, exactly `columns - 1` wide so that it covers what the previous line
  /// left and does not wrap. Fields at the end that do not fit are left out, the time left is kept.
  public String terminalLine(int columns) {
    int width = Math.max(1, columns - 1);
    List<String> parts = parts();
    addRemaining(parts);
    int fixed = remaining == null ? 2 : 3;
    while (parts.size() > fixed && TextWidth.of(String.join(GAP, parts)) > width) {
      parts.remove(remaining == null ? parts.size() - 1 : parts.size() - 2);
    }
    String line = String.join(GAP, parts);
    int shown = TextWidth.of(line);
    return shown > width
        ? line.substring(0, TextWidth.end(line, width))
        : line + " ".repeat(width - shown);
  }

  /// The line alone.
  @Override
  public String toString() {
    List<String> parts = parts();
    addRemaining(parts);
    return String.join(GAP, parts);
  }

  private List<String> parts() {
    List<String> parts = new ArrayList<>();
    parts.add(unit + " " + Numbers.count(done) + "/" + Numbers.count(total));
    // Rounded down: 100 % is for a run that is done.
    parts.add((int) Math.floor(100 * fraction()) + " %");
    fields.forEach(field -> parts.add(Printable.line(field)));
    return parts;
  }

  private void addRemaining(List<String> parts) {
    if (remaining != null) {
      parts.add(Numbers.duration(remaining) + " left");
    }
  }
}
