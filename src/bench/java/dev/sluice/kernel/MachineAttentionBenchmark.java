package dev.sluice.kernel;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
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

/// One token's attention over 8192 keys and values of 8 heads of 128, by queries that share each
/// head, on all threads. All of them are 67 MB in float32, more than caches hold.
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Warmup(iterations = 3, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(1)
public class MachineAttentionBenchmark {
  private static final int HEADS = 8;
  private static final int WIDTH = 128;
  private static final int KEYS = 8192;
  private static final double SCALE = 0.1;

  @Param({"1", "2", "4"})
  private int group;

  @Param({"false", "true"})
  private boolean bfloat16;

  private MachineAttention attention;
  private Arena arena;
  private Floats keys;
  private Floats values;
  private MemorySegment queries;
  private MemorySegment states;
  private MemorySegment y;
  private MemorySegment sums;

  @Setup
  public void setUp() {
    attention = Objects.requireNonNull(MachineAttention.of(WIDTH, bfloat16));
    arena = Arena.ofShared();
    var random = new SplittableRandom(1);
    keys = numbers(HEADS * KEYS * WIDTH, bfloat16, random);
    values = numbers(HEADS * KEYS * WIDTH, bfloat16, random);
    queries = numbers(HEADS * group * WIDTH, false, random).memory();
    states = arena.allocate(HEADS * attention.stateNumbers(group) * Float.BYTES, 64);
    y = arena.allocate((long) HEADS * group * WIDTH * Float.BYTES, 64);
    sums = arena.allocate((long) HEADS * group * Float.BYTES, 64);
  }

  private Floats numbers(int count, boolean bfloat16, SplittableRandom random) {
    var numbers = new Floats(arena.allocate(count * (bfloat16 ? 2L : 4L), 64), bfloat16);
    for (int i = 0; i < count; i++) {
      numbers.set(i, (float) random.nextGaussian());
    }
    return numbers;
  }

  @TearDown
  public void tearDown() {
    arena.close();
  }

  @Benchmark
  public MemorySegment machineCode() {
    Threads.split(
        HEADS,
        1,
        (from, to) -> {
          for (long head = from; head < to; head++) {
            attention.attend(
                own(queries, head, WIDTH),
                keys.from(head * KEYS * WIDTH),
                values.from(head * KEYS * WIDTH),
                KEYS,
                group,
                SCALE,
                states.asSlice(head * attention.stateNumbers(group) * Float.BYTES),
                own(y, head, WIDTH),
                own(sums, head, 1));
          }
        });
    return y;
  }

  @Benchmark
  public MemorySegment vectorApi() {
    Threads.split(
        HEADS,
        1,
        (from, to) -> {
          for (long head = from; head < to; head++) {
            VectorSoftmax.oneToken(
                own(queries, head, WIDTH),
                keys.from(head * KEYS * WIDTH),
                values.from(head * KEYS * WIDTH),
                KEYS,
                group,
                WIDTH,
                SCALE,
                own(y, head, WIDTH),
                own(sums, head, 1));
          }
        });
    return y;
  }

  /// What belongs to a head's queries.
  private MemorySegment own(MemorySegment all, long head, int numbers) {
    long bytes = (long) group * numbers * Float.BYTES;
    return all.asSlice(head * bytes, bytes);
  }
}
