package dev.sluice.state;

import dev.sluice.tensor.ElementType;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;

/// What the layers of a model keep of the tokens that went before, of several sequences at a time:
/// keys and values, which grow with every token, or recurrent states, which do not.
///
/// A sequence stands in a [Slot]. Slots are taken and released while others go on; each has a
/// length of its own. A forward pass continues some of them, its [Past]: row i of its batch is the
/// next piece of the sequence in slot i of the past.
///
/// ```java
/// try (var state = new SequenceState(1, capacity)) {
///   var past = state.past(state.take());
///   decoder.hiddenStates(prompt, past, Probe.NONE);
///   decoder.hiddenStates(nextToken, past, Probe.NONE);
/// }
/// ```
///
/// A slot takes no memory before its first token. The room of its keys and values doubles as the
/// sequence grows, up to the capacity, so that a slot holds at most twice of what it needs and a
/// token is moved once on the average. What a layer reads is a view of that room.
///
/// For one thread. A wrong use is an [IllegalStateException] or an [IllegalArgumentException], and
/// changes nothing.
public final class SequenceState implements AutoCloseable {
  private final int capacity;
  private final ElementType keyValueType;
  private final @Nullable Slot[] slots;
  private boolean closed;

  /// Keeps keys and values in float32.
  ///
  /// @param slots the most sequences at a time
  /// @param capacity the most tokens of each
  public SequenceState(int slots, int capacity) {
    this(slots, capacity, ElementType.FLOAT32);
  }

  /// @param slots the most sequences at a time
  /// @param capacity the most tokens of each
  /// @param keyValueType in which keys and values are kept, float32 or bfloat16; recurrent states
  ///   are float32 always
  public SequenceState(int slots, int capacity, ElementType keyValueType) {
    if (slots < 1 || capacity < 0) {
      throw new IllegalArgumentException(
          "a state needs at least one slot and no negative capacity, not %d slots of %d tokens"
              .formatted(slots, capacity));
    }
    if (keyValueType != ElementType.FLOAT32 && keyValueType != ElementType.BFLOAT16) {
      throw new IllegalArgumentException(
          "keys and values are kept in float32 or bfloat16, not in " + keyValueType);
    }
    this.capacity = capacity;
    this.keyValueType = keyValueType;
    this.slots = new @Nullable Slot[slots];
  }

  /// The most sequences at a time.
  public int slots() {
    return slots.length;
  }

  /// The most tokens of a sequence.
  public int capacity() {
    return capacity;
  }

  /// The element type of keys and values that are kept.
  public ElementType keyValueType() {
    return keyValueType;
  }

  /// How many more sequences can be taken.
  public int free() {
    return closed ? 0 : Math.toIntExact(Arrays.stream(slots).filter(Objects::isNull).count());
  }

  /// Takes a free slot for a sequence without tokens.
  public Slot take() {
    return take(LayerStates::new, 0);
  }

  /// Frees a slot and its memory. The handle cannot be used any more, also when another sequence
  /// stands there.
  public void release(Slot slot) {
    require(slot);
    slots[slot.number()] = null;
    slot.states.close();
  }

  /// A copy of a sequence as it is now, which may be restored many times.
  public Snapshot snapshot(Slot slot) {
    requireWhole(slot);
    return new Snapshot(slot.states.copy(slot.length(), slot.length()), slot.length());
  }

  /// Takes a free slot for a copy of the sequence that a snapshot holds. The snapshot may be of
  /// another state, of the same model.
  public Slot restore(Snapshot snapshot) {
    if (snapshot.length() > capacity) {
      throw new IllegalStateException(
          "a snapshot of %d tokens does not fit into a slot of %d"
              .formatted(snapshot.length(), capacity));
    }
    return take(() -> snapshot.states().copy(snapshot.length(), capacity), snapshot.length());
  }

  /// Takes a free slot for a copy of a sequence's first tokens. A recurrent state is of all tokens
  /// and cannot be cut: where there is one, `tokens` must be the whole length.
  public Slot copyPrefix(Slot from, int tokens) {
    requireWhole(from);
    if (tokens < 0 || tokens > from.length()) {
      throw new IllegalArgumentException("%s has no prefix of %d tokens".formatted(from, tokens));
    }
    if (tokens < from.length()) {
      from.states.requireCuttable(from, tokens);
    }
    return take(() -> from.states.copy(tokens, capacity), tokens);
  }

  /// What a forward pass continues.
  ///
  /// @param slots one for each row of its batch, in that order, none twice
  public Past past(Slot... slots) {
    return past(List.of(slots));
  }

  /// What a forward pass continues.
  ///
  /// @param slots one for each row of its batch, in that order, none twice
  public Past past(List<Slot> slots) {
    if (slots.isEmpty()) {
      throw new IllegalArgumentException("a pass over no slots");
    }
    slots.forEach(this::require);
    if (slots.stream().distinct().count() < slots.size()) {
      throw new IllegalArgumentException("a slot is there twice: " + slots);
    }
    return new Past(this, List.copyOf(slots), false);
  }

  /// What a forward pass continues of which the last token may be taken back afterwards, as when
  /// that is but guessed. The pass has two tokens or more, and the layers keep what their recurrent
  /// states are before the last of them.
  public Past tentative(Slot slot) {
    require(slot);
    return new Past(this, List.of(slot), true);
  }

  /// Takes back the last token of the last pass, a tentative one. What is kept has the bits that it
  /// had after the token before.
  public void retract(Slot slot) {
    requireWhole(slot);
    if (!slot.tentative) {
      throw new IllegalStateException("the last pass over %s was not tentative".formatted(slot));
    }
    slot.states.retract(slot, slot.length);
    slot.length--;
    slot.tentative = false;
  }

  /// Releases all slots.
  @Override
  public void close() {
    closed = true;
    for (var slot : slots.clone()) {
      if (slot != null) {
        release(slot);
      }
    }
  }

  /// Takes a free slot for a sequence of which there are states already.
  Slot take(Supplier<LayerStates> states, int length) {
    if (closed) {
      throw new IllegalStateException("the state is closed");
    }
    for (int number = 0; number < slots.length; number++) {
      if (slots[number] == null) {
        var slot = new Slot(number, states.get(), length);
        slots[number] = slot;
        return slot;
      }
    }
    throw new IllegalStateException(
        "all %d slots are taken; release one first".formatted(slots.length));
  }

  /// Refuses a slot that does not stand here.
  void require(Slot slot) {
    if (slots[Math.min(slot.number(), slots.length - 1)] != slot) {
      throw new IllegalStateException(
          closed
              ? "the state is closed"
              : slot + " was released, or belongs to another state; take one anew");
    }
  }

  /// Refuses a slot whose recurrent states may stand between two lengths, too.
  void requireWhole(Slot slot) {
    require(slot);
    if (slot.underWay && slot.states.firstRecurrentLayer().isPresent()) {
      throw new IllegalStateException(
          ("a pass over %s did not end, so that its recurrent states may hold a part of the tokens;"
                  + " release it")
              .formatted(slot));
    }
  }
}
