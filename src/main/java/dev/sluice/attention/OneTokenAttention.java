package dev.sluice.attention;

import dev.sluice.kernel.Floats;
import dev.sluice.kernel.Kernels;
import dev.sluice.kernel.MachineAttention;
import dev.sluice.kernel.Rotations;
import dev.sluice.operations.Operations;
import dev.sluice.operations.Rotation;
import dev.sluice.operations.TokenSteps;
import dev.sluice.state.Past;
import dev.sluice.tensor.Scratch;
import dev.sluice.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import org.jspecify.annotations.Nullable;

/// What an attention layer does with one token between its products, as a step of [TokenSteps]:
/// each key and value head with the queries that share it is the work of one thread. It is QK-norm
/// and rotation ([Operations#rotatedHeads]), what the past takes up, attention
/// ([Operations#cachedAttention]) and the gate on its output ([Operations#sigmoidGate]).
public final class OneTokenAttention {
  private final AttentionConfig config;
  private final int layer;
  private final int group;
  private final int width;
  private final @Nullable MachineAttention machine;
  private final Floats queries;
  private final Floats keys;
  private final Floats values;
  private final @Nullable Floats gateLogits;
  private final @Nullable Floats queryNorm;
  private final @Nullable Floats keyNorm;
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
  /// @param queryNorm what QK-norm multiplies with, or null where there is none
  /// @param keyNorm likewise
  OneTokenAttention(
      AttentionConfig config,
      int layer,
      TokenSteps steps,
      Floats queries,
      Floats keys,
      Floats values,
      @Nullable Floats gateLogits,
      @Nullable Floats queryNorm,
      @Nullable Floats keyNorm) {
    this.config = config;
    this.layer = layer;
    this.group = config.attentionHeads() / config.keyValueHeads();
    this.width = config.headDim();
    this.machine = MachineAttention.of(width);
    this.queries = queries;
    this.keys = keys;
    this.values = values;
    this.gateLogits = gateLogits;
    this.queryNorm = queryNorm;
    this.keyNorm = keyNorm;
    long size = (long) config.attentionHeads() * width;
    this.turned = steps.vector(size);
    this.attended = steps.vector(size);
    this.gated = gateLogits == null ? attended : steps.vector(size);
    steps.shared(
        config.keyValueHeads(),
        1,
        (from, to) -> {
          for (long head = from; head < to; head++) {
            attend((int) head);
          }
        });
  }

  /// What comes out, `[N · H]`.
  Floats result() {
    return gated;
  }

  /// Says what the steps will find before the next token: as many keys and values, with room for
  /// one more.
  ///
  /// @param past of one sequence, whose pass of one token has begun
  /// @param rotation of the token's position, or null where the layer turns nothing
  /// @param like a tensor on the CPU
  public void begin(Past past, @Nullable Rotation rotation, Tensor like) {
    var ofKeys = past.roomForKeys(layer, like, config.keyValueHeads(), width);
    var ofValues = past.roomForValues(layer, like, config.keyValueHeads(), width);
    keyRoom = ofKeys.memory();
    valueRoom = ofValues.memory();
    room = ofKeys.size(2);
    before = past.lengths()[0];
    rotations = rotation == null ? Rotations.NONE : rotation.ofPositions(1);
  }

  private void attend(int head) {
    var kernels = Kernels.FASTEST;
    double epsilon = config.norm().epsilon();
    long bytes = (long) width * Float.BYTES;
    long start = head * room * bytes;
    var newKey = Floats.float32(keyRoom.asSlice(start + before * bytes, bytes));
    turn(keys.from((long) head * width), keyNorm, newKey, 1);
    MemorySegment.copy(
        values.memory(), head * bytes, valueRoom, start + before * bytes, bytes);
    long first = (long) head * group;
    turn(queries.from(first * width), queryNorm, turned.from(first * width), group);

    int window = config.positions().window();
    int seen = window == 0 ? before + 1 : Math.min(before + 1, window);
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
      kernels.oneTokenAttention(
          ownQueries, ownKeys, ownValues, seen, group, width, scale, y, sums);
    }
    if (gateLogits != null) {
      long scores = gateLogits.length() / config.attentionHeads();
      int gatedBy = Math.toIntExact(width / scores); // numbers that share a score
      kernels.sigmoidGate(
          attended, gateLogits, gated, gatedBy, first * scores, (first + group) * scores);
    }
  }

  private void turn(Floats heads, @Nullable Floats norm, Floats to, int count) {
    if (norm == null && rotations.pairs() == 0) {
      Kernels.FASTEST.copy(heads, to, 0, (long) count * width);
    } else {
      Kernels.FASTEST.normRotate(
          heads, norm, config.norm().epsilon(), rotations, to, count, width, 0, count);
    }
  }
}
