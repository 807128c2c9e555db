package dev.sluice.operations;

import dev.sluice.kernel.Floats;
import dev.sluice.kernel.Kernels;
import dev.sluice.kernel.MachineAttention;
import dev.sluice.kernel.Rotations;
import dev.sluice.tensor.RmsNorm;
import dev.sluice.tensor.Scratch;
import dev.sluice.tensor.Tensor;
import org.jspecify.annotations.Nullable;

/// What an attention layer does between its products with one token of each of B sequences, as a
/// step of [TokenSteps]: each key and value head with the queries that share it is the work of one
/// thread. It is QK-norm and rotation ([Operations#rotatedHeads]), what the past takes up,
/// attention ([Operations#cachedAttention]) and the gate on its output ([Operations#sigmoidGate]).
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
  private final Floats queries;
  private final Floats keys;
  private final Floats values;
  private final @Nullable Floats sinks;
  private final @Nullable Floats gateLogits;
  private final @Nullable Norms norms;
  private final double epsilon;
  private final Floats turned;
  private final Floats attended;
  private final Floats gated;

  /// What a sequence has before its token.
  ///
  /// @param keys `[M, room, H]`
  /// @param values likewise
  /// @param count how many of each there are
  /// @param position the number of the sequence's rotation
  private record Before(Floats keys, Floats values, long room, int count, int position) {}

  private final Before[] before;
  private Rotations rotations = Rotations.NONE;

  /// @param queries `[B, N, H]`, as the product gives them
  /// @param keys `[B, M, H]`
  /// @param values `[B, M, H]`
  /// @param sinks `[N]`, or null for plain softmax
  /// @param gateLogits of a plain sigmoid gate on the output, `[B, N, H]` or `[B, N]`; null for no
  ///   gate
  /// @param norm that of the norms
  OneTokenAttention(
      TokenSteps steps,
      Shape shape,
      Floats queries,
      Floats keys,
      Floats values,
      @Nullable Floats sinks,
      @Nullable Floats gateLogits,
      @Nullable Norms norms,
      RmsNorm norm) {
    this.shape = shape;
    this.queries = queries;
    this.keys = keys;
    this.values = values;
    this.sinks = sinks;
    this.gateLogits = gateLogits;
    this.norms = norms;
    this.epsilon = norm.epsilon();
    long size = (long) shape.heads * shape.width;
    this.turned = steps.rows(size);
    this.attended = steps.rows(size);
    this.gated = gateLogits == null ? attended : steps.rows(size);
    this.before = new Before[steps.sequences()];
    steps.shared(
        (long) before.length * shape.keyValueHeads,
        1,
        (from, to) -> {
          for (int i = (int) from; i < to; i++) {
            attend(i / shape.keyValueHeads, i % shape.keyValueHeads);
          }
        });
  }

  /// What comes out, `[B, N · H]`.
  public Floats result() {
    return gated;
  }

  /// Says what the steps will find of a sequence before its next token.
  ///
  /// @param keys `[1, M, room, H]`, float32 or bfloat16, with those of as many tokens and room for
  ///   one more, which is written
  /// @param values likewise
  /// @param count how many tokens those are
  public void begin(int sequence, Tensor keys, Tensor values, int count) {
    before[sequence] =
        new Before(
            keys.numbers(),
            values.numbers(),
            keys.size(2),
            count,
            rotations.positions() == 1 ? 0 : sequence);
  }

  /// Says how the next tokens turn, before [#begin].
  ///
  /// @param rotation of each sequence's token, or null where the layer turns nothing
  public void turn(@Nullable Rotation rotation) {
    rotations = rotation == null ? Rotations.NONE : rotation.ofPositions(1);
  }

  private void attend(int sequence, int head) {
    var own = before[sequence];
    int group = shape.group();
    int width = shape.width;
    long bytes = (long) width * Float.BYTES;
    long newest = (head * own.room + own.count) * width;
    long keyAt = (long) sequence * shape.keyValueHeads + head;
    var newKey = Scratch.numbers("key", width, false);
    var turns = own.position == 0 ? rotations : rotations.from(own.position);
    turn(keys.from(keyAt * width), norms == null ? null : norms.key, turns, newKey, 1);
    keep(newKey, own.keys.from(newest));
    keep(values.from(keyAt * width), own.values.from(newest));
    long first = (long) sequence * shape.heads + (long) head * group;
    var queriesTo = turned.from(first * width);
    var queryNorm = norms == null ? null : norms.query;
    turn(queries.from(first * width), queryNorm, turns, queriesTo, group);

    int seen = shape.window == 0 ? own.count + 1 : Math.min(own.count + 1, shape.window);
    long from = newest - (seen - 1L) * width;
    var ownQueries = turned.memory().asSlice(first * bytes, group * bytes);
    var ownKeys = own.keys.from(from);
    var ownValues = own.values.from(from);
    var y = attended.memory().asSlice(first * bytes, group * bytes);
    var sums = Scratch.numbers("log-sum-exp", group, false).memory();
    double scale = 1 / Math.sqrt((double) width);
    var machine = MachineAttention.of(width, ownKeys.bfloat16());
    if (machine != null) {
      var state = Scratch.numbers("state", machine.stateNumbers(group), false).memory();
      machine.attend(ownQueries, ownKeys, ownValues, seen, group, scale, state, y, sums);
    } else {
      Kernels.FASTEST.oneTokenAttention(
          ownQueries, ownKeys, ownValues, seen, group, width, scale, y, sums);
    }
    if (sinks != null) {
      var left = Floats.float32(sums); // what CausalAttention#drained leaves of attention
      var its = sinks.from((long) head * group);
      Kernels.FASTEST.weightedSum(left, 1, its, -1, left, 0, group);
      var heads = attended.from(first * width);
      Kernels.FASTEST.sigmoidGate(heads, left, heads, width, 0, group);
    }
    if (gateLogits != null) {
      long scores = gateLogits.length() / ((long) before.length * shape.heads);
      int sharing = Math.toIntExact(width / scores); // numbers of a score
      Kernels.FASTEST.sigmoidGate(
          attended, gateLogits, gated, sharing, first * scores, (first + group) * scores);
    }
  }

  /// Stores a key or a value, rounded where the numbers that are kept are bfloat16.
  private void keep(Floats vector, Floats to) {
    if (!to.bfloat16()) {
      Kernels.FASTEST.copy(vector, to, 0, shape.width);
      return;
    }
    for (int i = 0; i < shape.width; i++) {
      to.set(i, vector.get(i));
    }
  }

  private void turn(Floats heads, @Nullable Floats norm, Rotations turns, Floats to, int count) {
    int width = shape.width;
    if (norm == null && turns.pairs() == 0) {
      Kernels.FASTEST.copy(heads, to, 0, (long) count * width);
    } else {
      Kernels.FASTEST.normRotate(heads, norm, epsilon, turns, to, count, width, 0, count);
    }
  }
}
