package dev.sluice.watch;

import dev.sluice.pages.RunReport;
import dev.sluice.report.HtmlReport;
import dev.sluice.report.Numbers;
import dev.sluice.training.RunConfig;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Map;

/// A run: its report as it would be now, and how it stands.
final class WatchedRun implements Watched {
  private final Path directory;
  private final FollowedRun run;
  private final Remembered<RunConfig> config;
  private final TimeLeft left = new TimeLeft();

  WatchedRun(Path directory) {
    this.directory = directory;
    this.run = new FollowedRun(directory);
    Path file = directory.resolve(RunConfig.FILE);
    this.config = new Remembered<>(file, () -> RunConfig.from(file, Map.of()));
  }

  @Override
  public HtmlReport page() throws IOException {
    Watched.requireThere(directory);
    var settings = config.get();
    run.update();
    long steps = settings.optimization().steps();
    long step = run.metrics().lastStep();
    double seconds = run.secondsOfAStep();
    var standing = Standing.of(directory, step, steps, seconds);
    var page =
        RunReport.page(run.record(settings))
            .state(standing.state(), standing.words() + ".")
            .progress((double) step / steps, progress(standing, step, steps, seconds));
    run.damages().forEach(page::summary);
    return page;
  }

  private String progress(Standing standing, long step, long steps, double seconds) {
    var words =
        new StringBuilder("Step %,d of %,d".formatted(step, steps))
            .append(" (%s)".formatted(Numbers.percent((double) step / steps, 0)));
    if (standing.trains()) {
      words.append(left.words(step, steps, seconds));
    }
    double rate = run.tokensPerSecond();
    if (Double.isFinite(rate)) {
      words.append(", %s tokens/s".formatted(Numbers.count(Math.round(rate))));
    }
    double loss = run.last("loss");
    if (Double.isFinite(loss)) {
      words.append(", loss ").append(Numbers.fixed(loss, 3));
    }
    return words.append('.').toString();
  }
}
