package dev.sluice.pages;

import dev.sluice.Printable;
import dev.sluice.decoder.MixerConfig;
import dev.sluice.report.Axis;
import dev.sluice.report.BarChart;
import dev.sluice.report.Cell;
import dev.sluice.report.HeatMaps;
import dev.sluice.report.Histograms;
import dev.sluice.report.HtmlReport;
import dev.sluice.report.Numbers;
import dev.sluice.report.Table;
import dev.sluice.sink.DeltaStatistics;
import dev.sluice.sink.DeltaStatistics.Head;
import dev.sluice.sink.FirstTokenAttention;
import dev.sluice.sink.GateStatistics;
import dev.sluice.sink.GateStatistics.LayerGate;
import dev.sluice.sink.MassiveActivation;
import dev.sluice.sink.MassiveActivation.Residual;
import dev.sluice.sink.TokenAttention;
import java.time.Instant;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;
import java.util.function.ToDoubleFunction;

/// What `sluice inspect` shows: tables for the terminal, and a page with the same tables and
/// figures.
public record InspectReport(InspectResult result) {
  private static final int NAMED_CHANNELS = 4;

  private static final String TOKENS_EXPLAINED =
      "A sink need not be the first token. For each token that stands often enough, the mean weight"
          + " that later queries give to it, beside what uniform attention would give: 1 is no"
          + " preference. The first position of a window is left out.";

  // ---------------------------------------------------------------- words

  /// The result in a few lines.
  public List<String> summary() {
    var loss = result.loss();
    var attention = attention();
    List<String> lines = new ArrayList<>();
    lines.add(
        "Loss on %s (%d windows of %s%d tokens): %s bits per byte, perplexity %s per token."
            .formatted(
                result.text().name(),
                result.sinks().windows(),
                result.sinks().shortestWindow() < result.sinks().longestWindow() ? "up to " : "",
                result.sinks().longestWindow(),
                Numbers.fixed(loss.bitsPerByte(), 4),
                Numbers.significant(loss.perplexity(), 4)));
    lines.add(
        "F-Attn: %s of the attention goes to the first token (uniform attention: %s); without the first %d queries %s (uniform: %s)."
            .formatted(
                Numbers.percent(attention.mean(), 2),
                Numbers.percent(attention.uniformFloor(), 2),
                attention.excludedQueries(),
                Numbers.percent(attention.meanExcluding(), 2),
                Numbers.percent(attention.uniformFloorExcluding(), 2)));
    lines.add(
        "Sink rate: %s of heads and windows give the first token more than %s."
            .formatted(
                Numbers.percent(attention.sinkRate(), 1),
                Numbers.percent(attention.threshold(), 0)));
    tokenWords().forEach(lines::add);
    long massive = massive().residuals().stream().filter(Residual::massive).count();
    lines.add(
        "M-Act: the largest |activation| after a block is %s on average; %s."
            .formatted(
                Numbers.significant(massive().meanBlockMaximum(), 4),
                massive == 0
                    ? "none is massive (above 100 and a thousand times the median)"
                    : massive
                        + " of "
                        + massive().residuals().size()
                        + " places hold a massive one"
                        + plateau()));
    long outliers =
        massive().residuals().stream()
            .flatMap(residual -> residual.outlierChannels().stream())
            .distinct()
            .count();
    lines.add(
        "Outlier channels: %s."
            .formatted(
                outliers == 0
                    ? "none is, over all tokens, %d times as large as the median channel"
                        .formatted(Math.round(MassiveActivation.OUTLIER_RATIO))
                    : "%d of %d are somewhere, over all tokens, at least %d times as large as the median channel"
                        .formatted(
                            outliers,
                            result.model().hiddenSize(),
                            Math.round(MassiveActivation.OUTLIER_RATIO))));
    for (String position : positions()) {
      var scores = layers(position).stream().map(LayerGate::scores).toList();
      lines.add(
          "Gate %s: mean score %s, %s of the scores below 0.1."
              .formatted(
                  position,
                  Numbers.fixed(scores.stream().mapToDouble(s -> s.mean()).average().orElse(0), 4),
                  Numbers.percent(
                      scores.stream().mapToDouble(s -> s.belowTenth()).average().orElse(0), 1)));
    }
    if (!deltaLayers().isEmpty()) {
      var heads = deltaLayers().stream().flatMap(layer -> layer.heads().stream()).toList();
      lines.add(
          "Gated DeltaNet in %d of %d layers: a token leaves %s of the state on average (the head that forgets most %s), β is %s."
              .formatted(
                  deltaLayers().size(),
                  result.sinks().layers(),
                  Numbers.percent(heads.stream().mapToDouble(Head::decay).average().orElse(0), 1),
                  Numbers.percent(heads.stream().mapToDouble(Head::decay).min().orElse(0), 1),
                  Numbers.fixed(heads.stream().mapToDouble(Head::rate).average().orElse(0), 3)));
    }
    return lines;
  }

  /// The start token and other sinks, where they were measured.
  private List<String> tokenWords() {
    var tokens = result.sinks().tokenAttention();
    if (tokens == null) {
      return List.of();
    }
    var lines = new ArrayList<String>();
    var start = tokens.startToken();
    lines.add(
        start == null
            ? "Start token: no query sees one before it."
            : "Start token, wherever it stands: %s of the attention of the queries that see one goes to it (uniform: %s)."
                .formatted(Numbers.percent(start.mean(), 2), Numbers.percent(start.uniform(), 2)));
    lines.add(
        tokens.sinks().isEmpty()
            ? "Sink tokens, first positions apart: none of the %d that stand at least %d times receives %s times its uniform share."
                .formatted(
                    tokens.judged(),
                    TokenAttention.LEAST_COUNT,
                    Numbers.significant(TokenAttention.SINK_RATIO, 2))
            : "Sink tokens, first positions apart: %s."
                .formatted(
                    String.join(
                        ", ",
                        tokens.sinks().stream()
                            .map(
                                token ->
                                    "%s (%s times its uniform share)"
                                        .formatted(
                                            shown(token), Numbers.significant(token.times(), 2)))
                            .toList())));
    return lines;
  }

  /// A token's text in quotes, or what it is where it has none.
  private String shown(TokenAttention.Token token) {
    var start = tokenAttention().startToken();
    if (start != null && start.id() == token.id()) {
      return "the start token";
    }
    String text = token.text().replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r");
    return token.text().isEmpty() || token.text().equals("\uFFFD")
        ? "token " + token.id()
        : "\"" + Printable.brief(text, 24) + "\"";
  }

  // ---------------------------------------------------------------- tables

  public List<Table> tables() {
    List<Table> tables = new ArrayList<>(List.of(attentionTable()));
    if (result.sinks().tokenAttention() != null) {
      tables.addAll(tokenTables());
    }
    tables.add(activationTable());
    if (!gates().isEmpty()) {
      tables.add(gateTable());
    }
    if (!deltaLayers().isEmpty()) {
      tables.add(deltaTable());
    }
    if (!result.interventions().isEmpty()) {
      tables.add(interventionTable());
    }
    return tables;
  }

  private Table interventionTable() {
    double asTrained = result.loss().bitsPerByte();
    var table =
        Table.titled(
                "Loss with gates forced to "
                    + Numbers.significant(result.interventions().getFirst().score(), 3))
            .columns("gates of layer", "bits per byte", "change")
            .row(Cell.of("none, as trained"), Cell.of(asTrained, 4), Cell.missing());
    for (var intervention : result.interventions()) {
      var layer = intervention.layer();
      table =
          table.row(
              Cell.of(layer == null ? "all" : String.valueOf(layer)),
              Cell.of(intervention.bitsPerByte(), 4),
              new Cell.Quantity(
                  intervention.bitsPerByte() - asTrained,
                  "%+.4f".formatted(intervention.bitsPerByte() - asTrained)));
    }
    return table.footnote(
        "Every gate's scores are replaced by the constant: 0 closes a multiplicative gate, 1 opens"
            + " it. A loss that hardly changes says that a constant would have done there.");
  }

  private Table attentionTable() {
    var attention = attention();
    int excluded = attention.excludedQueries();
    var table =
        Table.titled("First-token attention by layer")
            .columns(
                "layer",
                "all queries",
                "uniform",
                "without first " + excluded,
                "uniform",
                "sink rate",
                "highest head");
    for (var layer : attention.layers()) {
      double highest = layer.heads().stream().mapToDouble(Double::doubleValue).max().orElse(0);
      table =
          table.row(
              Cell.of(layer.layer()),
              Cell.of(layer.mean(), 4),
              Cell.of(attention.uniformFloor(), 4),
              Cell.of(layer.meanExcluding(), 4),
              Cell.of(attention.uniformFloorExcluding(), 4),
              Cell.percent(layer.sinkRate(), 1),
              Cell.of(highest, 4));
    }
    return table.footnote(
        "Mean over windows, heads and queries. Sink rate: share of windows and heads above "
            + attention.threshold()
            + ".");
  }

  /// The start token's, the sinks', and those that the heads of each layer prefer.
  private List<Table> tokenTables() {
    var tables = new ArrayList<Table>();
    var tokens = tokenAttention();
    var start = tokens.startToken();
    if (start != null) {
      tables.add(startTable(start));
    }
    if (!tokens.sinks().isEmpty()) {
      tables.add(sinkTable(tokens.sinks()));
    }
    if (tokens.judged() > 0) {
      tables.add(preferredTable(tokens.layers()));
    }
    return tables;
  }

  private static Table startTable(TokenAttention.StartToken start) {
    var table =
        Table.titled("Attention to the start token, wherever it stands, by layer")
            .columns("layer", "mean", "uniform", "highest head");
    for (var layer : start.layers()) {
      double highest = layer.heads().stream().mapToDouble(Double::doubleValue).max().orElse(0);
      table =
          table.row(
              Cell.of(layer.layer()),
              Cell.of(layer.mean(), 4),
              Cell.of(layer.uniform(), 4),
              Cell.of(highest, 4));
    }
    return table.footnote(
        "Token %d, with which documents begin and end. Mean over heads and the %d queries that see one before them."
            .formatted(start.id(), start.queries()));
  }

  private Table sinkTable(List<TokenAttention.Token> sinks) {
    var table =
        Table.titled("Sink tokens, first positions apart")
            .columns("token", "id", "count", "attention", "uniform", "times uniform");
    for (var token : sinks) {
      table =
          table.row(
              Cell.of(shown(token)),
              Cell.of(token.id()),
              Cell.of(Numbers.count(token.count())),
              Cell.of(token.attention(), 4),
              Cell.of(token.uniform(), 4),
              Cell.significant(token.times(), 3));
    }
    return table.footnote(
        "Attention: mean weight that a later query gives to an occurrence, over all heads. Tokens that stand at least %d times and receive at least %s times their uniform share."
            .formatted(
                TokenAttention.LEAST_COUNT, Numbers.significant(TokenAttention.SINK_RATIO, 2)));
  }

  /// Of each layer the head that prefers a token most.
  private Table preferredTable(List<TokenAttention.Layer> layers) {
    var table =
        Table.titled("Tokens that heads prefer, first positions apart")
            .columns("layer", "head", "tokens and times their uniform share");
    for (var layer : layers) {
      int strongest = 0;
      for (int head = 1; head < layer.heads().size(); head++) {
        strongest = times(layer, head) > times(layer, strongest) ? head : strongest;
      }
      table = table.row(preferredRow(layer, strongest));
    }
    return table.footnote("Of each layer the head with the strongest preference.");
  }

  private Table everyHeadTable(List<TokenAttention.Layer> layers) {
    var table =
        Table.titled("Tokens that each head prefers, first positions apart")
            .columns("layer", "head", "tokens and times their uniform share");
    for (var layer : layers) {
      for (int head = 0; head < layer.heads().size(); head++) {
        table = table.row(preferredRow(layer, head));
      }
    }
    return table;
  }

  private static double times(TokenAttention.Layer layer, int head) {
    var tokens = layer.heads().get(head);
    return tokens.isEmpty() ? 0 : tokens.getFirst().times();
  }

  private List<Cell> preferredRow(TokenAttention.Layer layer, int head) {
    var tokens =
        layer.heads().get(head).stream()
            .map(token -> shown(token) + " " + Numbers.significant(token.times(), 2))
            .toList();
    return List.of(Cell.of(layer.layer()), Cell.of(head), Cell.of(String.join(", ", tokens)));
  }

  private Table activationTable() {
    var table =
        Table.titled("Largest activations of the residual stream")
            .columns(
                "after",
                "max |x|",
                "ratio to median",
                "channel",
                "token",
                "massive",
                "outlier channels");
    for (var residual : massive().residuals()) {
      table =
          table.row(
              Cell.of(place(residual)),
              Cell.significant(residual.maximum(), 4),
              Cell.significant(residual.ratio(), 3),
              Cell.of(residual.channel()),
              Cell.of(residual.token()),
              Cell.of(residual.massive() ? "yes" : "no"),
              Cell.of(outlierChannels(residual)));
    }
    return table.footnote(
        "Outlier channels: those whose mean |x| over all tokens but the first is at least %d times that of the median channel; the largest %d are named."
            .formatted(Math.round(MassiveActivation.OUTLIER_RATIO), NAMED_CHANNELS));
  }

  private static String outlierChannels(Residual residual) {
    var channels = residual.outlierChannels();
    String named =
        String.join(" ", channels.stream().limit(NAMED_CHANNELS).map(String::valueOf).toList());
    return channels.isEmpty()
        ? "none"
        : channels.size() <= NAMED_CHANNELS
            ? named
            : named + " and " + (channels.size() - NAMED_CHANNELS) + " more";
  }

  /// Where massive activations stay as they are.
  private String plateau() {
    var plateau = massive().plateau();
    return plateau == null
        ? ""
        : ", nine tenths of the largest or more after blocks %d to %d"
            .formatted(plateau.firstBlock(), plateau.lastBlock());
  }

  private Table gateTable() {
    var table =
        Table.titled("Gate scores by layer")
            .columns(
                "layer", "gate", "mean", "below 0.1", "below 0.5", "first token", "other tokens");
    for (var gate : gates()) {
      var scores = gate.scores();
      table =
          table.row(
              Cell.of(gate.layer()),
              Cell.of(gate.position()),
              Cell.of(scores.mean(), 4),
              Cell.percent(scores.belowTenth(), 1),
              Cell.percent(scores.belowHalf(), 1),
              Cell.of(scores.firstTokenMean(), 4),
              Cell.of(scores.otherTokensMean(), 4));
    }
    return table;
  }

  private Table deltaTable() {
    var table =
        Table.titled("Gated DeltaNet by layer, mean over heads and their range")
            .columns(
                "layer",
                "decay",
                "lowest",
                "highest",
                "β",
                "lowest",
                "highest",
                "state norm",
                "lowest",
                "highest");
    for (var layer : deltaLayers()) {
      List<Cell> row = new ArrayList<>(List.of(Cell.of(layer.layer())));
      ranges(row, layer.heads(), Head::decay);
      ranges(row, layer.heads(), Head::rate);
      ranges(row, layer.heads(), Head::stateNorm);
      table = table.row(row);
    }
    return table.footnote(
        "Decay: what a token leaves of the state before it, e^g; 1 forgets nothing. β: how much of"
            + " a token's value is learned. State norm: Frobenius norm after a window's last"
            + " token.");
  }

  private static void ranges(List<Cell> row, List<Head> heads, ToDoubleFunction<Head> value) {
    var all = heads.stream().mapToDouble(value).summaryStatistics();
    row.add(Cell.significant(all.getAverage(), 4));
    row.add(Cell.significant(all.getMin(), 4));
    row.add(Cell.significant(all.getMax(), 4));
  }

  private HeatMaps deltaMap(String title, String caption, ToDoubleFunction<Head> value) {
    var heads = new TreeMap<Integer, List<Double>>();
    for (var layer : deltaLayers()) {
      heads.put(
          layer.layer(), layer.heads().stream().map(head -> value.applyAsDouble(head)).toList());
    }
    return LayerFigures.byHead(
        title, caption, result.sinks().layers(), Map.of("mean over tokens", heads));
  }

  private Table outputTable() {
    var table =
        Table.titled("Attention output |y| before and after the gate")
            .columns("layer", "mean before", "mean after", "below 0.01 before", "below 0.01 after");
    for (var output : result.sinks().gateStatistics().outputs()) {
      table =
          table.row(
              Cell.of(output.layer()),
              Cell.significant(output.before().mean(), 3),
              Cell.significant(output.after().mean(), 3),
              Cell.percent(output.before().belowHundredth(), 1),
              Cell.percent(output.after().belowHundredth(), 1));
    }
    return table;
  }

  // ---------------------------------------------------------------- page

  /// The page.
  public HtmlReport page(String commandLine) {
    var page =
        HtmlReport.titled("Inside " + result.name())
            .written(Instant.now())
            .command(commandLine)
            .manifest(result.manifestJson());
    summary().forEach(page::summary);
    result.warnings().forEach(warning -> page.summary("Warning: " + warning));
    page.section("Model and text").prose(LayerFigures.COUNTED).table(modelTable());
    page.section("Attention sinks")
        .figure(attentionBars())
        .table(attentionTable())
        .figure(headMap());
    if (result.sinks().tokenAttention() != null) {
      page.section("Start and sink tokens").prose(TOKENS_EXPLAINED);
      tokenTables().forEach(page::table);
      page.table(everyHeadTable(tokenAttention().layers()));
    }
    page.section("Massive activations").figure(activationBars()).table(activationTable());
    if (!gates().isEmpty()) {
      page.section("Gates").figure(gateHistograms()).table(gateTable()).table(outputTable());
    }
    if (!deltaLayers().isEmpty()) {
      page.section("Gated DeltaNet")
          .prose(
              "These layers have no attention and no sinks: a state of fixed size takes up each"
                  + " token. Layers with attention stay blank.")
          .table(deltaTable())
          .figure(
              deltaMap(
                  "Decay by head",
                  "What a token leaves of the state before it; 1 forgets nothing.",
                  Head::decay))
          .figure(deltaMap("β by head", "How much of a token's value is learned.", Head::rate))
          .figure(
              deltaMap(
                  "State norm by head",
                  "Frobenius norm after a window's last token, mean over windows.",
                  Head::stateNorm));
    }
    page.section("Attention maps").figure(attentionMaps());
    return page;
  }

  private Table modelTable() {
    var model = result.model();
    return Table.titled("What was measured")
        .columns("quantity", "value")
        .row(Cell.of("checkpoint"), Cell.of(result.checkpoint()))
        .row(Cell.of("parameters"), Cell.of(Numbers.count(model.parameterCount())))
        .row(Cell.of("gates"), Cell.of(result.gates()))
        .row(
            Cell.of("layers × query heads (key/value heads)"), Cell.of(String.join(", ", mixers())))
        .row(Cell.of("text"), Cell.of(result.text().name()))
        .row(
            Cell.of("predicted tokens (bytes)"),
            Cell.of(
                Numbers.count(result.loss().tokens())
                    + " ("
                    + Numbers.count(result.loss().bytes())
                    + ")"))
        .row(Cell.of("nats per token"), Cell.of(Numbers.fixed(result.loss().nats(), 4)))
        .row(Cell.of("bits per byte"), Cell.of(Numbers.fixed(result.loss().bitsPerByte(), 4)));
  }

  /// `4 × 4 (2)`, and so of each kind of layer that the model has, in order.
  private List<String> mixers() {
    var kinds = new LinkedHashMap<String, Integer>();
    for (var layer : result.model().layers()) {
      String kind =
          switch (layer.mixer()) {
            case MixerConfig.SoftmaxAttention(var attention) ->
                "%d (%d)".formatted(attention.attentionHeads(), attention.keyValueHeads());
            case MixerConfig.DeltaNet(var net) ->
                "%d value heads (%d of keys) of Gated DeltaNet"
                    .formatted(net.heads().valueHeads(), net.heads().keyHeads());
          };
      kinds.merge(kind, 1, Integer::sum);
    }
    return kinds.entrySet().stream().map(kind -> kind.getValue() + " × " + kind.getKey()).toList();
  }

  private BarChart attentionBars() {
    var attention = attention();
    String without = "without the first " + attention.excludedQueries() + " queries";
    return new BarChart(
        "First-token attention",
        "Share of each layer's attention that goes to the first token, mean over windows, heads and"
            + " queries. The dashed lines are what uniform attention would give: only what rises"
            + " above them is a sink.",
        "layer",
        attention.layers().stream().map(layer -> String.valueOf(layer.layer())).toList(),
        Axis.linear("share of attention"),
        List.of(
            BarChart.Arm.of("all queries", values(FirstTokenAttention.Layer::mean)),
            BarChart.Arm.of(without, values(FirstTokenAttention.Layer::meanExcluding))),
        List.of(
            new BarChart.Reference("uniform, all queries", attention.uniformFloor()),
            new BarChart.Reference("uniform, " + without, attention.uniformFloorExcluding())));
  }

  private double[] values(ToDoubleFunction<FirstTokenAttention.Layer> of) {
    return attention().layers().stream().mapToDouble(of).toArray();
  }

  private HeatMaps headMap() {
    var heads = new TreeMap<Integer, List<Double>>();
    attention().layers().forEach(layer -> heads.put(layer.layer(), layer.heads()));
    return LayerFigures.byHead(
        "First-token attention by head",
        "A sink is often the work of a few heads.",
        result.sinks().layers(),
        Map.of("all queries", heads));
  }

  private BarChart activationBars() {
    var residuals = massive().residuals();
    return new BarChart(
        "Largest activations",
        "Largest and median |x| of the residual stream after the embedding, each block and the"
            + " final norm. An activation above 100 that is a thousand times the median is called"
            + " massive.",
        "after",
        residuals.stream().map(InspectReport.this::place).toList(),
        Axis.logarithmic("|x|"),
        List.of(
            BarChart.Arm.of("largest", residuals.stream().mapToDouble(Residual::maximum).toArray()),
            BarChart.Arm.of("median", residuals.stream().mapToDouble(Residual::median).toArray())),
        List.of());
  }

  private String place(Residual residual) {
    int last = massive().residuals().size() - 1;
    if (residual.index() == 0) {
      return "embedding";
    }
    return residual.index() == last ? "final norm" : "block " + (residual.index() - 1);
  }

  private Histograms gateHistograms() {
    int layers = result.sinks().layers();
    long outside = gates().stream().mapToLong(gate -> gate.scores().outside()).sum();
    return LayerFigures.gateScores(
        "How the scores of each layer are distributed over %d bins; near 0 a gate is shut.%s"
            .formatted(
                GateStatistics.BINS,
                outside == 0
                    ? ""
                    : " %s scores lie outside of 0 … 1 and are counted in the outer bins."
                        .formatted(Numbers.count(outside))),
        layers,
        positions().stream()
            .map(
                position ->
                    new Histograms.Arm(position, LayerFigures.counts(layers, layers(position))))
            .toList());
  }

  private HeatMaps attentionMaps() {
    var map = result.sinks().attentionMap();
    int side = map.layers().getFirst().cells().size();
    int step = Math.max(1, Math.toIntExact(Math.round((double) map.tokens() / side)));
    return HeatMaps.attention(
        "Attention maps",
        "The first window, mean over heads. A cell is the mean over its queries and keys, %d × %d tokens: a sink shows as a bright first column, thinned by the keys that share it."
            .formatted(step, step),
        step,
        map.layers().stream()
            .map(
                layer ->
                    HeatMaps.Panel.of(LayerFigures.name(layer.layer()), LayerFigures.cells(layer)))
            .toList());
  }

  // ---------------------------------------------------------------- numbers

  private FirstTokenAttention.Result attention() {
    return result.sinks().firstTokenAttention();
  }

  private TokenAttention.Result tokenAttention() {
    return Objects.requireNonNull(result.sinks().tokenAttention());
  }

  private MassiveActivation.Result massive() {
    return result.sinks().massiveActivation();
  }

  private List<LayerGate> gates() {
    return result.sinks().gateStatistics().gates();
  }

  private List<DeltaStatistics.Layer> deltaLayers() {
    return result.sinks().deltaLayers();
  }

  private List<String> positions() {
    return gates().stream().map(LayerGate::position).distinct().toList();
  }

  private List<LayerGate> layers(String position) {
    return gates().stream().filter(gate -> gate.position().equals(position)).toList();
  }
}
