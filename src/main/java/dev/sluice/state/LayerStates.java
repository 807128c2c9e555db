package dev.sluice.state;

import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.OptionalInt;
import java.util.Set;
import java.util.function.UnaryOperator;
import java.util.stream.Stream;

/// What all layers keep of one sequence.
final class LayerStates implements AutoCloseable {
  /// Tokens for which there is room at first.
  private static final int SMALLEST_ROOM = 64;

  /// @param name of what the layer keeps
  record Key(int layer, String name) {
    @Override
    public String toString() {
      return "the " + name + " of layer " + layer;
    }
  }

  /// Keys and values, `[1, M, room, H]`.
  private final Map<Key, Tensor> growing = new LinkedHashMap<>();

  private final Map<Key, Tensor> recurrent = new LinkedHashMap<>();

  /// What recurrent states were before the last token of a tentative pass; memory for the next one
  /// where that has been taken up or back.
  private final Map<Key, Tensor> beforeLast = new LinkedHashMap<>();

  /// Those of them that the layers have asked for in the present pass.
  private final Set<Key> kept = new HashSet<>();

  /// Where the passes ended that read the first tokens, of this sequence alone. What follows the
  /// last of them was read in another way, if anything does.
  private final List<Integer> ends = new ArrayList<>();

  /// Takes note that a pass of this sequence alone has read the tokens from one length to another.
  void readAlone(int from, int to) {
    if (from < to && readAlone() == from) {
      ends.add(to);
    }
  }

  /// How many tokens were read by passes whose ends are known.
  int readAlone() {
    return ends.isEmpty() ? 0 : ends.getLast();
  }

  /// Where the pass ended that began there; nothing where that is not known.
  OptionalInt endOfPass(int begin) {
    int at = begin == 0 ? -1 : Collections.binarySearch(ends, begin);
    boolean known = (begin == 0 || at >= 0) && at + 1 < ends.size();
    return known ? OptionalInt.of(ends.get(at + 1)) : OptionalInt.empty();
  }

  /// Stores what the next tokens of a slot add, and gives all, as a view.
  ///
  /// @param added `[1, M, T, H]`
  /// @param type in which it is kept
  Tensor append(Slot slot, int layer, String name, Tensor added, ElementType type, int capacity) {
    int count = Math.toIntExact(added.size(2));
    if (added.size(0) != 1) {
      expect(slot, new Key(layer, name), false, false, added);
    }
    var all = room(slot, layer, name, added, type, added.size(1), added.size(3), count, capacity);
    try (var _ = Scope.withoutGradient()) { // else every step would hang its graph on the state
      all.put(slot.length(), added);
    }
    return all.narrow(2, 0, slot.length() + count);
  }

  /// All memory of what grows with the tokens, `[1, M, room, H]`, with room for the next ones,
  /// which the caller writes.
  ///
  /// @param like a tensor on the layer's device
  /// @param heads M
  /// @param width H
  /// @param count how many tokens are next
  Tensor room(
      Slot slot,
      int layer,
      String name,
      Tensor like,
      ElementType type,
      long heads,
      long width,
      int count,
      int capacity) {
    var key = new Key(layer, name);
    int tokens = Math.addExact(slot.length(), count);
    if (tokens > capacity) {
      throw new IllegalStateException(
          "%s has no room for %d more; a slot holds %d".formatted(slot, count, capacity));
    }
    var all = growing.get(key);
    boolean fits =
        all != null && all.type() == type && all.size(1) == heads && all.size(3) == width;
    expect(slot, key, all == null, fits, like);
    if (all == null || all.size(2) < tokens) {
      try (var _ = Scope.withoutGradient()) {
        var larger =
            Tensor.uninitialized(
                like, type, 1, heads, room(Math.max(tokens, slot.expected), capacity), width);
        if (all != null) {
          larger.narrow(2, 0, slot.length()).copyFrom(all.narrow(2, 0, slot.length()));
          all.close();
        }
        all = larger.retain();
        growing.put(key, all);
      }
    }
    return all;
  }

  /// A recurrent state, `[1, …]`; zeros before the first token.
  Tensor recurrent(
      Slot slot, int layer, String name, Tensor like, ElementType type, long... shape) {
    var key = new Key(layer, name);
    var state = recurrent.get(key);
    long[] whole = new long[shape.length + 1];
    whole[0] = 1;
    System.arraycopy(shape, 0, whole, 1, shape.length);
    expect(
        slot,
        key,
        state == null,
        state != null && state.type() == type && Arrays.equals(state.shape(), whole),
        like);
    if (state == null) {
      try (var _ = Scope.withoutGradient()) {
        state = Tensor.uninitialized(like, type, whole).fill(0).retain();
      }
      recurrent.put(key, state);
    }
    return state;
  }

  /// Memory for what a recurrent state is before the last token of the present pass.
  Tensor beforeLast(int layer, String name) {
    var key = new Key(layer, name);
    var state = recurrent.get(key);
    if (state == null) {
      throw new IllegalStateException(key + " is not there");
    }
    kept.add(key);
    return beforeLast.computeIfAbsent(
        key, _ -> Tensor.uninitialized(state, state.type(), state.shape()).retain());
  }

  /// Forgets what was kept for [#retract].
  void forgetBeforeLast() {
    kept.clear();
  }

  /// Takes the last token back, the last of a pass that left the state before it of every layer
  /// that has one; the keys and values of so many tokens count no more.
  ///
  /// @param tokens with the last one
  void retract(Slot slot, int tokens) {
    if (!kept.containsAll(recurrent.keySet())) {
      throw new IllegalStateException(
          slot + " has recurrent states whose layers did not keep what they were a token before");
    }
    for (var key : kept) {
      recurrent.put(
          key,
          Objects.requireNonNull(beforeLast.put(key, Objects.requireNonNull(recurrent.get(key)))));
    }
    kept.clear();
    if (readAlone() == tokens) {
      ends.removeLast();
      readAlone(readAlone(), tokens - 1);
    }
  }

  /// A layer finds nothing before the first token, and what it left itself after it.
  private static void expect(Slot slot, Key key, boolean absent, boolean fits, Tensor added) {
    if (absent ? slot.length() > 0 : !fits) {
      throw new IllegalStateException(
          "%s does not hold %s as this model has them (%s)".formatted(slot, key, added));
    }
  }

  /// How many tokens there is to be room for when there are `tokens`.
  private static int room(int tokens, int capacity) {
    long doubled = SMALLEST_ROOM;
    while (doubled < tokens) {
      doubled *= 2;
    }
    return (int) Math.min(doubled, capacity);
  }

  /// The first layer that has a recurrent state.
  OptionalInt firstRecurrentLayer() {
    return recurrent.keySet().stream().mapToInt(Key::layer).min();
  }

  /// Refuses to leave tokens out where there is a recurrent state.
  void requireCuttable(Slot slot, int tokens) {
    firstRecurrentLayer()
        .ifPresent(
            layer -> {
              throw new IllegalStateException(
                  ("%s has no prefix of %d: layer %d has a recurrent state, which is of all tokens"
                          + " and cannot be cut; take a snapshot when the sequence has %d")
                      .formatted(slot, tokens, layer, tokens));
            });
  }

  /// A copy of what belongs to the first `tokens`.
  ///
  /// @param capacity the most tokens that the copy will have
  LayerStates copy(int tokens, int capacity) {
    var copy = new LayerStates();
    try (var _ = Scope.withoutGradient()) {
      if (tokens > 0) {
        growing.forEach(
            (key, all) -> {
              var fresh =
                  Tensor.uninitialized(
                      all, all.type(), 1, all.size(1), room(tokens, capacity), all.size(3));
              copy.growing.put(key, fresh.retain());
              fresh.narrow(2, 0, tokens).copyFrom(all.narrow(2, 0, tokens));
            });
        recurrent.forEach(
            (key, all) -> {
              var fresh = Tensor.uninitialized(all, all.type(), all.shape());
              copy.recurrent.put(key, fresh.retain().copyFrom(all));
            });
        ends.stream().takeWhile(end -> end <= tokens).forEach(copy.ends::add);
      }
      return copy;
    } catch (RuntimeException | Error e) {
      copy.close();
      throw e;
    }
  }

  /// A part of what is held, under the same names, with memory of its own.
  record Part(Map<Key, Tensor> tensors) implements AutoCloseable {
    static Part none() {
      return new Part(new LinkedHashMap<>());
    }

    private static Part copy(Map<Key, Tensor> from, UnaryOperator<Tensor> view) {
      var part = new Part(new LinkedHashMap<>());
      try (var _ = Scope.withoutGradient()) {
        from.forEach(
            (key, all) -> {
              var seen = view.apply(all);
              var fresh = Tensor.uninitialized(seen, seen.type(), seen.shape());
              part.tensors.put(key, fresh.retain().copyFrom(seen));
            });
        return part;
      } catch (RuntimeException | Error e) {
        part.close();
        throw e;
      }
    }

    long bytes() {
      return LayerStates.bytes(tensors.values().stream());
    }

    @Override
    public void close() {
      tensors.values().forEach(Tensor::close);
      tensors.clear();
    }
  }

  /// Copies of the keys and values of some tokens, `[1, M, to − from, H]`.
  Part keysAndValues(int from, int to) {
    return Part.copy(growing, all -> all.narrow(2, from, to - from));
  }

  /// Copies of the recurrent states.
  Part recurrentStates() {
    return Part.copy(recurrent, all -> all);
  }

  /// Keys and values, of all that there is room for.
  Map<Key, Tensor> growing() {
    return growing;
  }

  Map<Key, Tensor> recurrent() {
    return recurrent;
  }

  /// What the layers of this model keep, a line each: layer, name, element type and shape, with ?
  /// for the number of tokens.
  String form() {
    var lines = new StringBuilder();
    growing.forEach(
        (key, all) ->
            lines.append(
                "%s: %s [1, %d, ?, %d]\n".formatted(key, all.type(), all.size(1), all.size(3))));
    recurrent.forEach((key, all) -> lines.append("%s: %s\n".formatted(key, all)));
    return lines.toString();
  }

  /// The states of a sequence of which there are pieces.
  ///
  /// @param pieces keys and values of tokens that follow one another, the first `tokens` of which
  ///   are taken
  /// @param recurrentStates after the last of them
  /// @param ends of passes that read the first of them
  /// @param capacity the most tokens that there will be
  static LayerStates joined(
      List<Part> pieces, Part recurrentStates, int tokens, List<Integer> ends, int capacity) {
    var joined = new LayerStates();
    try (var _ = Scope.withoutGradient()) {
      for (var key : pieces.getFirst().tensors.keySet()) {
        Tensor all = null;
        int length = 0;
        for (var piece : pieces) {
          var part = Objects.requireNonNull(piece.tensors.get(key));
          if (all == null) {
            all =
                Tensor.uninitialized(
                        part, part.type(), 1, part.size(1), room(tokens, capacity), part.size(3))
                    .retain();
            joined.growing.put(key, all);
          }
          int taken = (int) Math.min(part.size(2), tokens - length);
          all.narrow(2, length, taken).copyFrom(part.narrow(2, 0, taken));
          length += taken;
        }
      }
      joined.recurrent.putAll(Part.copy(recurrentStates.tensors, all -> all).tensors);
      joined.ends.addAll(ends);
      return joined;
    } catch (RuntimeException | Error e) {
      joined.close();
      throw e;
    }
  }

  /// Bytes of the tensors.
  long bytes() {
    return bytes(tensors());
  }

  private static long bytes(Stream<Tensor> tensors) {
    return tensors.mapToLong(tensor -> tensor.elements() * tensor.type().bytes()).sum();
  }

  /// All that is held, keys and values first.
  Stream<Tensor> tensors() {
    return Stream.concat(growing.values().stream(), recurrent.values().stream());
  }

  @Override
  public void close() {
    tensors().forEach(Tensor::close);
    beforeLast.values().forEach(Tensor::close);
    growing.clear();
    recurrent.clear();
    beforeLast.clear();
  }
}
