package dev.sluice.kernel;

import java.lang.foreign.AddressLayout;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.util.Arrays;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ConcurrentHashMap;
import org.jspecify.annotations.Nullable;

/// One token's attention over a cache, as fast as keys and values are read: the machine code of
/// [AttentionCode]. The definition is [ScalarKernels#oneTokenAttention]. Queries of several tokens
/// may [#take] the keys together that all of them see.
///
/// The bits of a query's result depend on the query, on the keys and on the values, and on nothing
/// else.
public final class MachineAttention {
  private static final int VECTOR = 16;

  /// The widest head, in vectors.
  private static final int MOST_VECTORS = 16;

  /// Keys and values of a call, in bytes, once for each query: a twentieth of a millisecond, since
  /// nobody can stop a thread in it.
  private static final long CALL = 1 << 18;

  private static final AddressLayout POINTER = ValueLayout.ADDRESS;
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT;
  private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG;
  private static final MethodHandle ATTEND =
      MachineCode.shortCall(
          FunctionDescriptor.ofVoid(
              POINTER, POINTER, POINTER, LONG, LONG, POINTER, LONG, LONG, FLOAT));

  private static final boolean IS_POSSIBLE = MachineCode.hasVectors512();

  private record Form(int width, boolean bfloat16) {}

  /// Empty where the system refused.
  private static final Map<Form, Optional<MachineAttention>> BY_FORM = new ConcurrentHashMap<>();

  private final int width;
  private final boolean bfloat16;
  private final MemorySegment function;

  /// What a query that has seen nothing has: sums of values, the largest score, and sums of
  /// weights.
  private final float[] nothing;

  private MachineAttention(Form form, MemorySegment function) {
    this.width = form.width;
    this.bfloat16 = form.bfloat16;
    this.function = function;
    this.nothing = new float[width + 2 * VECTOR];
    Arrays.fill(nothing, width, width + VECTOR, Float.NEGATIVE_INFINITY);
  }

  /// Attention of heads of so many numbers, a multiple of 16 up to 256; null for another number,
  /// where the processor has no AVX-512, or where the system does not let code run that was made
  /// here.
  ///
  /// @param bfloat16 whether keys and values are, or else float32
  public static @Nullable MachineAttention of(int width, boolean bfloat16) {
    if (!IS_POSSIBLE || width < VECTOR || width % VECTOR != 0 || width > MOST_VECTORS * VECTOR) {
      return null;
    }
    return BY_FORM
        .computeIfAbsent(
            new Form(width, bfloat16),
            form ->
                Optional.ofNullable(MachineCode.install(AttentionCode.of(width / VECTOR, bfloat16)))
                    .map(function -> new MachineAttention(form, function)))
        .orElse(null);
  }

  /// The numbers that [#attend] works in.
  public long stateNumbers(int group) {
    return group * (width + 2L * VECTOR);
  }

  /// Attends over the keys and values of one head.
  ///
  /// @param queries float32 `[group, width]`, those that share the head
  /// @param keys `[count, width]`, of the type that this was made for
  /// @param values likewise
  /// @param count of keys, at least one
  /// @param state [#stateNumbers] to work in
  /// @param y `[group, width]`, to be written
  /// @param logSumExp `[group]`, to be written
  public void attend(
      MemorySegment queries,
      Floats keys,
      Floats values,
      int count,
      int group,
      double scale,
      MemorySegment state,
      MemorySegment y,
      MemorySegment logSumExp) {
    if (count < 1) {
      throw new IllegalArgumentException("attention over %d keys".formatted(count));
    }
    requireType(keys, values);
    begin(group, state);
    take(queries, keys, values, count, group, scale, state);
    end(group, state, y, logSumExp);
  }

  /// Begins with what queries have seen: nothing.
  ///
  /// @param state [#stateNumbers] of so many queries, each of which has an equal part
  public void begin(int group, MemorySegment state) {
    for (int g = 0; g < group; g++) {
      MemorySegment.copy(
          nothing, 0, state, FLOAT, g * stateNumbers(1) * Float.BYTES, nothing.length);
    }
  }

  /// Lets queries see keys, after those that they have seen. The bits of a result do not depend on
  /// how keys are cut, where all pieces but the last are multiples of 16.
  ///
  /// @param count of keys; nothing happens where there is none
  public void take(
      MemorySegment queries,
      Floats keys,
      Floats values,
      int count,
      int group,
      double scale,
      MemorySegment state) {
    requireType(keys, values);
    long rowBytes = (long) width * Float.BYTES;
    long keptBytes = (long) width * (bfloat16 ? Short.BYTES : Float.BYTES);
    var own = queries.asSlice(0, group * rowBytes);
    var ownKeys = keys.memory().asSlice(0, count * keptBytes);
    var ownValues = values.memory().asSlice(0, count * keptBytes);
    var ownState = state.asSlice(0, stateNumbers(group) * Float.BYTES);
    long atOnce = Math.max(VECTOR, CALL / rowBytes / 2 / group / VECTOR * VECTOR);
    for (long from = 0; from < count; from += atOnce) {
      long run = Math.min(atOnce, count - from);
      try {
        ATTEND.invokeExact(
            function,
            own,
            ownKeys.asSlice(from * keptBytes),
            ownValues.asSlice(from * keptBytes),
            run / VECTOR,
            run % VECTOR,
            ownState,
            group / 2L,
            group % 2L,
            (float) scale);
      } catch (Throwable e) {
        throw MachineCode.unexpected(e);
      }
    }
  }

  private void requireType(Floats keys, Floats values) {
    if (keys.bfloat16() != bfloat16 || values.bfloat16() != bfloat16) {
      throw new IllegalArgumentException("keys and values are of another type");
    }
  }

  /// The results of what queries have seen, at least one key.
  ///
  /// @param y `[group, width]`, to be written
  /// @param logSumExp `[group]`, to be written
  public void end(int group, MemorySegment state, MemorySegment y, MemorySegment logSumExp) {
    float[] own = new float[nothing.length]; // whose loops need no compiler to be fast
    for (int g = 0; g < group; g++) {
      MemorySegment.copy(state, FLOAT, g * stateNumbers(1) * Float.BYTES, own, 0, own.length);
      float largest = own[width];
      float total = 0;
      for (int i = 0; i < VECTOR; i++) {
        total += own[width + VECTOR + i];
      }
      for (int c = 0; c < width; c++) {
        own[c] /= total;
      }
      MemorySegment.copy(own, 0, y, FLOAT, (long) g * width * Float.BYTES, width);
      logSumExp.setAtIndex(FLOAT, g, (float) (largest + Math.log(total)));
    }
  }
}
