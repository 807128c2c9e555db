package dev.sluice.operations;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.cuda.EmulatedLauncher;
import dev.sluice.cuda.Kernel;
import dev.sluice.cuda.KernelFamily;
import dev.sluice.cuda.TestedCard;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.distributed.GradientExchange;
import dev.sluice.optimizer.AdamW;
import dev.sluice.optimizer.LearningRateSchedule;
import dev.sluice.training.RunConfig;
import dev.sluice.training.Trainer;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
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
  private static final int VOCABULARY = 50;
  private static final int SEPARATOR = 3;

  private static final Map<Model, List<Trainer.Step>> EXPECTED = new HashMap<>();

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
    "none,attention,FLOAT32,1e-5",
    "sdpa-headwise,attention,FLOAT32,1e-5",
    "sdpa-elementwise,attention,FLOAT32,1e-5",
    "none,gdn,FLOAT32,1e-5",
    "sdpa-elementwise,gdn attention,FLOAT32,1e-5",
    "none,attention,BFLOAT16,2e-2",
    "sdpa-headwise,attention,BFLOAT16,2e-2",
    "sdpa-elementwise,attention,BFLOAT16,2e-2",
    "sdpa-elementwise,gdn attention,BFLOAT16,2e-2"
  })
  void stepsAreThoseOfTheDefinitions(
      String gate, String pattern, Precision precision, double tolerance) {
    var launcher = new EmulatedLauncher(false);
    var all = EnumSet.allOf(KernelFamily.class);
    var model = new Model(gate, pattern, precision);
    var expected = expected(model);
    var actual = train(new CudaOperations(launcher, all), all, model);
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
      if (!pattern.contains("attention")) {
        families.remove(KernelFamily.HEADS);
      }
      if (!pattern.contains("gdn")) {
        families.remove(KernelFamily.DELTA);
      }
      assertEquals(
          families,
          launcher.launches().keySet().stream().map(Kernel::family).collect(Collectors.toSet()));
    }
  }

  /// With any one family left out it is the same training.
  @ParameterizedTest
  @CsvSource({"GATE", "NORM", "HEADS", "SWIGLU", "LOSS", "OPTIMIZER", "DELTA"})
  void eachFamilyCanBeLeftOut(KernelFamily family) {
    var model = new Model("sdpa-elementwise", "gdn attention", Precision.FLOAT32);
    var expected = expected(model);
    var launcher = new EmulatedLauncher(false);
    var others = EnumSet.complementOf(EnumSet.of(family));
    var actual = train(new CudaOperations(launcher, others), others, model);
    assertEquals(expected.getLast().loss(), actual.getLast().loss(), 1e-5);
    assertTrue(
        launcher.launches().keySet().stream().noneMatch(kernel -> kernel.family() == family));
  }

  /// What libtorch's operations make of a model: the same for every test of it.
  private static List<Trainer.Step> expected(Model model) {
    return EXPECTED.computeIfAbsent(model, m -> train(Operations.LIBTORCH, Set.of(), m));
  }

  /// @param onCpu that the CPU is to use, where it stands for a card
  /// @param used by a card
  private static List<Trainer.Step> train(Operations onCpu, Set<KernelFamily> used, Model model) {
    if (TestedCard.isACard()) {
      Operations.useKernels(used);
      return model.train();
    }
    return ScopedValue.where(Operations.INSTEAD, onCpu).call(model::train);
  }

  /// What is trained, each token on those of its own document.
  ///
  /// @param pattern what mixes tokens in each block
  private record Model(String gate, String pattern, Precision precision) {
    private DecoderConfig config() {
      var settings =
          Map.of(
              "hidden_size", "32",
              "intermediate_size", "48",
              "layers", "2",
              "attention_heads", "4",
              "key_value_heads", "2",
              "head_dim", "8",
              "sequence_length", "" + T,
              "layers_pattern", pattern.replace(' ', ','),
              "gate", gate);
      return RunConfig.from(null, settings).decoder(VOCABULARY);
    }

    List<Trainer.Step> train() {
      var steps = new ArrayList<Trainer.Step>();
      try (var decoder = Decoder.initialize(config(), precision, TestedCard.DEVICE, 7);
          var trainer =
              new Trainer(
                  decoder,
                  new AdamW.Settings(0.9, 0.95, 1e-8, 0.1),
                  new LearningRateSchedule.Cosine(1, 1000, 1),
                  1e-2,
                  1.0,
                  0,
                  GradientExchange.none(decoder.parameters()),
                  OptionalInt.of(SEPARATOR))) {
        var random = new Random(1);
        var batches = List.of(batch(random), batch(random));
        for (int step = 1; step <= STEPS; step++) {
          steps.add(trainer.step(step, batches, 2, T));
        }
      }
      return steps;
    }

    private static long[] batch(Random random) {
      return random.longs(2L * (T + 1), 0, VOCABULARY).toArray();
    }
  }
}
