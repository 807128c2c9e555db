package dev.sluice.sink;

import dev.sluice.InvalidInputException;
import dev.sluice.corpus.HeldOutReader;
import dev.sluice.corpus.TokenShard;
import dev.sluice.decoder.Decoder;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import dev.sluice.tokenizer.Tokenizer;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.function.IntConsumer;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.PropertyNamingStrategies;
import tools.jackson.databind.json.JsonMapper;

/// Sinks, massive activations and gates of one model on one text, measured together.
///
/// @param windows how many windows were measured
/// @param shortestWindow tokens of the shortest
/// @param longestWindow tokens of the longest
/// @param warnings what a reader must know before comparing these numbers; empty if nothing
public record SinkReport(
    int windows,
    int shortestWindow,
    int longestWindow,
    List<String> warnings,
    FirstTokenAttention.Result firstTokenAttention,
    MassiveActivation.Result massiveActivation,
    GateStatistics.Result gateStatistics,
    AttentionMap.Result attentionMap) {
  /// Tokens that a window should have at least: below, first-token attention is mostly mask bias.
  public static final int RECOMMENDED_TOKENS = 512;

  private static final JsonMapper JSON =
      JsonMapper.builder().propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE).build();

  public SinkReport {
    warnings = List.copyOf(Objects.requireNonNull(warnings, "warnings"));
    Objects.requireNonNull(firstTokenAttention, "first_token_attention");
    Objects.requireNonNull(massiveActivation, "massive_activation");
    Objects.requireNonNull(gateStatistics, "gate_statistics");
    Objects.requireNonNull(attentionMap, "attention_map");
  }

  /// Held-out windows to measure on: of [#RECOMMENDED_TOKENS] where the text is long enough for two
  /// of them, else of one token more than a training sequence.
  ///
  /// @param most how many windows at most
  public static List<long[]> windows(
      TokenShard heldOut, int sequenceLength, Tokenizer tokenizer, int most) {
    boolean enough = heldOut.length() > 2L * RECOMMENDED_TOKENS;
    int length = enough ? RECOMMENDED_TOKENS - 1 : sequenceLength;
    return new HeldOutReader(heldOut, length, tokenizer).sample(most).windows();
  }

  /// Runs every window through the model once, one at a time, and measures on the way.
  ///
  /// @param windows token ids; all of a window's tokens go in, and 512 or more of them are
  ///   recommended
  public static SinkReport measure(Decoder decoder, List<long[]> windows) {
    return measure(decoder, windows, _ -> {});
  }

  /// The same, telling after each window how many are done.
  public static SinkReport measure(Decoder decoder, List<long[]> windows, IntConsumer progress) {
    if (windows.isEmpty()) {
      throw new InvalidInputException(
          "there are no windows to measure sinks on; give a longer text or shorter windows");
    }
    var lengths = windows.stream().mapToInt(window -> window.length).summaryStatistics();
    if (lengths.getMin() <= FirstTokenAttention.EXCLUDED_QUERIES) {
      throw new InvalidInputException(
          "a window of "
              + lengths.getMin()
              + " tokens is too short to measure sinks on; use at least "
              + RECOMMENDED_TOKENS);
    }
    windows.forEach(decoder.config()::requireInVocabulary);
    var first = new FirstTokenAttention();
    var massive = new MassiveActivation();
    var gates = new GateStatistics();
    var map = new AttentionMap();
    var all = new Together(List.of(first, massive, gates, map));
    int done = 0;
    for (long[] window : windows) {
      try (var _ = Scope.withoutGradient()) {
        var ids = Tensor.of(window, 1, window.length).to(decoder.device());
        var _ = decoder.hiddenStates(ids, null, all);
      }
      progress.accept(++done);
    }
    return new SinkReport(
        windows.size(),
        lengths.getMin(),
        lengths.getMax(),
        warnings(lengths.getMin()),
        first.result(),
        massive.result(),
        gates.result(),
        map.result());
  }

  /// The report in a few numbers, as they are recorded during training: `first_token_attention`
  /// without the first queries, `sink_rate`, `mean_block_maximum` (M-Act), `largest_activation`
  /// after any block, and with gates `mean_gate_score`.
  public Map<String, Double> scalars() {
    var scalars = new LinkedHashMap<String, Double>();
    scalars.put("first_token_attention", firstTokenAttention.meanExcluding());
    scalars.put("sink_rate", firstTokenAttention.sinkRate());
    scalars.put("mean_block_maximum", massiveActivation.meanBlockMaximum());
    scalars.put("largest_activation", massiveActivation.largest());
    gateStatistics.gates().stream()
        .mapToDouble(gate -> gate.scores().mean())
        .average()
        .ifPresent(mean -> scalars.put("mean_gate_score", mean));
    return scalars;
  }

  private static List<String> warnings(int tokens) {
    if (tokens >= RECOMMENDED_TOKENS) {
      return List.of();
    }
    int excluded = FirstTokenAttention.EXCLUDED_QUERIES;
    return List.of(
        String.format(
            Locale.ROOT,
            "The shortest window has %d tokens, fewer than %d, so first-token attention is partly"
                + " mask bias: on such a window the floor of uniform attention is %.4f, and %.4f"
                + " without the first %d queries.",
            tokens,
            RECOMMENDED_TOKENS,
            FirstTokenAttention.uniformFloor(tokens, 0),
            FirstTokenAttention.uniformFloor(tokens, excluded),
            excluded));
  }

  /// Several probes in one pass.
  private record Together(List<Probe> probes) implements Probe {
    @Override
    public boolean wantsAttention(int layer) {
      return probes.stream().anyMatch(probe -> probe.wantsAttention(layer));
    }

    @Override
    public void attention(int layer, int firstQuery, Tensor weightsBNRS) {
      for (Probe probe : probes) {
        if (probe.wantsAttention(layer)) {
          measure(() -> probe.attention(layer, firstQuery, weightsBNRS));
        }
      }
    }

    @Override
    public boolean wantsGates(int layer) {
      return probes.stream().anyMatch(probe -> probe.wantsGates(layer));
    }

    @Override
    public void gate(int layer, String position, Tensor scores) {
      for (Probe probe : probes) {
        if (probe.wantsGates(layer)) {
          measure(() -> probe.gate(layer, position, scores));
        }
      }
    }

    @Override
    public void sdpaOutput(int layer, Tensor beforeBTNH, Tensor afterBTNH) {
      for (Probe probe : probes) {
        if (probe.wantsGates(layer)) {
          measure(() -> probe.sdpaOutput(layer, beforeBTNH, afterBTNH));
        }
      }
    }

    @Override
    public void residual(int index, Tensor xBTD) {
      for (Probe probe : probes) {
        measure(() -> probe.residual(index, xBTD));
      }
    }

    /// What measuring allocates is freed at once.
    private static void measure(Runnable measurement) {
      try (var _ = Scope.withoutGradient()) {
        measurement.run();
      }
    }
  }

  /// Writes the report as JSON.
  public void write(Path file) throws IOException {
    Files.writeString(file, JSON.writeValueAsString(this) + "\n");
  }

  /// Reads what [#write] wrote. Fields that a later version added are passed over.
  public static SinkReport read(Path file) {
    try {
      return JSON.readValue(Files.readString(file), SinkReport.class);
    } catch (IOException e) {
      throw new InvalidInputException(
          file + " cannot be read (" + e + "); name a sink report's JSON file", e);
    } catch (JacksonException e) {
      throw new InvalidInputException(
          file + " is not a sink report (" + e.getOriginalMessage() + "); measure the model again",
          e);
    }
  }
}
