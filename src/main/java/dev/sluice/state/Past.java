package dev.sluice.state;

import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import java.util.function.IntFunction;
import org.jspecify.annotations.Nullable;

/// The sequences that a forward pass continues, one for each row of its batch: the model's side of
/// a [SequenceState]. It may be used for one pass after the other.
///
/// All rows take as many tokens, after lengths of their own. So what depends on the length goes row
/// by row.
public final class Past {
  private static final String KEYS = "keys";
  private static final String VALUES = "values";

  private final SequenceState state;
  private final List<Slot> slots;
  private final boolean tentative;

  /// @param tentative whether the last token of a pass may be taken back
  Past(SequenceState state, List<Slot> slots, boolean tentative) {
    this.state = state;
    this.slots = slots;
    this.tentative = tentative;
  }

  /// How many sequences these are, B.
  public int rows() {
    return slots.size();
  }

  /// How many tokens each has.
  public int[] lengths() {
    return slots.stream().mapToInt(Slot::length).toArray();
  }

  /// Says that a pass begins. If it is refused, nothing has changed.
  ///
  /// @param rows of the batch
  /// @param tokens of each row
  public void begin(long rows, int tokens) {
    if (rows != slots.size()) {
      throw new IllegalArgumentException(
          "a batch of %d rows for %d slots".formatted(rows, slots.size()));
    }
    if (tentative && tokens < 2) {
      throw new IllegalArgumentException("a tentative pass has two tokens or more, not " + tokens);
    }
    for (var slot : slots) {
      state.requireWhole(slot);
      if ((long) slot.length + tokens > state.capacity()) {
        throw new IllegalStateException(
            "%s has no room for %d more; a slot holds %d"
                .formatted(slot, tokens, state.capacity()));
      }
    }
    for (var slot : slots) {
      slot.underWay = true;
      slot.tentative = false;
      slot.states.forgetBeforeLast();
    }
  }

  /// Says that every layer has taken `tokens` more of each row: the pass has ended.
  public void advance(int tokens) {
    for (var slot : slots) {
      if (slots.size() == 1) {
        slot.states.readAlone(slot.length, slot.length + tokens);
      }
      slot.length += tokens;
      slot.underWay = false;
      slot.tentative = tentative;
    }
  }

  /// Stores new keys `[1, M, T, H]` of a layer and gives all of the row, `[1, M, S, H]`: a view,
  /// valid until the next pass.
  public Tensor keys(int layer, int row, Tensor added) {
    return append(layer, KEYS, row, added);
  }

  /// Stores new values `[1, M, T, H]` of a layer and gives all of the row, `[1, M, S, H]`: a view,
  /// valid until the next pass.
  public Tensor values(int layer, int row, Tensor added) {
    return append(layer, VALUES, row, added);
  }

  /// All memory of a layer's keys, `[1, M, room, H]`, of a row, with room for one more token, which
  /// the caller writes; valid until the next pass.
  ///
  /// @param like a tensor on the layer's device
  /// @param heads M
  /// @param width H
  public Tensor roomForKeys(int layer, int row, Tensor like, long heads, long width) {
    return room(layer, KEYS, row, like, heads, width);
  }

  /// The same of values.
  public Tensor roomForValues(int layer, int row, Tensor like, long heads, long width) {
    return room(layer, VALUES, row, like, heads, width);
  }

  private Tensor room(int layer, String name, int row, Tensor like, long heads, long width) {
    var slot = requireUnderWay(slots.get(row));
    return slot.states.room(
        slot, layer, name, like, state.keyValueType(), heads, width, 1, state.capacity());
  }

  /// The recurrent state of a layer of that name, of each row: `[1, …]`, zeros before the first
  /// token. It is to be changed in place.
  ///
  /// @param like a tensor on the layer's device
  /// @param shape of one sequence's
  public List<Tensor> recurrent(
      int layer, String name, Tensor like, ElementType type, long... shape) {
    var states = new ArrayList<Tensor>();
    for (var slot : slots) {
      states.add(requireUnderWay(slot).states.recurrent(slot, layer, name, like, type, shape));
    }
    return states;
  }

  /// Where a layer puts what its recurrent state of that name is before the last token of the pass,
  /// of each row; null where nobody takes that token back.
  public @Nullable List<Tensor> beforeLast(int layer, String name) {
    return tentative
        ? slots.stream().map(slot -> requireUnderWay(slot).states.beforeLast(layer, name)).toList()
        : null;
  }

  /// Works on each row by itself.
  ///
  /// @param work from a row's number to its result, `[1, …]`
  /// @return the results together, `[B, …]`
  public Tensor byRow(IntFunction<Tensor> work) {
    if (slots.size() == 1) {
      return work.apply(0);
    }
    var results = new ArrayList<Tensor>();
    for (int row = 0; row < slots.size(); row++) {
      results.add(work.apply(row));
    }
    return Tensor.concatenate(results, 0);
  }

  /// One row of a batch, `[1, …]`, as a view.
  public static Tensor row(Tensor batch, int row) {
    return batch.size(0) == 1 ? batch : batch.narrow(0, row, 1);
  }

  private Tensor append(int layer, String name, int row, Tensor added) {
    var slot = requireUnderWay(slots.get(row));
    return slot.states.append(slot, layer, name, added, state.keyValueType(), state.capacity());
  }

  private Slot requireUnderWay(Slot slot) {
    state.require(slot);
    if (!slot.underWay) {
      throw new IllegalStateException("no pass over " + slot + " has begun");
    }
    return slot;
  }
}
