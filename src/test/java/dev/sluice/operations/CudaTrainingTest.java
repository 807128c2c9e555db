package dev.sluice.operations;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.attention.RopeScaling;
import dev.sluice.cuda.EmulatedLauncher;
import dev.sluice.cuda.Kernel;
import dev.sluice.cuda.KernelFamily;
import dev.sluice.cuda.TestedCard;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.gate.Gate;
import dev.sluice.optimizer.AdamW;
import dev.sluice.optimizer.LearningRateSchedule;
import dev.sluice.training.Trainer;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.stream.Collectors;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// A whole model trained with the CUDA kernels, beside the same made of libtorch's operations.
class CudaTrainingTest {
  private static final int T = 24;
  private static final int STEPS = 4;

  @BeforeEach
  void assumeThatKernelsRun() {
    TestedCard.assumeThatItRuns();
  }

  @AfterEach
  void useTheUsualOperations() {
    DeviceOperations.use(Set.of());
  }

  /// Losses and gradients' norms differ by what rounding does to sums in another order; in bfloat16
  /// also by what is rounded between libtorch's operations and not within a kernel.
  @ParameterizedTest
  @CsvSource({
    "none,FLOAT32,1e-5", "sdpa-headwise,FLOAT32,1e-5", "sdpa-elementwise,FLOAT32,1e-5",
    "none,BFLOAT16,2e-2", "sdpa-headwise,BFLOAT16,2e-2", "sdpa-elementwise,BFLOAT16,2e-2"
  })
  void stepsAreThoseOfTheDefinitions(String gate, Precision precision, double tolerance) {
    var launcher = new EmulatedLauncher(false);
    var all = EnumSet.allOf(KernelFamily.class);
    var expected = train(Operations.LIBTORCH, Set.of(), gate, precision);
    var actual = train(new CudaOperations(launcher, all), all, gate, precision);
    for (int i = 0; i < STEPS; i++) {
      String what = "step " + (i + 1);
      assertTrue(actual.get(i).updated());
      assertEquals(
          expected.get(i).loss(), actual.get(i).loss(), tolerance * expected.get(i).loss(), what);
      assertEquals(
          expected.get(i).gradientNorm(),
          actual.get(i).gradientNorm(),
          10 * tolerance * expected.get(i).gradientNorm(),
          what);
    }
    assertTrue(actual.getLast().loss() < actual.getFirst().loss());
    if (!TestedCard.isACard()) {
      var families = EnumSet.allOf(KernelFamily.class);
      if (gate.equals("none")) {
        families.remove(KernelFamily.GATE);
      }
      assertEquals(
          families,
          launcher.launches().keySet().stream().map(Kernel::family).collect(Collectors.toSet()));
    }
  }

  /// With any one family left out it is the same training.
  @ParameterizedTest
  @CsvSource({"GATE", "NORM", "HEADS", "SWIGLU", "LOSS", "OPTIMIZER"})
  void eachFamilyCanBeLeftOut(KernelFamily family) {
    String gate = "sdpa-elementwise";
    var expected = train(Operations.LIBTORCH, Set.of(), gate, Precision.FLOAT32);
    var launcher = new EmulatedLauncher(false);
    var others = EnumSet.complementOf(EnumSet.of(family));
    var kernels = new CudaOperations(launcher, others);
    var actual = train(kernels, others, gate, Precision.FLOAT32);
    assertEquals(expected.getLast().loss(), actual.getLast().loss(), 1e-5);
    assertTrue(
        launcher.launches().keySet().stream().noneMatch(kernel -> kernel.family() == family));
  }

  /// @param onCpu that the CPU is to use, where it stands for a card
  /// @param used by a card
  private List<Trainer.Step> train(
      Operations onCpu, Set<KernelFamily> used, String gate, Precision precision) {
    if (TestedCard.isACard()) {
      Operations.useKernels(used);
      return train(gate, precision);
    }
    return ScopedValue.where(Operations.INSTEAD, onCpu).call(() -> train(gate, precision));
  }

  private static List<Trainer.Step> train(String gate, Precision precision) {
    var config =
        DecoderConfig.uniform(
            50,
            32,
            48,
            2,
            4,
            2,
            8,
            128,
            10_000,
            new RopeScaling.None(),
            1e-6,
            true,
            true,
            0.05,
            gate.equals("none") ? List.of() : List.of(Gate.parse(gate)));
    var steps = new ArrayList<Trainer.Step>();
    try (var decoder = Decoder.initialize(config, precision, TestedCard.DEVICE, 7);
        var trainer =
            new Trainer(
                decoder,
                new AdamW.Settings(0.9, 0.95, 1e-8, 0.1),
                new LearningRateSchedule.Cosine(1, 1000, 1),
                1e-2,
                1.0)) {
      var random = new Random(1);
      var batches =
          List.of(
              random.longs(2L * (T + 1), 0, 50).toArray(),
              random.longs(2L * (T + 1), 0, 50).toArray());
      for (int step = 1; step <= STEPS; step++) {
        steps.add(trainer.step(step, batches, 2, T));
      }
    }
    return steps;
  }
}
