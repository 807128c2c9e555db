package dev.sluice.pages;

import dev.sluice.decoder.DecoderConfig;
import dev.sluice.evaluation.HeldOutLoss;
import dev.sluice.files.WholeFile;
import dev.sluice.gate.Gate;
import dev.sluice.provenance.RunManifest;
import dev.sluice.sink.SinkReport;
import java.io.IOException;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.PropertyNamingStrategies;
import tools.jackson.databind.SerializationFeature;
import tools.jackson.databind.json.JsonMapper;

/// What `sluice inspect` found.
///
/// @param name of the run or checkpoint
/// @param checkpoint its directory
/// @param model the decoder's shape
/// @param text what it was measured on
/// @param loss on the same windows
/// @param sinks sinks, massive activations, gates and attention maps
/// @param interventions losses with gates forced to a constant; empty unless asked for
/// @param manifest where the numbers come from
public record InspectResult(
    String name,
    String checkpoint,
    DecoderConfig model,
    Text text,
    HeldOutLoss loss,
    SinkReport sinks,
    List<Intervention> interventions,
    RunManifest manifest) {
  /// What it was measured on.
  ///
  /// @param tokens how long the whole text is
  /// @param warnings what a reader must know of it
  public record Text(String name, long tokens, List<String> warnings) {}

  /// What became of the loss when gates were forced.
  ///
  /// @param layer whose gates; null for all layers'
  /// @param score the constant
  public record Intervention(@Nullable Integer layer, double score, double bitsPerByte) {}

  private static final JsonMapper JSON =
      JsonMapper.builder()
          .propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE)
          .enable(SerializationFeature.INDENT_OUTPUT)
          .build();

  /// The gates' names, such as `sdpa-headwise`, or `none`.
  String gates() {
    var gates =
        model.layers().stream()
            .flatMap(layer -> layer.attention().stream())
            .map(attention -> Gate.names(attention.gates()))
            .distinct()
            .toList();
    return gates.isEmpty() ? "none" : String.join(", ", gates);
  }

  /// What a reader must know before comparing these numbers.
  public List<String> warnings() {
    return Stream.concat(text.warnings().stream(), sinks.warnings().stream()).toList();
  }

  String manifestJson() {
    return JSON.writeValueAsString(manifest);
  }

  /// Writes everything as JSON.
  public void write(Path file) throws IOException {
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("name", name);
    json.put("checkpoint", checkpoint);
    json.put("parameters", model.parameterCount());
    json.put("gates", gates());
    json.put("text", text.name());
    json.put("text_tokens", text.tokens());
    Map<String, Object> losses = new LinkedHashMap<>();
    losses.put("nats", loss.nats());
    losses.put("perplexity", loss.perplexity());
    losses.put("bits_per_byte", loss.bitsPerByte());
    losses.put("tokens", loss.tokens());
    losses.put("bytes", loss.bytes());
    json.put("loss", losses);
    if (!interventions.isEmpty()) {
      json.put("interventions", interventions);
    }
    json.put("warnings", warnings());
    json.put("sinks", sinks.json());
    json.put("manifest", manifest);
    WholeFile.write(file, JSON.writeValueAsString(json) + "\n");
  }
}
