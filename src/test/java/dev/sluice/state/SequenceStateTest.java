package dev.sluice.state;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;

/// Slots, without a model: layer 0 has keys and values, layer 1 a recurrent state.
class SequenceStateTest {
  private static final int HEADS = 2;
  private static final int WIDTH = 3;

  private Scope scope;

  @BeforeEach
  void open() {
    Libtorch.poisonUninitialized(true);
    scope = Scope.open();
  }

  @AfterEach
  void close() {
    scope.close();
    Libtorch.poisonUninitialized(false);
  }

  /// Keys `[1, M, T, H]` that say of which token they are, with `first` that of the first.
  private static Tensor tokens(int first, int count) {
    float[] values = new float[HEADS * count * WIDTH];
    for (int i = 0; i < values.length; i++) {
      values[i] = 100 * (first + i / WIDTH % count) + 10 * (i / WIDTH / count) + i % WIDTH;
    }
    return Tensor.of(values, 1, HEADS, count, WIDTH);
  }

  private static void pass(Past past, int first, int count) {
    pass(past, first, count, false);
  }

  /// Takes the tokens up, alike in each row.
  private static void pass(Past past, int first, int count, boolean recurrent) {
    past.begin(past.rows(), count);
    var added = tokens(first, count);
    for (int row = 0; row < past.rows(); row++) {
      past.keys(0, row, added);
      past.values(0, row, added);
    }
    if (recurrent) {
      memories(past).forEach(memory -> memory.copyFrom(memory.plus(count)));
    }
    past.advance(count);
  }

  private static List<Tensor> memories(Past past) {
    return past.recurrent(1, "memory", tokens(0, 1), ElementType.FLOAT32, 2, 2);
  }

  /// All keys of a slot.
  private static float[] keys(SequenceState state, Slot slot) {
    var past = state.past(slot);
    past.begin(1, 0);
    float[] keys = past.keys(0, 0, Tensor.zeros(ElementType.FLOAT32, 1, HEADS, 0, WIDTH)).floats();
    past.advance(0);
    return keys;
  }

  private static float[] memory(SequenceState state, Slot slot) {
    var past = state.past(slot);
    past.begin(1, 0);
    float[] memory = memories(past).getFirst().floats();
    past.advance(0);
    return memory;
  }

  private static void refuses(
      Class<? extends RuntimeException> type, String words, Executable wrong) {
    var refusal = assertThrows(type, wrong);
    assertTrue(refusal.getMessage().contains(words), refusal.getMessage());
  }

  private static void refuses(String words, Executable wrong) {
    refuses(IllegalStateException.class, words, wrong);
  }

  @Test
  void whatIsExpectedHasRoomFromTheFirstPassOn() {
    try (var state = new SequenceState(2, 4096)) {
      long ofToken = 2L * HEADS * WIDTH * Float.BYTES;
      var slot = state.take();
      slot.expect(300);
      pass(state.past(slot), 0, 100);
      assertEquals(512 * ofToken, slot.states.bytes());
      pass(state.past(slot), 100, 300); // more than was expected
      assertEquals(512 * ofToken, slot.states.bytes());
      pass(state.past(slot), 400, 200);
      assertEquals(1024 * ofToken, slot.states.bytes());
      assertArrayEquals(tokens(0, 600).floats(), keys(state, slot));
      var other = state.take();
      pass(state.past(other), 0, 100);
      assertEquals(128 * ofToken, other.states.bytes());
    }
  }

  @Test
  void roomGrowsWithoutTouchingWhatStandsThere() {
    try (var state = new SequenceState(1, 1000)) {
      var slot = state.take();
      int length = 0;
      for (int count : new int[] {1, 62, 1, 1, 63, 128, 1, 500, 243}) {
        pass(state.past(slot), length, count);
        length += count;
        assertEquals(length, slot.length());
        assertArrayEquals(tokens(0, length).floats(), keys(state, slot));
        assertTrue(slot.states.bytes() <= 2L * Math.max(2 * length, 64) * HEADS * WIDTH * 4);
      }
      assertEquals(2L * 1000 * HEADS * WIDTH * 4, slot.states.bytes());
    }
  }

  /// What a layer reads is where it was written, so nothing was copied.
  @Test
  void readingIsAView() {
    try (var state = new SequenceState(2, 1000)) {
      var past = state.past(state.take(), state.take());
      past.begin(2, 100);
      var all = past.keys(0, 1, tokens(0, 100));
      past.advance(100);
      past.begin(2, 1);
      var more = past.keys(0, 1, tokens(100, 1));
      past.advance(1);
      more.fill(7);
      assertEquals(7, all.max().item());
      assertEquals(7, all.mean().item(), 1e-6);
    }
  }

  @Test
  void slotsAreTakenAndReleasedWhileOthersGoOn() {
    try (var state = new SequenceState(3, 20)) {
      assertEquals(3, state.slots());
      assertEquals(20, state.capacity());
      var a = state.take();
      var b = state.take();
      pass(state.past(a), 0, 5);
      pass(state.past(b, a), 5, 2);
      assertEquals(1, state.free());
      assertArrayEquals(new int[] {2, 7}, state.past(b, a).lengths());
      state.release(a);
      assertEquals(2, state.free());
      var c = state.take();
      assertEquals(a.number(), c.number());
      assertEquals(0, c.length());
      pass(state.past(b, c), 7, 3);
      assertArrayEquals(tokens(5, 5).floats(), keys(state, b));
      assertArrayEquals(tokens(7, 3).floats(), keys(state, c));
      var d = state.take();
      assertNotEquals(b.number(), d.number());
      refuses("all 3 slots are taken", state::take);
      refuses("released", () -> state.past(a));
      refuses("released", () -> state.snapshot(a));
      refuses("released", () -> state.copyPrefix(a, 0));
      refuses("released", () -> state.release(a));
      assertEquals(0, state.free());
    }
  }

  @Test
  void snapshotsAreRestoredManyTimes() {
    try (var state = new SequenceState(4, 200);
        var other = new SequenceState(1, 70)) {
      var slot = state.take();
      pass(state.past(slot), 0, 65, true);
      try (var snapshot = state.snapshot(slot)) {
        assertEquals(65, snapshot.length());
        assertEquals(2L * 65 * HEADS * WIDTH * 4 + 16, snapshot.bytes());
        pass(state.past(slot), 65, 5, true);
        var first = state.restore(snapshot);
        pass(state.past(first), 90, 4, true);
        state.release(slot);
        for (var slots : List.of(state, other)) {
          var again = slots.restore(snapshot);
          assertEquals(65, again.length());
          assertArrayEquals(tokens(0, 65).floats(), keys(slots, again));
          assertArrayEquals(new float[] {65, 65, 65, 65}, memory(slots, again));
          pass(slots.past(again), 65, 1, true);
          assertArrayEquals(tokens(0, 66).floats(), keys(slots, again));
        }
        assertArrayEquals(new float[] {69, 69, 69, 69}, memory(state, first));
        refuses("all 1 slots are taken", () -> other.restore(snapshot));
      }
    }
  }

  @Test
  void prefixesOfKeysAndValuesAreCopied() {
    try (var state = new SequenceState(4, 200)) {
      var slot = state.take();
      pass(state.past(slot), 0, 100);
      for (int length : new int[] {0, 1, 64, 100}) {
        var copy = state.copyPrefix(slot, length);
        assertEquals(length, copy.length());
        pass(state.past(copy), length, 7);
        assertArrayEquals(tokens(0, length + 7).floats(), keys(state, copy));
        state.release(copy);
      }
      assertArrayEquals(tokens(0, 100).floats(), keys(state, slot));
      refuses(
          IllegalArgumentException.class,
          "no prefix of 101 tokens",
          () -> state.copyPrefix(slot, 101));
      refuses(IllegalArgumentException.class, "no prefix", () -> state.copyPrefix(slot, -1));
      assertEquals(3, state.free());
    }
  }

  @Test
  void aRecurrentStateCannotBeCut() {
    try (var state = new SequenceState(2, 200)) {
      var slot = state.take();
      pass(state.past(slot), 0, 9, true);
      refuses(
          "layer 1 has a recurrent state, which is of all tokens and cannot be cut",
          () -> state.copyPrefix(slot, 8));
      assertEquals(1, state.free());
      var whole = state.copyPrefix(slot, 9);
      pass(state.past(whole), 9, 1, true);
      assertArrayEquals(new float[] {9, 9, 9, 9}, memory(state, slot));
      assertArrayEquals(new float[] {10, 10, 10, 10}, memory(state, whole));
    }
  }

  /// All is checked before any layer has changed anything.
  @Test
  void aPassThatDoesNotFitChangesNothing() {
    try (var state = new SequenceState(2, 10)) {
      var full = state.take();
      var roomy = state.take();
      var both = state.past(roomy, full);
      pass(state.past(full), 0, 10);
      refuses(
          "slot 0 of 10 tokens has no room for 1 more; a slot holds 10", () -> both.begin(2, 1));
      refuses("no pass over", () -> both.keys(0, 0, tokens(0, 1)));
      refuses(IllegalArgumentException.class, "3 rows for 2 slots", () -> both.begin(3, 0));
      refuses(IllegalArgumentException.class, "1 rows for 2 slots", () -> both.begin(1, 0));
      pass(state.past(roomy), 0, 10);
      assertArrayEquals(tokens(0, 10).floats(), keys(state, roomy));
      var begun = state.past(roomy);
      begun.begin(1, 0);
      refuses("no room for 1 more", () -> begun.keys(0, 0, tokens(10, 1)));
    }
  }

  @Test
  void wrongUsesAreRefused() {
    refuses(IllegalArgumentException.class, "0 slots", () -> new SequenceState(0, 5));
    refuses(IllegalArgumentException.class, "-1 tokens", () -> new SequenceState(1, -1));
    refuses(
        IllegalArgumentException.class,
        "not in FLOAT16",
        () -> new SequenceState(1, 5, ElementType.FLOAT16));
    try (var state = new SequenceState(2, 10);
        var other = new SequenceState(3, 10)) {
      var slot = state.take();
      refuses(IllegalArgumentException.class, "no slots", state::past);
      refuses(IllegalArgumentException.class, "twice", () -> state.past(slot, slot));
      refuses("belongs to another state", () -> other.past(slot));
      other.take();
      other.take();
      var third = other.take();
      refuses("belongs to another state", () -> state.past(third));
      refuses("belongs to another state", () -> state.release(third));
      var past = state.past(slot);
      state.release(slot);
      state.take();
      refuses("released", () -> past.begin(1, 1));
    }
  }

  @Test
  void keysAndValuesOfAnotherTypeAreNotTakenUp() {
    try (var exact = new SequenceState(1, 10);
        var rounded = new SequenceState(1, 10, ElementType.BFLOAT16)) {
      var slot = exact.take();
      pass(exact.past(slot), 0, 2);
      try (var snapshot = exact.snapshot(slot)) {
        var past = rounded.past(rounded.restore(snapshot));
        past.begin(1, 1);
        refuses("keys of layer 0", () -> past.keys(0, 0, tokens(2, 1)));
      }
    }
  }

  /// A slot that one model has filled is not another's.
  @Test
  void anotherModelIsNoticed() {
    try (var state = new SequenceState(1, 10)) {
      var past = state.past(state.take());
      pass(past, 0, 2, true);
      past.begin(1, 1);
      refuses("keys of layer 1", () -> past.keys(1, 0, tokens(0, 1)));
      refuses(
          "keys of layer 0",
          () -> past.keys(0, 0, Tensor.zeros(ElementType.FLOAT32, 1, 1, 1, WIDTH)));
      refuses(
          "keys of layer 0",
          () -> past.keys(0, 0, Tensor.zeros(ElementType.FLOAT32, 2, HEADS, 1, WIDTH)));
      refuses(
          "memory of layer 1",
          () -> past.recurrent(1, "memory", tokens(0, 1), ElementType.FLOAT32, 2, 3));
      refuses(
          "memory of layer 2",
          () -> past.recurrent(2, "memory", tokens(0, 1), ElementType.FLOAT32, 2, 2));
    }
  }

  /// Recurrent states of which a pass has changed some would be wrong for ever after; keys and
  /// values beyond the length are written anew.
  @Test
  void aPassThatDidNotEnd() {
    try (var state = new SequenceState(2, 10)) {
      var attention = state.take();
      pass(state.past(attention), 0, 2);
      state.past(attention).begin(1, 3);
      pass(state.past(attention), 2, 3);
      assertArrayEquals(tokens(0, 5).floats(), keys(state, attention));

      var hybrid = state.take();
      pass(state.past(hybrid), 0, 2, true);
      var past = state.past(hybrid);
      past.begin(1, 1);
      memories(past).forEach(memory -> memory.fill(9));
      refuses("did not end", () -> past.begin(1, 1));
      refuses("did not end", () -> state.snapshot(hybrid));
      refuses("did not end", () -> state.copyPrefix(hybrid, 2));
      state.release(hybrid);
      assertEquals(1, state.free());
    }
  }

  private static List<Tensor> held(LayerStates states) {
    return states.tensors().toList();
  }

  private static void assertFreed(List<Tensor> tensors) {
    assertEquals(3, tensors.size());
    tensors.forEach(tensor -> assertThrows(RuntimeException.class, tensor::floats));
  }

  @Test
  void closingFreesMemory() {
    var state = new SequenceState(3, 100);
    var slots = IntStream.range(0, 3).mapToObj(_ -> state.take()).toList();
    pass(state.past(slots), 0, 5, true);
    var snapshot = state.snapshot(slots.getFirst());
    var ofSlots = new ArrayList<List<Tensor>>();
    slots.forEach(slot -> ofSlots.add(held(slot.states)));
    scope.close();
    scope = Scope.open();
    ofSlots.forEach(tensors -> assertEquals(HEADS * 64 * WIDTH, tensors.getFirst().elements()));

    pass(state.past(slots.getFirst()), 5, 60, true); // which moves the keys and values
    assertThrows(RuntimeException.class, ofSlots.getFirst().getFirst()::floats);
    ofSlots.set(0, held(slots.getFirst().states));
    state.release(slots.get(1));
    assertFreed(ofSlots.get(1));
    state.close();
    state.close();
    scope.close();
    scope = Scope.open();
    ofSlots.forEach(SequenceStateTest::assertFreed);
    assertEquals(0, state.free());
    refuses("the state is closed", state::take);
    refuses("the state is closed", () -> state.past(slots.getFirst()));
    refuses("the state is closed", () -> state.restore(snapshot));

    var ofSnapshot = held(snapshot.states());
    assertEquals(HEADS * 5 * WIDTH, ofSnapshot.getFirst().elements());
    snapshot.close();
    snapshot.close();
    assertFreed(ofSnapshot);
    try (var another = new SequenceState(1, 10)) {
      refuses("the snapshot is closed", () -> another.restore(snapshot));
      assertEquals(1, another.free());
    }
  }

  /// Outside of scopes too, where a tensor belongs to whoever makes it.
  @Test
  void closingFreesWhatWasMadeOutsideOfScopes() {
    scope.close();
    var added = tokens(0, 2);
    var state = new SequenceState(1, 10);
    var slot = state.take();
    var past = state.past(slot);
    past.begin(1, 2);
    past.keys(0, 0, added).close();
    past.values(0, 0, added).close();
    past.recurrent(1, "memory", added, ElementType.FLOAT32, 2);
    past.advance(2);
    added.close();
    var tensors = held(slot.states);
    state.close();
    assertFreed(tensors);
    scope = Scope.open();
  }
}
