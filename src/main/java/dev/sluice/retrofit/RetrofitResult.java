package dev.sluice.retrofit;

import dev.sluice.files.WholeFile;
import dev.sluice.gate.Gate;
import dev.sluice.provenance.RunManifest;
import dev.sluice.sink.GateStatistics.LayerGate;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.PropertyNamingStrategies;
import tools.jackson.databind.SerializationFeature;
import tools.jackson.databind.json.JsonMapper;

/// What a retrofit did.
///
/// @param gates that were added, by the names under which they were trained; empty where the model
///   had its own
/// @param differenceAtStart the largest difference of a logit before the first step
/// @param steps of the training
/// @param before the model that it began as
/// @param after the trained one
/// @param control the same training without gates; null where there was none
/// @param written where the trained model stands for others
/// @param writtenDifference the largest difference of a logit between that and the trained one
/// @param manifest of the training
public record RetrofitResult(
    List<Gate> gates,
    double differenceAtStart,
    int steps,
    Measured before,
    Measured after,
    @Nullable Measured control,
    Path written,
    double writtenDifference,
    RunManifest manifest) {
  /// Below this root mean square distance from where they began, scores are said to have stayed.
  public static final double STAYED = 0.05;

  private static final JsonMapper JSON =
      JsonMapper.builder()
          .propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE)
          .enable(SerializationFeature.INDENT_OUTPUT)
          .build();

  public RetrofitResult {
    gates = List.copyOf(gates);
  }

  /// The models in the order in which tables have them.
  public List<Measured> models() {
    return Stream.of(before, after, control).flatMap(Stream::ofNullable).toList();
  }

  /// How far the scores of a layer's gate are from the score that does nothing, in the root mean
  /// square over tokens and scores.
  public double moved(LayerGate gate) {
    double neutral =
        gates.stream()
            .filter(each -> each.position().word().equals(gate.position()))
            .findFirst()
            .map(each -> each.combination().neutralScore())
            .orElse(1.0);
    var scores = gate.scores();
    return Math.hypot(scores.standardDeviation(), scores.mean() - neutral);
  }

  /// The same over all gates; NaN where none was added, or one did not begin as nothing.
  public double moved() {
    if (gates.isEmpty() || !gates.stream().allMatch(Gate::beginsAsIdentity)) {
      return Double.NaN;
    }
    return Math.sqrt(
        after.sinks().gateStatistics().gates().stream()
            .mapToDouble(gate -> moved(gate) * moved(gate))
            .average()
            .orElse(Double.NaN));
  }

  /// What a reader has to know first, in sentences.
  public List<String> sentences() {
    List<String> sentences = new ArrayList<>();
    if (!gates.isEmpty()) {
      sentences.add(
          String.format(
              Locale.ROOT,
              "Before the first step the largest difference of a logit from the model that it"
                  + " began as was %s.",
              differenceAtStart == 0 ? "exactly 0" : String.valueOf(differenceAtStart)));
    }
    double moved = moved();
    if (!Double.isNaN(moved)) {
      sentences.add(
          moved < STAYED
              ? String.format(
                  Locale.ROOT,
                  "The gates stayed at their start: their scores are %.4f from the one that does"
                      + " nothing, in the root mean square. Any other change is that of further"
                      + " training; first_token_penalty, activation_penalty, a larger"
                      + " new_learning_rate or more steps push harder.",
                  moved)
              : String.format(
                  Locale.ROOT,
                  "The gates moved: their scores are %.3f from the one that does nothing, in the"
                      + " root mean square.",
                  moved));
    }
    sentences.add(
        String.format(
            Locale.ROOT,
            "Held-out loss %.4f → %.4f nats per token (%+.4f), %.4f nats from the answers of the"
                + " model that it began as.",
            before.loss().nats(),
            after.loss().nats(),
            after.loss().nats() - before.loss().nats(),
            after.parentKl()));
    sentences.add(
        String.format(
            Locale.ROOT,
            "First-token attention %.4f → %.4f (uniform attention: %.4f), sink rate %.1f %% →"
                + " %.1f %%, largest activation %.3g → %.3g.",
            before.sinks().firstTokenAttention().meanExcluding(),
            after.sinks().firstTokenAttention().meanExcluding(),
            after.sinks().firstTokenAttention().uniformFloorExcluding(),
            100 * before.sinks().firstTokenAttention().sinkRate(),
            100 * after.sinks().firstTokenAttention().sinkRate(),
            before.sinks().massiveActivation().largest(),
            after.sinks().massiveActivation().largest()));
    sentences.add(
        String.format(
            Locale.ROOT,
            "Weights in int4 cost %.4f nats before and %.4f after; activations in int8 with a"
                + " scale per window %.4f and %.4f.",
            before.damage(Rounding.WEIGHTS_INT4),
            after.damage(Rounding.WEIGHTS_INT4),
            before.damage(Rounding.ACTIVATIONS_INT8_BY_WINDOW),
            after.damage(Rounding.ACTIVATIONS_INT8_BY_WINDOW)));
    var without = control;
    sentences.add(
        without == null
            ? "What further training alone does is not told apart from what the gates do: the"
                + " control arm (--control) trains the same without them."
            : String.format(
                Locale.ROOT,
                "Against the same training without gates: loss %+.4f nats, first-token attention"
                    + " %+.4f, largest activation %.3g against %.3g. This is one seed; a study"
                    + " with start gives intervals.",
                after.loss().nats() - without.loss().nats(),
                after.sinks().firstTokenAttention().meanExcluding()
                    - without.sinks().firstTokenAttention().meanExcluding(),
                after.sinks().massiveActivation().largest(),
                without.sinks().massiveActivation().largest()));
    sentences.addAll(after.sinks().warnings());
    return sentences;
  }

  /// Writes all numbers and the manifest as JSON.
  public void write(Path file) throws IOException {
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("gates", Gate.names(gates));
    json.put("difference_at_start", differenceAtStart);
    json.put("steps", steps);
    double moved = moved();
    if (!Double.isNaN(moved)) {
      json.put("gates_moved", moved);
      json.put("gates_stayed", moved < STAYED);
    }
    Map<String, Object> models = new LinkedHashMap<>();
    models().forEach(model -> models.put(model.name(), of(model)));
    json.put("models", models);
    json.put("written", written.toString());
    json.put("written_difference", writtenDifference);
    json.put("sentences", sentences());
    json.put("manifest", manifest);
    WholeFile.write(file, JSON.writeValueAsString(json) + "\n");
  }

  private static Map<String, Object> of(Measured model) {
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("checkpoint", model.checkpoint().toString());
    json.put("loss", model.loss().nats());
    json.put("bits_per_byte", model.loss().bitsPerByte());
    json.put("tokens", model.loss().tokens());
    json.put("bytes", model.loss().bytes());
    if (model.parentKl() != null) {
      json.put("parent_kl", model.parentKl());
    }
    Map<String, Object> rounded = new LinkedHashMap<>();
    model
        .rounded()
        .forEach(
            (rounding, loss) ->
                rounded.put(
                    rounding.name().toLowerCase(Locale.ROOT),
                    Map.of("loss", loss, "damage", model.damage(rounding))));
    json.put("rounded", rounded);
    json.put("sinks", model.sinks().json());
    return json;
  }

  /// The manifest as JSON, for a page.
  public String manifestJson() {
    return JSON.writeValueAsString(manifest);
  }
}
