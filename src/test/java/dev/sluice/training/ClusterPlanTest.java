package dev.sluice.training;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.Decoders;
import dev.sluice.decoder.Recompute;
import dev.sluice.optimizer.Optimizer;
import dev.sluice.tensor.ElementType;
import dev.sluice.training.ClusterPlan.Cluster;
import org.junit.jupiter.api.Test;

class ClusterPlanTest {
  private static final Cluster EIGHT = new Cluster(8, 8, 80e9, 1e15, 0.5, 400e9, 50e9);

  /// By hand: P parameters, 8 devices, 16 sequences.
  @Test
  void equalsTheArithmeticByHand() {
    var config = Decoders.named("paper-dense-28");
    double p = config.parameterCount();
    double flops = config.trainingFlopsPerToken(4096) * 4096;
    var plan =
        ClusterPlan.of(
            config, ElementType.BFLOAT16, Recompute.NONE, Optimizer.Kind.ADAMW, 4096, 16, 0, EIGHT);
    assertEquals(6 * p, plan.weightBytes());
    assertEquals(4 * p, plan.gradientBytes());
    assertEquals(8 * p, plan.momentBytes());
    assertEquals(2 * 7.0 / 8 * 4 * p, plan.sentBytes(), 1e-3);
    assertEquals(2 * flops / 0.5e15, plan.computeSeconds(), 1e-12);
    assertEquals(7 * p / 400e9, plan.waitSeconds(), 1e-12);
    assertEquals(plan.computeSeconds() + plan.waitSeconds(), plan.stepSeconds());

    var one =
        ClusterPlan.of(
            config, ElementType.BFLOAT16, Recompute.NONE, Optimizer.Kind.ADAMW, 4096, 16, 1, EIGHT);
    assertEquals(4 * p, one.gradientBytes());
    assertEquals(3 * 7.0 / 8 * 4 * p, one.sentBytes(), 1e-3);
    assertEquals(10.5 * p / 400e9, one.waitSeconds(), 1e-12);

    var two =
        ClusterPlan.of(
            config, ElementType.BFLOAT16, Recompute.NONE, Optimizer.Kind.ADAMW, 4096, 16, 2, EIGHT);
    assertEquals(two.momentBytes(), one.momentBytes());
    assertEquals(two.momentBytes() / 2, two.gradientBytes());
    assertEquals(plan.sentBytes(), two.sentBytes(), 1e-3);
  }

  /// Parameters are whole: who owns the embedding, vocabulary × 2048, owns at least that.
  @Test
  void theLargestParameterBoundsWhatSharingSaves() {
    var config = Decoders.named("paper-dense-28");
    double embedding = (double) config.vocabSize() * 2048;
    var eight =
        ClusterPlan.of(
            config, ElementType.BFLOAT16, Recompute.NONE, Optimizer.Kind.ADAMW, 4096, 16, 1, EIGHT);
    assertEquals(8 * embedding, eight.momentBytes()); // more than an eighth of all
    var four = new Cluster(4, 8, 80e9, 1e15, 0.5, 400e9, 50e9);
    double quarter = 8.0 * config.parameterCount() / 4;
    assertEquals(
        1,
        ClusterPlan.of(
                    config,
                    ElementType.BFLOAT16,
                    Recompute.NONE,
                    Optimizer.Kind.ADAMW,
                    4096,
                    16,
                    1,
                    four)
                .momentBytes()
            / quarter,
        0.02);
    var many = new Cluster(1024, 8, 80e9, 1e15, 0.5, 400e9, 50e9);
    assertEquals(
        8 * embedding,
        ClusterPlan.of(
                config,
                ElementType.BFLOAT16,
                Recompute.NONE,
                Optimizer.Kind.ADAMW,
                4096,
                1024,
                1,
                many)
            .momentBytes());
  }

  /// Muon keeps one moment of what it moves, and that is nearly everything.
  @Test
  void muonHasFewerMoments() {
    var config = Decoders.named("paper-dense-28");
    var adamW =
        ClusterPlan.of(
            config, ElementType.BFLOAT16, Recompute.NONE, Optimizer.Kind.ADAMW, 64, 8, 0, EIGHT);
    var muon =
        ClusterPlan.of(
            config, ElementType.BFLOAT16, Recompute.NONE, Optimizer.Kind.MUON, 64, 8, 0, EIGHT);
    long moved =
        config.parameters().values().stream()
            .filter(spec -> spec.maps().length > 0)
            .mapToLong(spec -> spec.elements())
            .sum();
    assertEquals(4.0 * moved, adamW.momentBytes() - muon.momentBytes());
    assertTrue(muon.momentBytes() < 0.7 * adamW.momentBytes());
    assertEquals(adamW.gradientBytes(), muon.gradientBytes());
  }

  @Test
  void oneDeviceSendsNothingAndFloat32HasNoCopy() {
    var config = Decoders.named("paper-dense-28");
    var alone = new Cluster(1, 8, 80e9, 1e15, 0.5, 400e9, 50e9);
    for (int zero = 0; zero <= 2; zero++) {
      var plan =
          ClusterPlan.of(
              config,
              ElementType.FLOAT32,
              Recompute.NONE,
              Optimizer.Kind.ADAMW,
              4096,
              3,
              zero,
              alone);
      assertEquals(0, plan.sentBytes());
      assertEquals(0, plan.waitSeconds());
      assertEquals(4.0 * config.parameterCount(), plan.weightBytes());
    }
  }

  /// Between nodes all adapters of one work together, if they are not faster than what is within.
  @Test
  void theSlowestLinkDecides() {
    var config = Decoders.named("paper-moe-15b");
    double sent = 2 * 15.0 / 16 * 4 * config.parameterCount();
    assertEquals(
        sent / 200e9,
        ClusterPlan.of(
                config,
                ElementType.BFLOAT16,
                Recompute.NONE,
                Optimizer.Kind.ADAMW,
                4096,
                16,
                0,
                new Cluster(16, 8, 80e9, 1e15, 0.5, 400e9, 25e9))
            .waitSeconds(),
        1e-9);
    assertEquals(
        sent / 400e9,
        ClusterPlan.of(
                config,
                ElementType.BFLOAT16,
                Recompute.NONE,
                Optimizer.Kind.ADAMW,
                4096,
                16,
                0,
                new Cluster(16, 8, 80e9, 1e15, 0.5, 400e9, 100e9))
            .waitSeconds(),
        1e-9);
  }

  @Test
  void whatIsNotPossibleIsRefused() {
    var config = Decoders.named("paper-dense-28");
    assertTrue(
        assertThrows(
                InvalidInputException.class,
                () ->
                    ClusterPlan.of(
                        config,
                        ElementType.BFLOAT16,
                        Recompute.NONE,
                        Optimizer.Kind.ADAMW,
                        4096,
                        12,
                        0,
                        EIGHT))
            .getMessage()
            .contains("12 sequences cannot be shared evenly by 8 devices"));
    assertTrue(
        assertThrows(
                InvalidInputException.class, () -> new Cluster(0, 8, 80e9, 1e15, 0.5, 400e9, 50e9))
            .getMessage()
            .contains("--gpus cannot be 0"));
    assertThrows(
        InvalidInputException.class, () -> new Cluster(8, 8, 80e9, 1e15, 1.5, 400e9, 50e9));
    assertThrows(InvalidInputException.class, () -> new Cluster(8, 8, -1, 1e15, 0.5, 400e9, 50e9));
  }
}
