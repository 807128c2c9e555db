package dev.sluice.training;

import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.ExpertLoad;
import dev.sluice.distributed.GradientExchange;
import dev.sluice.operations.DocumentStarts;
import dev.sluice.optimizer.Gradients;
import dev.sluice.optimizer.LearningRateSchedule;
import dev.sluice.optimizer.Optimizer;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import java.util.Set;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;

/// Takes optimizer steps on a decoder: forward, backward, clip, update.
public class Trainer implements AutoCloseable {
  /// What a step measured.
  ///
  /// @param number from 1
  /// @param loss mean next-token loss over the step's sequences, in nats, before the update; the
  ///   z-loss is no part of it
  /// @param zLoss what was added to it, or null where nothing is
  /// @param gradientNorm global norm before clipping
  /// @param learningRate used
  /// @param parts the other parts of what is minimised by their names, see [Objective.Terms]
  /// @param updated whether the weights moved
  /// @param notFinite weights whose gradient was not finite
  public record Step(
      int number,
      double loss,
      @Nullable Double zLoss,
      double gradientNorm,
      double learningRate,
      Map<String, Double> parts,
      boolean updated,
      List<String> notFinite) {
    public Step {
      parts = Collections.unmodifiableMap(new LinkedHashMap<>(parts));
    }
  }

  private final Decoder decoder;
  private final Optimizer optimizer;
  private final LearningRateSchedule schedule;
  private final double maximumLearningRate;
  private final double clipNorm;
  private final Objective objective;
  private final GradientExchange exchange;
  private final OptionalInt separator;
  private final List<Brought> ahead = new ArrayList<>();
  private int updates;

  public Trainer(
      Decoder decoder,
      Optimizer.Settings settings,
      LearningRateSchedule schedule,
      double maximumLearningRate,
      double clipNorm) {
    this(
        decoder,
        settings,
        schedule,
        maximumLearningRate,
        clipNorm,
        0,
        GradientExchange.none(decoder.parameters()),
        OptionalInt.empty());
  }

  /// @param zLoss weight of the z-loss, or 0 for none
  /// @param exchange with the ranks that train on other rows of the batch
  /// @param separator of documents, where a token is to see its own document alone; empty where it
  ///   sees its whole sequence
  public Trainer(
      Decoder decoder,
      Optimizer.Settings settings,
      LearningRateSchedule schedule,
      double maximumLearningRate,
      double clipNorm,
      double zLoss,
      GradientExchange exchange,
      OptionalInt separator) {
    this(
        decoder,
        settings.over(decoder.parameters(), exchange::owns),
        schedule,
        maximumLearningRate,
        clipNorm,
        Objective.nextTokens(zLoss),
        exchange,
        separator);
  }

  /// @param optimizer over the decoder's parameters; the trainer takes it over
  /// @param objective what is minimised; the trainer takes it over
  public Trainer(
      Decoder decoder,
      Optimizer optimizer,
      LearningRateSchedule schedule,
      double maximumLearningRate,
      double clipNorm,
      Objective objective,
      GradientExchange exchange,
      OptionalInt separator) {
    this.separator = separator;
    this.decoder = decoder;
    this.exchange = exchange;
    this.optimizer = optimizer;
    this.schedule = schedule;
    this.maximumLearningRate = maximumLearningRate;
    this.clipNorm = clipNorm;
    this.objective = objective;
  }

  /// The optimizer, for its state.
  public Optimizer optimizer() {
    return optimizer;
  }

  /// With the other ranks.
  public GradientExchange exchange() {
    return exchange;
  }

  /// Goes on after so many updates, whose moments [#optimizer] has.
  public void goOnAfter(int updates) {
    this.updates = updates;
  }

  /// Decides whether a step's gradient moves the weights.
  @FunctionalInterface
  public interface Judge {
    boolean accepts(double loss, double gradientNorm);
  }

  /// Takes one step; the weights stay as they are when its loss or gradient is not finite.
  ///
  /// @param number from 1
  /// @param microBatches each of `batchSize` rows of `sequenceLength + 1` token ids, row-major;
  ///   gradients are averaged
  public Step step(int number, List<long[]> microBatches, int batchSize, int sequenceLength) {
    return step(
        number,
        microBatches,
        batchSize,
        sequenceLength,
        (loss, norm) -> Double.isFinite(loss) && Double.isFinite(norm));
  }

  /// Takes one step; the weights stay as they are when `judge` does not accept it.
  public Step step(
      int number, List<long[]> microBatches, int batchSize, int sequenceLength, Judge judge) {
    return step(number, microBatches, batchSize, sequenceLength, judge, List::of);
  }

  /// The same, and brings what may come next to the device while that computes this step.
  ///
  /// @param next asked once, for the micro-batches that the next step will be given if nothing
  ///   comes between; another step than that may well follow
  public Step step(
      int number,
      List<long[]> microBatches,
      int batchSize,
      int sequenceLength,
      Judge judge,
      Supplier<List<long[]>> next) {
    var replicas = exchange.replicas();
    if (objective.choose(decoder, updates)) {
      exchange.planAnew();
    }
    var load = new ExpertLoad(replicas::sum);
    try (var measured = new Measured()) {
      for (int i = 0; i < microBatches.size(); i++) {
        try (var _ = Scope.open();
            var given = given(microBatches.get(i), batchSize, sequenceLength)) {
          var terms =
              objective.terms(
                  decoder,
                  given.ids.narrow(1, 0, sequenceLength),
                  given.ids.narrow(1, 1, sequenceLength),
                  given.documents,
                  load,
                  number - 1);
          if (i == microBatches.size() - 1) {
            exchange.begin();
          }
          differentiable(number, terms.total(), 1.0 / microBatches.size()).backward();
          measured.add(terms);
        }
      }
      exchange.finish();
      differentiated(number, decoder.parameters());
      bringAhead(next.get(), batchSize, sequenceLength);
      measured.read(decoder.parameters());
      return updated(number, measured, judge);
    }
  }

  /// A micro-batch on the device.
  ///
  /// @param rows its ids
  private record Brought(long[] rows, Tensor ids, @Nullable DocumentStarts documents)
      implements AutoCloseable {
    @Override
    public void close() {
      ids.close();
      if (documents != null) {
        documents.close();
      }
    }
  }

  /// What was brought ahead, or is brought now.
  private Brought given(long[] rows, int batchSize, int sequenceLength) {
    while (!ahead.isEmpty()) {
      var first = ahead.removeFirst();
      if (Arrays.equals(first.rows, rows) && first.ids.size(0) == batchSize) {
        return first;
      }
      first.close(); // of a step that did not come
    }
    return brought(rows, batchSize, sequenceLength);
  }

  private Brought brought(long[] rows, int batchSize, int sequenceLength) {
    var ids = Tensor.of(decoder.device(), rows, batchSize, sequenceLength + 1L).retain();
    var documents =
        DocumentStarts.of(rows, batchSize, sequenceLength + 1, sequenceLength, separator);
    if (documents != null) {
      documents.bring(ids);
      documents.retain();
    }
    return new Brought(rows, ids, documents);
  }

  private void bringAhead(List<long[]> microBatches, int batchSize, int sequenceLength) {
    try (var _ = Scope.open()) {
      microBatches.forEach(rows -> ahead.add(brought(rows, batchSize, sequenceLength)));
    }
  }

  /// Numbers that a step leaves on the device: all are read at its end, and the device is waited
  /// for once.
  private static final class Measured implements AutoCloseable {
    private final List<Tensor> numbers = new ArrayList<>();
    private final List<Set<String>> parts = new ArrayList<>();
    private boolean withZLoss;
    private double[] read = new double[0];

    /// Takes up a micro-batch's terms.
    void add(Objective.Terms terms) {
      numbers.add(terms.crossEntropy().detach().retain());
      withZLoss = terms.zLoss() != null;
      if (terms.zLoss() != null) {
        numbers.add(terms.zLoss().detach().retain());
      }
      terms.parts().values().forEach(part -> numbers.add(part.detach().retain()));
      parts.add(terms.parts().keySet());
    }

    /// Reads them, and the gradients' norm.
    void read(Parameters parameters) {
      try (var _ = Scope.open()) {
        var all = new ArrayList<>(numbers);
        all.add(Gradients.normOf(parameters));
        read = Tensor.items(all);
      }
    }

    double norm() {
      return read[read.length - 1];
    }

    double loss() {
      double loss = 0;
      int at = 0;
      for (var names : parts) {
        loss += read[at] / parts.size();
        at += 1 + (withZLoss ? 1 : 0) + names.size();
      }
      return loss;
    }

    @Nullable Double zLoss() {
      if (!withZLoss) {
        return null;
      }
      double added = 0;
      int at = 1;
      for (var names : parts) {
        added += read[at] / parts.size();
        at += 2 + names.size();
      }
      return added;
    }

    Map<String, Double> parts() {
      Map<String, Double> means = new LinkedHashMap<>();
      double share = 1.0 / parts.size();
      int at = 0;
      for (var names : parts) {
        at += withZLoss ? 2 : 1;
        for (String name : names) {
          means.merge(name, read[at++] * share, Double::sum);
        }
      }
      return means;
    }

    @Override
    public void close() {
      numbers.forEach(Tensor::close);
    }
  }

  /// Ends a step whose gradients are there and whose numbers are read.
  private Step updated(int number, Measured measured, Judge judge) {
    var replicas = exchange.replicas();
    double loss = replicas.mean(observed(number, measured.loss()));
    var added = measured.zLoss();
    var ofZ = added == null ? null : (Double) replicas.mean(added);
    var parts = measured.parts();
    parts.replaceAll((_, part) -> replicas.mean(part));
    double norm = exchange.norm(measured.norm());
    double rate = maximumLearningRate * schedule.at(number - 1);
    var notFinite =
        Double.isFinite(norm) ? List.<String>of() : Gradients.notFinite(decoder.parameters());
    boolean accepted = judge.accepts(loss, norm);
    if (accepted) {
      updates++;
      optimizer.step(updates, rate, Gradients.clippingScale(norm, clipNorm));
      exchange.publish();
    }
    Gradients.clear(decoder.parameters());
    return new Step(number, loss, ofZ, norm, rate, parts, accepted, notFinite);
  }

  /// What a micro-batch's backward pass begins at; tests inject faults here.
  Tensor differentiable(int number, Tensor total, double weight) {
    return weight == 1 ? total : total.times(weight);
  }

  /// Called when a step's gradients are there; tests inject faults here.
  void differentiated(int number, Parameters parameters) {}

  /// This rank's loss of a step; tests inject faults here.
  double observed(int number, double loss) {
    return loss;
  }

  /// How the model is to be looked at after so many steps, see [Objective#view].
  public Probe view(int steps) {
    return objective.view(steps);
  }

  @Override
  public void close() {
    ahead.forEach(Brought::close);
    objective.close();
    optimizer.close();
  }
}
