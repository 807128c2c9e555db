package dev.sluice.operations;

import dev.sluice.kernel.Floats;
import dev.sluice.kernel.Kernels;
import dev.sluice.kernel.MachineAttention;
import dev.sluice.kernel.Rotations;
import dev.sluice.tensor.RmsNorm;
import dev.sluice.tensor.Scratch;
import dev.sluice.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import org.jspecify.annotations.Nullable;

/// What an attention layer does with one token between its products, as a step of [TokenSteps]:
/// each key and value head with the queries that share it is the work of one thread. It is QK-norm
/// and rotation ([Operations#rotatedHeads]), what the past takes up, attention
/// ([Operations#cachedAttention]) and the gate on its output ([Operations#sigmoidGate]).
public final class OneTokenAttention {
  /// @param heads N, query heads
  /// @param keyValueHeads M
  /// @param width H
  /// @param window the most keys that a query sees, 0 for all
  public record Shape(int heads, int keyValueHeads, int width, int window) {
    /// Query heads that share a key and value head.
    int group() {
      return heads / keyValueHeads;
    }
  }

  /// QK-norm, null where there is none.
  ///
  /// @param query what it multiplies queries with
  /// @param key likewise
  record Norms(Floats query, Floats key) {}

  private final Shape shape;
  private final @Nullable MachineAttention machine;
  private final Floats queries;
  private final Floats keys;
  private final Floats values;
  private final @Nullable Floats gateLogits;
  private final @Nullable Norms norms;
  private final double epsilon;
  private final Floats turned;
  private final Floats attended;
  private final Floats gated;

  // Of the token whose turn it is.
  private MemorySegment keyRoom = MemorySegment.NULL;
  private MemorySegment valueRoom = MemorySegment.NULL;
  private long room;
  private int before;
  private Rotations rotations = Rotations.NONE;

  /// @param queries `[N, H]`, as the product gives them
  /// @param keys `[M, H]`
  /// @param values `[M, H]`
  /// @param gateLogits of a plain sigmoid gate on the output, `[N, H]` or `[N]`; null for no gate
  /// @param norm that of the norms
  OneTokenAttention(
      TokenSteps steps,
      Shape shape,
      Floats queries,
      Floats keys,
      Floats values,
      @Nullable Floats gateLogits,
      @Nullable Norms norms,
      RmsNorm norm) {
    this.shape = shape;
    this.machine = MachineAttention.of(shape.width);
    this.queries = queries;
    this.keys = keys;
    this.values = values;
    this.gateLogits = gateLogits;
    this.norms = norms;
    this.epsilon = norm.epsilon();
    long size = (long) shape.heads * shape.width;
    this.turned = steps.vector(size);
    this.attended = steps.vector(size);
    this.gated = gateLogits == null ? attended : steps.vector(size);
    steps.shared(
        shape.keyValueHeads,
        1,
        (from, to) -> {
          for (long head = from; head < to; head++) {
            attend((int) head);
          }
        });
  }

  /// What comes out, `[N · H]`.
  public Floats result() {
    return gated;
  }

  /// Says what the steps will find before the next token.
  ///
  /// @param keyRoom `[1, M, room, H]`, float32, with those of as many tokens and room for one more,
  ///   which is written
  /// @param valueRoom likewise
  /// @param before how many tokens those are
  /// @param rotation of the token's position, or null where the layer turns nothing
  public void begin(Tensor keyRoom, Tensor valueRoom, int before, @Nullable Rotation rotation) {
    this.keyRoom = keyRoom.memory();
    this.valueRoom = valueRoom.memory();
    this.room = keyRoom.size(2);
    this.before = before;
    this.rotations = rotation == null ? Rotations.NONE : rotation.ofPositions(1);
  }

  private void attend(int head) {
    int group = shape.group();
    int width = shape.width;
    long bytes = (long) width * Float.BYTES;
    long start = head * room * bytes;
    var newKey = Floats.float32(keyRoom.asSlice(start + before * bytes, bytes));
    turn(keys.from((long) head * width), norms == null ? null : norms.key, newKey, 1);
    MemorySegment.copy(values.memory(), head * bytes, valueRoom, start + before * bytes, bytes);
    long first = (long) head * group;
    var own = turned.from(first * width);
    turn(queries.from(first * width), norms == null ? null : norms.query, own, group);

    int seen = shape.window == 0 ? before + 1 : Math.min(before + 1, shape.window);
    long from = start + (before + 1L - seen) * bytes;
    var ownQueries = turned.memory().asSlice(first * bytes, group * bytes);
    var ownKeys = keyRoom.asSlice(from, seen * bytes);
    var ownValues = valueRoom.asSlice(from, seen * bytes);
    var y = attended.memory().asSlice(first * bytes, group * bytes);
    var sums = Scratch.numbers("log-sum-exp", group, false).memory();
    double scale = 1 / Math.sqrt((double) width);
    if (machine != null) {
      var state = Scratch.numbers("state", machine.stateNumbers(group), false).memory();
      machine.attend(ownQueries, ownKeys, ownValues, seen, group, scale, state, y, sums);
    } else {
      Kernels.FASTEST.oneTokenAttention(
          ownQueries, ownKeys, ownValues, seen, group, width, scale, y, sums);
    }
    if (gateLogits != null) {
      long scores = gateLogits.length() / shape.heads;
      int sharing = Math.toIntExact(width / scores); // numbers of a score
      Kernels.FASTEST.sigmoidGate(
          attended, gateLogits, gated, sharing, first * scores, (first + group) * scores);
    }
  }

  private void turn(Floats heads, @Nullable Floats norm, Floats to, int count) {
    int width = shape.width;
    if (norm == null && rotations.pairs() == 0) {
      Kernels.FASTEST.copy(heads, to, 0, (long) count * width);
    } else {
      Kernels.FASTEST.normRotate(heads, norm, epsilon, rotations, to, count, width, 0, count);
    }
  }
}
