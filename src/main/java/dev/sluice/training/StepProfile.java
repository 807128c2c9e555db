package dev.sluice.training;

import dev.sluice.tensor.Operation;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import jdk.jfr.consumer.RecordedEvent;
import jdk.jfr.consumer.RecordingStream;

/// Where the time of training steps goes, from the events of [Operation].
///
/// @param stepSeconds mean time of a step
/// @param operations the longest first
/// @param productSeconds time of a step in matrix products, summed over threads
/// @param productMultiplications multiplications of a step's matrix products
public record StepProfile(
    double stepSeconds,
    List<Share> operations,
    double productSeconds,
    double productMultiplications) {
  /// What an operation takes of a step.
  ///
  /// @param operation its name
  /// @param pass `forward`, `backward` or `update`
  /// @param seconds of a step, in all its calls
  public record Share(String operation, String pass, double seconds) {}

  /// The time that no operation accounts for: automatic differentiation, memory, Java.
  public double restSeconds() {
    return stepSeconds - operations.stream().mapToDouble(Share::seconds).sum();
  }

  /// Runs `steps` steps and records them.
  public static StepProfile record(int steps, Runnable step) {
    Map<String, Long> nanos = new LinkedHashMap<>();
    Map<String, RecordedEvent> examples = new LinkedHashMap<>();
    double[] products = new double[2];
    double seconds;
    try (var stream = new RecordingStream()) {
      stream.enable(Operation.EVENT).withoutThreshold();
      stream.enable(Operation.Product.EVENT).withoutThreshold();
      stream.onEvent(
          Operation.EVENT,
          event -> {
            String key = event.getString("operation") + " " + event.getString("pass");
            examples.putIfAbsent(key, event);
            nanos.merge(key, event.getDuration().toNanos(), Long::sum);
          });
      stream.onEvent(
          Operation.Product.EVENT,
          event -> {
            products[0] += event.getDuration().toNanos() / 1e9;
            products[1] += event.getLong("multiplications");
          });
      stream.setReuse(false);
      stream.startAsync();
      long began = System.nanoTime();
      for (int i = 0; i < steps; i++) {
        step.run();
      }
      seconds = (System.nanoTime() - began) / 1e9;
      stream.stop(); // when all events have been seen
    }
    var shares = new ArrayList<Share>();
    examples.forEach(
        (key, event) ->
            shares.add(
                new Share(
                    event.getString("operation"),
                    event.getString("pass"),
                    nanos.getOrDefault(key, 0L) / 1e9 / steps)));
    shares.sort(Comparator.comparingDouble(Share::seconds).reversed());
    return new StepProfile(seconds / steps, shares, products[0] / steps, products[1] / steps);
  }
}
