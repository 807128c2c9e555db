package dev.sluice.cli;

import dev.sluice.corpus.Corpus;
import dev.sluice.decoder.Decoder;
import dev.sluice.distributed.GradientExchange;
import dev.sluice.evaluation.HeldOutLoss;
import dev.sluice.report.Numbers;
import dev.sluice.report.Progress;
import dev.sluice.report.RemainingTime;
import dev.sluice.training.RunConfig;
import dev.sluice.training.Trainer;
import dev.sluice.training.TrainingRun;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;

/// Prints what a training run tells.
final class TrainingProgress implements TrainingRun.Listener {
  private final RunConfig config;
  private final RemainingTime remaining = new RemainingTime();
  private final long began = System.nanoTime();
  private final ShownSinks sinks = new ShownSinks();

  TrainingProgress(RunConfig config) {
    this.config = config;
  }

  @Override
  public void prepared(Corpus corpus, Decoder decoder, int firstStep) {
    Console.note(
        "%s parameters, gate %s; %s training tokens, %s held out; %s, %s."
            .formatted(
                Numbers.count(decoder.config().parameterCount()),
                config.gateNames(),
                Numbers.count(corpus.train().length()),
                Numbers.count(corpus.heldOut().length()),
                config.computing().precision(),
                decoder.device()));
    if (firstStep > 0) {
      Console.note("Going on after step " + firstStep + ".");
    }
  }

  @Override
  public void shared(GradientExchange exchange) {
    int size = exchange.replicas().size();
    if (size > 1) {
      Console.note(
          "%d ranks, zero %d: this one holds %s MB of moments and, after a backward pass, %s MB of gradients."
              .formatted(
                  size,
                  config.batch().zero(),
                  Numbers.fixed(2 * exchange.ownedBytes() / 1e6, 1),
                  Numbers.fixed(exchange.keptGradientBytes() / 1e6, 1)));
    }
  }

  @Override
  public void stepped(Trainer.Step step, double tokensPerSecond) {
    var elapsed = Duration.ofNanos(System.nanoTime() - began);
    remaining.observe(step.number(), elapsed);
    Console.progress(
        new Progress(
            "step",
            step.number(),
            config.optimization().steps(),
            elapsed,
            remaining.remaining(config.optimization().steps()).orElse(null),
            sinks.beside(
                List.of(
                    "loss " + Numbers.fixed(step.loss(), 3),
                    Numbers.count(Math.round(tokensPerSecond)) + " tokens/s"))));
  }

  @Override
  public void evaluated(int step, HeldOutLoss heldOut, Map<String, Double> measured) {
    sinks.measured(measured);
    Console.note(
        "step %d: held-out %s bits per byte"
            .formatted(step, Numbers.fixed(heldOut.bitsPerByte(), 4)));
  }

  @Override
  public void sampled(int step, String text) {
    Console.note("sample at step " + step + ":");
    Console.note(text.indent(4).stripTrailing());
  }

  @Override
  public void saved(int step, Path checkpoint, double pauseSeconds) {
    Console.note(
        "step %d: saved %s; training waited %s s"
            .formatted(step, checkpoint.getFileName(), Numbers.fixed(pauseSeconds, 2)));
  }

  @Override
  public void notSaved(int step, IOException why) {
    Console.error(why.getMessage() + "; training goes on and saves again later");
  }

  @Override
  public void guarded(int step, String what) {
    Console.note("step %d: %s".formatted(step, what));
  }

  @Override
  public void noted(String what) {
    Console.note(what);
  }

  @Override
  public void changed(String setting, String before, String now) {
    Console.note("%s is %s now; it was %s.".formatted(setting, now, before));
  }
}
