package dev.sluice.training;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.decoder.Recompute;
import dev.sluice.operations.Precision;
import dev.sluice.optimizer.Optimizer;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.DeviceMemory;
import dev.sluice.training.TrainingBenchmark.Arm;
import dev.sluice.training.TrainingBenchmark.Shape;
import java.util.List;
import java.util.OptionalLong;
import org.junit.jupiter.api.Test;

class TrainingBenchmarkTest {
  private static final Shape SHAPE = Shape.parse("16,1,2,1,16,32,8,2");

  private static Arm arm() {
    return new Arm("none", Precision.FLOAT32, SHAPE.decoder("attention", 0), Optimizer.Kind.ADAMW);
  }

  /// A device that holds what is said here, one number after the other, and 900 at most.
  private static final class Said implements DeviceMemory {
    private final long[] held;
    private int asked;
    private int begun;

    Said(long... held) {
      this.held = held;
    }

    @Override
    public long held() {
      return held[asked++];
    }

    @Override
    public long peak() {
      return 900;
    }

    @Override
    public void begin() {
      begun++;
    }
  }

  /// The first model has 100 bytes, 130 from its first step on, and takes 900 of all, of which 300
  /// are there before its first step; the second one has the other 200.
  @Test
  void eachModelHasItsOwnPeak() {
    var memory = new Said(0, 100, 100, 300, 300, 330, 330, 330);
    try (var benchmark =
        new TrainingBenchmark(SHAPE, List.of(arm(), arm()), Recompute.NONE, Device.CPU, memory)) {
      benchmark.round();
      var measured = benchmark.measured(0);
      assertEquals(OptionalLong.of(100 + 900 - 300), measured.getFirst().devicePeak());
      assertEquals(OptionalLong.of(200 + 900 - 330), measured.getLast().devicePeak());
      assertEquals(2, memory.begun);
    }
  }

  @Test
  void theCpuHasNone() {
    try (var benchmark =
        new TrainingBenchmark(SHAPE, List.of(arm()), Recompute.BLOCKS, Device.CPU)) {
      benchmark.round();
      benchmark.step(0);
      var measured = benchmark.measured(0).getFirst();
      assertEquals(OptionalLong.empty(), measured.devicePeak());
      assertTrue(measured.loss() > 0);
    }
  }
}
