package dev.sluice.tensor;

import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/// How all benchmarks are measured: average time of a call at the sizes of training.
///
/// Results need no blackhole: they are in native memory, which the compiler cannot leave unwritten.
@State(org.openjdk.jmh.annotations.Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MILLISECONDS)
@Warmup(iterations = 3, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(1)
public abstract class TimedBenchmark {
  @Param protected TrainingShape shape;

  protected final RandomTensors tensors = new RandomTensors();

  /// Makes the tensors to work on; gradients are not recorded inside.
  protected abstract void prepare();

  @Setup
  public void setUp() {
    try (var _ = Scope.withoutGradient()) {
      prepare();
    }
  }

  @TearDown
  public void tearDown() {
    tensors.close();
  }
}
