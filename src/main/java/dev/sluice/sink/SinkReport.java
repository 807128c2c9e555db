package dev.sluice.sink;

import dev.sluice.InvalidInputException;
import dev.sluice.corpus.HeldOutReader;
import dev.sluice.corpus.TokenShard;
import dev.sluice.corpus.WindowRule;
import dev.sluice.decoder.Decoder;
import dev.sluice.files.JsonFile;
import dev.sluice.files.WholeFile;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import dev.sluice.tokenizer.Tokenizer;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.OptionalInt;
import java.util.function.IntConsumer;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.DeserializationFeature;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.PropertyNamingStrategies;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.NullNode;
import tools.jackson.databind.node.ObjectNode;

/// Sinks, massive activations and gates of one model on one text, measured together.
///
/// @param windows how many windows were measured
/// @param shortestWindow tokens of the shortest
/// @param longestWindow tokens of the longest
/// @param warnings what a reader must know before comparing these numbers; empty if nothing
/// @param deltaStatistics of Gated DeltaNet layers; null for a model of attention alone
/// @param tokenAttention which tokens attention goes to; null where no tokenizer was given, and in
///   files of earlier versions
public record SinkReport(
    int windows,
    int shortestWindow,
    int longestWindow,
    List<String> warnings,
    FirstTokenAttention.Result firstTokenAttention,
    MassiveActivation.Result massiveActivation,
    GateStatistics.Result gateStatistics,
    AttentionMap.Result attentionMap,
    DeltaStatistics.@Nullable Result deltaStatistics,
    TokenAttention.@Nullable Result tokenAttention) {
  /// Tokens that a window should have at least: below, first-token attention is mostly mask bias.
  public static final int RECOMMENDED_TOKENS = 512;

  private static final JsonMapper JSON =
      JsonFile.mapper()
          .propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE)
          .enable(DeserializationFeature.FAIL_ON_MISSING_CREATOR_PROPERTIES)
          .build();

  private static final String WAY_OUT = "name a sink report, or measure the model again";

  public SinkReport {
    warnings = List.copyOf(Objects.requireNonNull(warnings, "warnings"));
    Objects.requireNonNull(firstTokenAttention, "first_token_attention");
    Objects.requireNonNull(massiveActivation, "massive_activation");
    Objects.requireNonNull(gateStatistics, "gate_statistics");
    Objects.requireNonNull(attentionMap, "attention_map");
    int layers = massiveActivation.residuals().size() - 2;
    Map<Integer, Integer> heads = new LinkedHashMap<>();
    for (var layer : firstTokenAttention.layers()) {
      require(
          layer.layer() >= 0 && layer.layer() < layers,
          "first_token_attention has a layer %d of %d".formatted(layer.layer(), layers));
      require(
          !layer.heads().isEmpty() && layer.headsExcluding().size() == layer.heads().size(),
          "first_token_attention has a layer with different numbers of heads");
      require(
          heads.put(layer.layer(), layer.heads().size()) == null,
          "first_token_attention has layer %d twice".formatted(layer.layer()));
    }
    require(!heads.isEmpty(), "first_token_attention has no layers");
    for (var gate : gateStatistics.gates()) {
      require(
          heads.containsKey(gate.layer())
              && gate.scores().histogram().size() == GateStatistics.BINS
              && (gate.heads().size() <= 1 // one score for all heads
                  || Objects.equals(gate.heads().size(), heads.get(gate.layer()))),
          "gate_statistics has a gate that no layer has");
    }
    for (var layer : deltaLayers(deltaStatistics)) {
      require(
          layer.layer() >= 0 && layer.layer() < layers && !heads.containsKey(layer.layer()),
          "delta_statistics has a layer that is none of Gated DeltaNet");
    }
    require(
        attentionMap.layers().stream()
            .map(AttentionMap.Layer::layer)
            .toList()
            .equals(List.copyOf(heads.keySet())),
        "attention_map has other layers than first_token_attention");
    if (tokenAttention != null) {
      for (var layer : tokenAttention.layers()) {
        require(
            Objects.equals(layer.heads().size(), heads.get(layer.layer())),
            "token_attention has a layer that first_token_attention has not");
      }
    }
    for (var layer : attentionMap.layers()) {
      int side = layer.cells().size();
      require(
          side > 0
              && side <= attentionMap.tokens()
              && layer.cells().stream().allMatch(row -> row.size() == side),
          "attention_map has cells that make no square");
    }
  }

  private static List<DeltaStatistics.Layer> deltaLayers(
      DeltaStatistics.@Nullable Result statistics) {
    return statistics == null ? List.of() : statistics.layers();
  }

  /// The Gated DeltaNet layers.
  public List<DeltaStatistics.Layer> deltaLayers() {
    return deltaLayers(deltaStatistics);
  }

  /// How many layers the model has. Those with softmax attention are in the parts about attention.
  public int layers() {
    return massiveActivation.residuals().size() - 2;
  }

  private static void require(boolean holds, String problem) {
    if (!holds) {
      throw new InvalidInputException(problem + "; measure the model again");
    }
  }

  /// Held-out windows to measure on: of [#RECOMMENDED_TOKENS], or of a training sequence where that
  /// is shorter, since models do badly at positions that they were not trained with; of one token
  /// more than a training sequence where the text is too short for two others.
  ///
  /// @param tokens of all windows together; one window there is at least
  public static List<long[]> windows(
      TokenShard heldOut, int sequenceLength, Tokenizer tokenizer, WindowRule rule, int tokens) {
    int length = Math.min(RECOMMENDED_TOKENS, sequenceLength);
    boolean enough = rule == WindowRule.DOCUMENTS || heldOut.length() > 2L * length;
    return new HeldOutReader(heldOut, enough ? length - 1 : sequenceLength, tokenizer, rule)
        .sample(Math.max(1, tokens / length))
        .windows();
  }

  /// Runs every window through the model once, one at a time, and measures on the way.
  ///
  /// @param windows token ids; all of a window's tokens go in, and 512 or more of them are
  ///   recommended
  public static SinkReport measure(Decoder decoder, List<long[]> windows) {
    return measure(decoder, windows, Probe.NONE);
  }

  /// The same of a model that is looked at through a probe, which may change what gates do.
  public static SinkReport measure(Decoder decoder, List<long[]> windows, Probe view) {
    return measure(decoder, windows, null, view, _ -> {});
  }

  /// The windows of a model that was trained with an intra-document mask: what it sees at a time is
  /// one document, so that each document of a window becomes a window by itself. Those too short to
  /// measure on are left out.
  ///
  /// @param separator of documents, empty where the model sees whole windows, which then stay
  public static List<long[]> byDocument(List<long[]> windows, OptionalInt separator) {
    if (separator.isEmpty()) {
      return windows;
    }
    var documents = new ArrayList<long[]>();
    for (long[] window : windows) {
      int begin = 0;
      for (int end = 1; end <= window.length; end++) {
        if (end == window.length || window[end] == separator.getAsInt()) {
          if (end - begin > FirstTokenAttention.EXCLUDED_QUERIES) {
            documents.add(Arrays.copyOfRange(window, begin, end));
          }
          begin = end;
        }
      }
    }
    if (documents.isEmpty()) {
      throw new InvalidInputException(
          "the windows hold no document of more than %d tokens to measure sinks on; give a text of longer ones"
              .formatted(FirstTokenAttention.EXCLUDED_QUERIES));
    }
    return documents;
  }

  /// The same, with [#tokenAttention], telling after each window how many are done.
  ///
  /// @param tokenizer of the windows; null leaves [#tokenAttention] out
  public static SinkReport measure(
      Decoder decoder, List<long[]> windows, @Nullable Tokenizer tokenizer, IntConsumer progress) {
    return measure(decoder, windows, tokenizer, Probe.NONE, progress);
  }

  private static SinkReport measure(
      Decoder decoder,
      List<long[]> windows,
      @Nullable Tokenizer tokenizer,
      Probe view,
      IntConsumer progress) {
    if (windows.isEmpty()) {
      throw new InvalidInputException(
          "there are no windows to measure sinks on; give a longer text or shorter windows");
    }
    if (decoder.config().layers().stream().allMatch(layer -> layer.attention().isEmpty())) {
      throw new InvalidInputException(
          "no layer of the model has softmax attention, so it has no sinks to measure; choose a"
              + " model with some");
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
    var delta = new DeltaStatistics();
    var tokens =
        tokenizer == null ? null : new TokenAttention(decoder.config(), tokenizer, windows);
    var probes = new ArrayList<Probe>(List.of(first, massive, gates, map, delta));
    if (tokens != null) {
      probes.add(tokens);
    }
    var all = new Together(probes, view);
    int done = 0;
    for (long[] window : windows) {
      if (tokens != null) {
        tokens.begin(window);
      }
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
        map.result(),
        delta.result().layers().isEmpty() ? null : delta.result(),
        tokens == null ? null : tokens.result());
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
  ///
  /// @param view what changes the gates of the pass
  private record Together(List<Probe> probes, Probe view) implements Probe {
    @Override
    public double neutralShare() {
      return view.neutralShare();
    }

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
    public boolean wantsRecurrence(int layer) {
      return probes.stream().anyMatch(probe -> probe.wantsRecurrence(layer));
    }

    @Override
    public void recurrence(int layer, Tensor decaysBTN, Tensor ratesBTN, Tensor stateBNKV) {
      for (Probe probe : probes) {
        if (probe.wantsRecurrence(layer)) {
          measure(() -> probe.recurrence(layer, decaysBTN, ratesBTN, stateBNKV));
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

  /// The report as JSON; a model of attention alone has no `delta_statistics`, and one that was
  /// measured without a tokenizer no `token_attention`.
  public ObjectNode json() {
    ObjectNode json = JSON.valueToTree(this);
    if (deltaStatistics == null) {
      json.remove("delta_statistics");
    }
    if (tokenAttention == null) {
      json.remove("token_attention");
    }
    return json;
  }

  /// Writes the report as JSON.
  public void write(Path file) throws IOException {
    WholeFile.write(file, JSON.writeValueAsString(json()) + "\n");
  }

  /// Reads what [#write] wrote, in this version or an earlier one. Fields that a later version
  /// added are passed over.
  public static SinkReport read(Path file) {
    return of(file, JsonFile.object(file, JsonFile.LARGE, WAY_OUT));
  }

  /// The report that a file holds among other things.
  ///
  /// @param read what was read from the file; missing parts are added to it
  public static SinkReport of(Path file, ObjectNode read) {
    if (read.get("massive_activation") instanceof ObjectNode massive) {
      massive.putIfAbsent("plateau", NullNode.getInstance());
      for (JsonNode residual : massive.path("residuals")) {
        if (residual instanceof ObjectNode one) {
          one.putIfAbsent("outlier_channels", NullNode.getInstance());
        }
      }
    }
    read.putIfAbsent("delta_statistics", NullNode.getInstance());
    read.putIfAbsent("token_attention", NullNode.getInstance());
    return JsonFile.bound(file, read, JSON, SinkReport.class, WAY_OUT);
  }
}
