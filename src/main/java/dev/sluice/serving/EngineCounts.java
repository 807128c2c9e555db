package dev.sluice.serving;

import java.util.concurrent.atomic.DoubleAdder;
import java.util.concurrent.atomic.LongAdder;

/// What an [Engine] has done since it began, to be read at any time.
public final class EngineCounts {
  /// Of prompts, those that were read.
  public final LongAdder promptTokens = new LongAdder();

  /// Of prompts, those that the cache held.
  public final LongAdder cachedTokens = new LongAdder();

  /// Chosen as parts of texts.
  public final LongAdder generatedTokens = new LongAdder();

  /// Requests that were taken.
  public final LongAdder requests = new LongAdder();

  /// Those that were refused as too many waited.
  public final LongAdder refused = new LongAdder();

  /// Those that were cancelled before their end.
  public final LongAdder cancelled = new LongAdder();

  /// Those that failed.
  public final LongAdder failed = new LongAdder();

  /// Passes through the model, each with a token of some texts.
  public final LongAdder steps = new LongAdder();

  /// Time in which prompts were read.
  public final DoubleAdder promptSeconds = new DoubleAdder();

  /// Time in which texts were written.
  public final DoubleAdder generationSeconds = new DoubleAdder();

  /// From a request to its first token.
  public final Histogram firstTokenSeconds =
      new Histogram(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0);

  /// From a token of a text to the next.
  public final Histogram interTokenSeconds =
      new Histogram(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0);

  EngineCounts() {}
}
