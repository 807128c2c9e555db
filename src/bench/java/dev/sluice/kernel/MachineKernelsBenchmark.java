package dev.sluice.kernel;

import java.lang.foreign.Arena;
import java.util.Objects;
import java.util.SplittableRandom;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/// Norms, rotation, gates and what Gated DeltaNet does, in machine code and with the Vector API,
/// for tokens of a model with 1024 numbers, 16 heads of 128, for queries, keys and values each, and
/// a feed-forward layer of 3072.
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Warmup(iterations = 3, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(1)
public class MachineKernelsBenchmark {
  private static final int HIDDEN = 1024;
  private static final int HEADS = 16;
  private static final int HEAD = 128;
  private static final int FEED_FORWARD = 3072;
  private static final int CHANNELS = 3 * HEADS * HEAD;
  private static final int TAPS = 4;
  private static final double EPSILON = 1e-6;

  @Param private By by;

  @Param({"1", "256"})
  private int tokens;

  /// Who computes.
  public enum By {
    MACHINE_CODE,
    VECTOR_API
  }

  private Kernels kernels;
  private Arena arena;
  private Floats x;
  private Floats y;
  private Floats weight;
  private Floats sum;
  private Floats out;
  private Rotations rotations;
  private Floats mixed;
  private Floats convolved;
  private Floats history;
  private Floats factors;
  private Floats states;

  @Setup
  public void setUp() {
    kernels =
        switch (by) {
          case MACHINE_CODE -> Objects.requireNonNull(MachineKernels.make());
          case VECTOR_API -> new VectorKernels();
        };
    arena = Arena.ofShared();
    var random = new SplittableRandom(1);
    long most = (long) tokens * FEED_FORWARD;
    x = numbers(most, random);
    y = numbers(most, random);
    weight = numbers(HIDDEN, random);
    sum = numbers(most, random);
    out = numbers(most, random);
    rotations =
        new Rotations(
            numbers((long) tokens * HEAD / 2, random).memory(),
            numbers((long) tokens * HEAD / 2, random).memory(),
            HEAD / 2,
            tokens);
    mixed = numbers((long) tokens * CHANNELS, random);
    convolved = numbers((long) tokens * CHANNELS, random);
    history = numbers((TAPS - 1L) * CHANNELS, random);
    factors = numbers((long) TAPS * CHANNELS, random);
    states = numbers((long) HEADS * HEAD * HEAD, random);
  }

  private Floats numbers(long count, SplittableRandom random) {
    var made = Floats.float32(arena.allocate(count * Float.BYTES, 64));
    for (long i = 0; i < count; i++) {
      made.set(i, (float) random.nextGaussian());
    }
    return made;
  }

  @TearDown
  public void tearDown() {
    arena.close();
  }

  @Benchmark
  public void residualNorm() {
    kernels.rmsNorm(x, y, weight, EPSILON, sum, out, HIDDEN, 0, tokens);
  }

  @Benchmark
  public void rotatedHeads() {
    long rows = (long) tokens * HEADS;
    kernels.normRotate(x, weight, EPSILON, rotations, out, HEADS, HEAD, 0, rows);
  }

  @Benchmark
  public void swiGlu() {
    kernels.swiGlu(x, y, out, 0, (long) tokens * FEED_FORWARD);
  }

  @Benchmark
  public void gateOfElements() {
    kernels.sigmoidGate(x, y, out, 1, 0, (long) tokens * HEADS * HEAD);
  }

  @Benchmark
  public void gateOfHeads() {
    kernels.sigmoidGate(x, y, out, HEAD, 0, (long) tokens * HEADS);
  }

  public void convolution() {
    var sizes = new Convolution(1, tokens, CHANNELS, TAPS);
    kernels.causalConvolution(mixed, history, factors, convolved, sizes, 0, CHANNELS);
  }

  /// One after the other.
  @Benchmark
  public void convolutionSteps() {
    for (long t = 0; t < tokens; t++) {
      kernels.convolutionStep(
          mixed.from(t * CHANNELS).memory(),
          history.memory(),
          factors.memory(),
          convolved.from(t * CHANNELS).memory(),
          CHANNELS,
          TAPS,
          0,
          CHANNELS);
    }
  }

  @Benchmark
  public void deltaSteps() {
    for (int head = 0; head < HEADS; head++) {
      long state = (long) head * HEAD * HEAD;
      for (long t = 0; t < tokens; t++) {
        long at = t * CHANNELS + (long) head * HEAD;
        kernels.deltaStep(
            weight.memory(),
            weight.memory(),
            mixed.from(at),
            0.5f,
            1e-3f,
            states.from(state).memory(),
            convolved.from(at),
            HEAD,
            HEAD);
      }
    }
  }
}
