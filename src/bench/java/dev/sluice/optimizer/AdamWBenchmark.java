package dev.sluice.optimizer;

import dev.sluice.attention.RopeScaling;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.gate.Gate;
import dev.sluice.kernel.AdamWStep;
import dev.sluice.operations.AdamWUpdate;
import dev.sluice.operations.Operations;
import dev.sluice.operations.Precision;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.TimedBenchmark;
import dev.sluice.tensor.TrainingShape;
import dev.sluice.tensor.Weight;
import java.util.List;
import java.util.Objects;
import org.openjdk.jmh.annotations.Benchmark;

/// The optimizer's step over a whole model, all parameters in one pass against libtorch's
/// operations parameter by parameter. All numbers are float32 in every precision.
public class AdamWBenchmark extends TimedBenchmark {
  private static final int STEP = 1000;
  private static final double LEARNING_RATE = 1e-4;
  private static final AdamW.Settings SETTINGS = new AdamW.Settings(0.9, 0.95, 1e-8, 0.1);

  private Decoder decoder;
  private AdamW optimizer;

  @Override
  protected void prepare() {
    var config =
        DecoderConfig.uniform(
            shape.vocabulary,
            shape.hidden,
            shape.feedForward,
            shape.layers,
            shape.heads,
            shape.keyValueHeads,
            TrainingShape.HEAD_SIZE,
            shape.tokens,
            10_000,
            new RopeScaling.None(),
            1e-6,
            true,
            true,
            0.02,
            List.of(Gate.SDPA_ELEMENTWISE));
    decoder = Decoder.initialize(config, Precision.FLOAT32, Device.CPU, 1);
    optimizer = new AdamW(SETTINGS, decoder.parameters());
    for (var parameter : decoder.parameters().all().values()) {
      FusedOp.gradientOf(parameter, (gradient, _) -> gradient.copyFrom(parameter));
    }
  }

  @Override
  public void tearDown() {
    super.tearDown();
    optimizer.close();
    decoder.close();
  }

  @Benchmark
  public void composed() {
    decoder.parameters().weights().forEach(this::composed);
  }

  private void composed(String name, Weight weight) {
    var parameter = weight.leaf();
    try (var _ = Scope.withoutGradient()) {
      Operations.COMPOSED.adamW(
          List.of(
              new AdamWUpdate(
                  weight,
                  Objects.requireNonNull(parameter.gradient()),
                  optimizer.firstMoments().get(name),
                  optimizer.secondMoments().get(name),
                  new AdamWStep(
                      LEARNING_RATE,
                      SETTINGS.beta1(),
                      SETTINGS.beta2(),
                      SETTINGS.epsilon(),
                      parameter.shape().length < 2 ? 0 : SETTINGS.weightDecay(),
                      STEP,
                      1))));
    }
  }

  @Benchmark
  public void fused() {
    optimizer.step(STEP, LEARNING_RATE, 1);
  }
}
