package dev.sluice.retrofit;

import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.ExpertLoad;
import dev.sluice.evaluation.HeldOutLoss;
import dev.sluice.operations.DistilledLoss;
import dev.sluice.operations.DistilledLoss.Direction;
import dev.sluice.operations.DocumentStarts;
import dev.sluice.operations.Precision;
import dev.sluice.probe.Probe;
import dev.sluice.sink.SinkReport;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.nio.file.Path;
import java.util.Collections;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.OptionalInt;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/// One model on held-out text.
///
/// @param name what tables call it: `before`, `after`, `control`
/// @param checkpoint its directory
/// @param loss next-token loss
/// @param parentKl Σ p (ln p − ln q) with p of the model that it began as, mean over tokens, in
///   nats; null for that model itself
/// @param sinks attention, activations and gates
/// @param rounded the loss in nats per token with numbers rounded
public record Measured(
    String name,
    Path checkpoint,
    HeldOutLoss loss,
    @Nullable Double parentKl,
    SinkReport sinks,
    Map<Rounding, Double> rounded) {
  /// What models are measured on.
  ///
  /// @param heldOut T + 1 tokens each
  /// @param bytes of text behind the tokens that they predict
  /// @param sinks windows to watch attention on
  /// @param separator of documents, of which a token sees its own alone; empty for whole windows
  public record Text(List<long[]> heldOut, long bytes, List<long[]> sinks, OptionalInt separator) {}

  /// How many parts a model's measurement has, for progress.
  public static final int PARTS = 3 + Rounding.values().length;

  public Measured {
    rounded = Collections.unmodifiableMap(new EnumMap<>(rounded));
  }

  /// Measures the model of a checkpoint.
  ///
  /// @param parent the checkpoint that it began as; null for that one itself
  /// @param done hears after each of [#PARTS]
  public static Measured of(
      String name,
      Path checkpoint,
      @Nullable Path parent,
      Text text,
      Precision precision,
      Device device,
      Consumer<String> done) {
    HeldOutLoss loss;
    Double divergence;
    SinkReport sinks;
    try (var decoder = ModelDirectory.load(checkpoint, precision, device, false)) {
      loss = loss(decoder, text, Probe.NONE);
      done.accept(name + ": loss");
      divergence = parent == null ? null : divergence(decoder, parent, text);
      done.accept(name + ": divergence");
      sinks = SinkReport.measure(decoder, text.sinks);
      done.accept(name + ": sinks");
    }
    Map<Rounding, Double> rounded = new EnumMap<>(Rounding.class);
    for (Rounding rounding : Rounding.values()) {
      try (var decoder = ModelDirectory.load(checkpoint, precision, device, false)) {
        rounding.applyTo(decoder);
        rounded.put(rounding, loss(decoder, text, rounding.probe()).nats());
      }
      done.accept(name + ": " + rounding.words());
    }
    return new Measured(name, checkpoint, loss, divergence, sinks, rounded);
  }

  private static HeldOutLoss loss(Decoder decoder, Text text, Probe probe) {
    return HeldOutLoss.measure(decoder, text.heldOut, text.bytes, 1, text.separator, probe);
  }

  private static double divergence(Decoder decoder, Path parent, Text text) {
    double sum = 0;
    long tokens = 0;
    try (var before = ModelDirectory.load(parent, decoder.precision(), decoder.device(), false)) {
      for (long[] window : text.heldOut) {
        int length = window.length - 1;
        try (var _ = Scope.withoutGradient()) {
          var ids = Tensor.of(window, 1, length + 1L).to(decoder.device());
          var inputs = ids.narrow(1, 0, length);
          var documents = DocumentStarts.of(window, 1, length + 1, length, text.separator);
          if (documents != null) {
            documents.bring(ids);
          }
          var loss =
              decoder.distilledLoss(
                  inputs,
                  ids.narrow(1, 1, length),
                  documents,
                  new ExpertLoad(),
                  Probe.NONE,
                  before.teach(inputs, documents, Probe.NONE),
                  new DistilledLoss.Shares(0, 1, Direction.FROM_OTHER, 0));
          sum += Objects.requireNonNull(loss.divergence()).item() * length;
        }
        tokens += length;
      }
    }
    return sum / tokens;
  }

  /// What rounding costs in nats per token.
  public double damage(Rounding rounding) {
    return rounded.getOrDefault(rounding, Double.NaN) - loss.nats();
  }
}
