package dev.sluice.training;

import dev.sluice.tensor.Operation;
import dev.sluice.tensor.Traffic;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import jdk.jfr.FlightRecorder;
import jdk.jfr.consumer.RecordedEvent;
import jdk.jfr.consumer.RecordingStream;

/// Where the time of training steps goes, from the events of [Operation].
///
/// @param stepSeconds mean time of a step
/// @param operations the longest first
/// @param productSeconds time of a step in matrix products, summed over threads
/// @param productMultiplications multiplications of a step's matrix products
/// @param traffic what passes between Java and libtorch
public record StepProfile(
    double stepSeconds,
    List<Share> operations,
    double productSeconds,
    double productMultiplications,
    Exchanged traffic) {
  /// What passes between Java and libtorch in a step, from the events of [Traffic].
  ///
  /// @param results tensors that libtorch gave to Java, views included
  /// @param readBacks how often numbers were brought to Java: a device is waited for each time
  /// @param uploads tensors made of Java's numbers
  /// @param largestResult elements of the largest tensor among the results
  public record Exchanged(double results, double readBacks, double uploads, long largestResult) {}

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

  /// Makes events a part of all steps from now on, so that those that are recorded are compiled
  /// like those before. To be called before the first step.
  public static void prepare() {
    FlightRecorder.getFlightRecorder();
  }

  /// Runs `steps` steps and records them.
  public static StepProfile record(int steps, Runnable step) {
    Map<String, Long> nanos = new LinkedHashMap<>();
    Map<String, RecordedEvent> examples = new LinkedHashMap<>();
    double[] products = new double[2];
    long[] traffic = new long[4];
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
      stream.enable(Traffic.Result.EVENT);
      stream.enable(Traffic.Transfer.EVENT);
      stream.onEvent(
          Traffic.Result.EVENT,
          event -> {
            traffic[0]++;
            traffic[3] = Math.max(traffic[3], event.getLong("elements"));
          });
      stream.onEvent(
          Traffic.Transfer.EVENT, event -> traffic[event.getBoolean("toHost") ? 1 : 2]++);
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
    double of = steps;
    return new StepProfile(
        seconds / of,
        shares,
        products[0] / of,
        products[1] / of,
        new Exchanged(traffic[0] / of, traffic[1] / of, traffic[2] / of, traffic[3]));
  }
}
