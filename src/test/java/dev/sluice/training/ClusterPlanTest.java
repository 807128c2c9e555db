package dev.sluice.training;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.Decoders;
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
    var plan = ClusterPlan.of(config, ElementType.BFLOAT16, 4096, 16, 0, EIGHT);
    assertEquals(6 * p, plan.weightBytes());
    assertEquals(4 * p, plan.gradientBytes());
    assertEquals(8 * p, plan.momentBytes());
    assertEquals(2 * 7.0 / 8 * 4 * p, plan.sentBytes(), 1e-3);
    assertEquals(2 * flops / 0.5e15, plan.computeSeconds(), 1e-12);
    double send = 7 * p / 400e9;
    double backward = flops / 0.5e15 * 2 / 3;
    assertEquals(Math.max(0, send - backward), plan.waitSeconds(), 1e-12);
    assertEquals(plan.computeSeconds() + plan.waitSeconds(), plan.stepSeconds());

    var one = ClusterPlan.of(config, ElementType.BFLOAT16, 4096, 16, 1, EIGHT);
    assertEquals(p, one.momentBytes());
    assertEquals(3 * 7.0 / 8 * 4 * p, one.sentBytes(), 1e-3);
    assertEquals(Math.max(0, send - backward) + 3.5 * p / 400e9, one.waitSeconds(), 1e-12);

    var two = ClusterPlan.of(config, ElementType.BFLOAT16, 4096, 16, 2, EIGHT);
    assertEquals(p, two.momentBytes());
    assertEquals(p / 2, two.gradientBytes());
    assertEquals(plan.sentBytes(), two.sentBytes(), 1e-3);
  }

  @Test
  void oneDeviceSendsNothingAndFloat32HasNoCopy() {
    var config = Decoders.named("paper-dense-28");
    var alone = new Cluster(1, 8, 80e9, 1e15, 0.5, 400e9, 50e9);
    for (int zero = 0; zero <= 2; zero++) {
      var plan = ClusterPlan.of(config, ElementType.FLOAT32, 4096, 3, zero, alone);
      assertEquals(0, plan.sentBytes());
      assertEquals(0, plan.waitSeconds());
      assertEquals(4.0 * config.parameterCount(), plan.weightBytes());
    }
  }

  /// The network between nodes is the slower link.
  @Test
  void moreThanANodeWaitsForTheNetwork() {
    var config = Decoders.named("paper-moe-15b");
    var two = new Cluster(16, 8, 80e9, 1e15, 0.5, 400e9, 50e9);
    var within = ClusterPlan.of(config, ElementType.BFLOAT16, 4096, 16, 2, EIGHT);
    var across = ClusterPlan.of(config, ElementType.BFLOAT16, 4096, 16, 2, two);
    assertTrue(across.waitSeconds() > 6 * within.waitSeconds());
    assertTrue(across.momentBytes() < within.momentBytes());
  }

  @Test
  void whatIsNotPossibleIsRefused() {
    var config = Decoders.named("paper-dense-28");
    assertTrue(
        assertThrows(
                InvalidInputException.class,
                () -> ClusterPlan.of(config, ElementType.BFLOAT16, 4096, 12, 0, EIGHT))
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
