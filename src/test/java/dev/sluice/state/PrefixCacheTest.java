package dev.sluice.state;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.files.Sha256;
import dev.sluice.state.PrefixCache.Reuse;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.SplittableRandom;
import java.util.function.Consumer;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.io.TempDir;

/// The cache without a model: layer 0 has keys and values, which are the token and its place; layer
/// 1, where there is one, a recurrent state, which is the sum of the keys.
class PrefixCacheTest {
  private static final int[] NO_ENDS = {};

  /// Bytes of a token: itself, its key and its value of two numbers.
  private static final int TOKEN = 4 + 2 * 2 * 4;

  private static final int CHECKPOINT = 2 * 4;

  @TempDir private Path directory;

  private Scope scope;
  private final SequenceState state = new SequenceState(20, 100);

  @BeforeEach
  void open() {
    Libtorch.poisonUninitialized(true);
    scope = Scope.withoutGradient();
  }

  @AfterEach
  void close() {
    state.close();
    scope.close();
    Libtorch.poisonUninitialized(false);
  }

  private static Tensor keys(int[] ids, int from, int to) {
    float[] values = new float[2 * (to - from)];
    for (int i = from; i < to; i++) {
      values[2 * (i - from)] = ids[i];
      values[2 * (i - from) + 1] = i;
    }
    return Tensor.of(values, 1, 1, to - from, 2);
  }

  /// Takes tokens up in one pass.
  private void pass(Slot slot, int[] ids, int to, boolean recurrent) {
    int from = slot.length();
    var past = state.past(slot);
    past.begin(1, to - from);
    var added = keys(ids, from, to);
    past.keys(0, 0, added);
    past.values(0, 0, added.times(2));
    if (recurrent) {
      var sum = past.recurrent(1, "memory", added, ElementType.FLOAT32, 2).getFirst();
      for (int i = from; i < to; i++) {
        sum.copyFrom(sum.plus(keys(ids, i, i + 1).reshape(1, 2)));
      }
    }
    past.advance(to - from);
  }

  /// Reads a text as far as to the last end, and keeps it at each.
  private void read(PrefixCache cache, int[] ids, boolean recurrent, int... ends) {
    var slot = cache.restore(state, ids, ends, Reuse.EXACT);
    requireRead(slot, ids, recurrent);
    for (int end : ends) {
      if (end > slot.length()) {
        pass(slot, ids, end, recurrent);
        cache.keep(state, slot, ids);
      }
    }
    requireRead(slot, ids, recurrent);
    state.release(slot);
  }

  /// Whether a slot holds what reading its tokens leaves.
  private void requireRead(Slot slot, int[] ids, boolean recurrent) {
    if (slot.length() == 0) {
      return;
    }
    var past = state.past(slot);
    past.begin(1, 0);
    var none = Tensor.zeros(ElementType.FLOAT32, 1, 1, 0, 2);
    var expected = keys(ids, 0, slot.length());
    assertArrayEquals(expected.floats(), past.keys(0, 0, none).floats());
    assertArrayEquals(expected.times(2).floats(), past.values(0, 0, none).floats());
    if (recurrent) {
      float[] sum = new float[2];
      for (int i = 0; i < slot.length(); i++) {
        sum[0] += ids[i];
        sum[1] += i;
      }
      assertArrayEquals(
          sum, past.recurrent(1, "memory", none, ElementType.FLOAT32, 2).getFirst().floats());
    }
    past.advance(0);
  }

  /// How many tokens of a text are cached, which are checked.
  private int cached(PrefixCache cache, int[] ids, boolean recurrent, Reuse reuse, int... ends) {
    var slot = cache.restore(state, ids, ends, reuse);
    requireRead(slot, ids, recurrent);
    int length = slot.length();
    state.release(slot);
    return length;
  }

  private static int[] text(int count, long seed) {
    return new SplittableRandom(seed).ints(count, 0, 1000).toArray();
  }

  /// The first tokens of a text, then others.
  private static int[] changed(int[] ids, int from, int... others) {
    int[] changed = Arrays.copyOf(ids, from + others.length);
    System.arraycopy(others, 0, changed, from, others.length);
    return changed;
  }

  @Test
  void exactTakesWhatTheSamePassesLeft() {
    try (var cache = new PrefixCache("a", 1 << 20)) {
      int[] ids = text(30, 1);
      read(cache, ids, true, 10, 20, 29);
      assertEquals(29, cached(cache, ids, true, Reuse.EXACT, 10, 20, 29));
      assertEquals(20, cached(cache, ids, true, Reuse.EXACT, 10, 20, 28));
      assertEquals(10, cached(cache, ids, true, Reuse.EXACT, 10, 21, 29));
      assertEquals(0, cached(cache, ids, true, Reuse.EXACT, 20, 29));
      assertEquals(10, cached(cache, changed(ids, 20, -1, 5), true, Reuse.EXACT, 10, 21));
      assertEquals(20, cached(cache, changed(ids, 20, -1, 5), true, Reuse.EXACT, 10, 20));
      assertEquals(0, cached(cache, changed(ids, 9, -1, 5), true, Reuse.EXACT, 10));
      // The end of a text is never taken, since what follows it is not known.
      assertEquals(20, cached(cache, changed(ids, 29), true, Reuse.EXACT, 10, 20, 29));
      assertEquals(0, cached(cache, new int[] {ids[0]}, true, Reuse.EXACT, NO_ENDS));
    }
  }

  @Test
  void longestEndsAtACheckpointOrWithoutStatesAnywhere() {
    int[] ids = text(30, 2);
    for (boolean recurrent : new boolean[] {true, false}) {
      try (var cache = new PrefixCache("a", 1 << 20)) {
        read(cache, ids, recurrent, 10, 20, 29);
        for (int same = 0; same <= 29; same++) {
          int[] other = changed(ids, same, -1, -2);
          int expected = recurrent ? (same == 29 ? 29 : same / 10 * 10) : same;
          assertEquals(expected, cached(cache, other, recurrent, Reuse.LONGEST));
          assertEquals(
              recurrent ? (same - 1) / 10 * 10 : Math.max(0, same - 1),
              cached(cache, changed(ids, Math.max(1, same)), recurrent, Reuse.LONGEST));
        }
      }
    }
  }

  /// Tokens read one by one, in company, or after a beginning that was cut are found by those alone
  /// who take anything.
  @Test
  void whatOtherPassesLeftIsNotExact() {
    int[] ids = text(40, 3);
    for (String how : List.of("one by one", "in company", "cut")) {
      boolean recurrent = !how.equals("cut");
      try (var cache = new PrefixCache("a", 1 << 20)) {
        read(cache, ids, recurrent, 10);
        if (how.equals("cut")) {
          read(cache, changed(ids, 10, text(10, 4)), false, 10, 20);
          read(cache, ids, false, 10, 30);
        }
        var slot =
            cache.restore(
                state,
                changed(ids, 20, -1),
                new int[] {10},
                how.equals("cut") ? Reuse.LONGEST : Reuse.EXACT);
        assertEquals(how.equals("cut") ? 20 : 10, slot.length());
        if (how.equals("in company")) {
          var other = state.copyPrefix(slot, 10);
          var past = state.past(slot, other);
          past.begin(2, 10);
          var added = keys(ids, 10, 20);
          for (int row = 0; row < 2; row++) {
            past.keys(0, row, added);
            past.values(0, row, added.times(2));
            var sum = past.recurrent(1, "memory", added, ElementType.FLOAT32, 2).get(row);
            for (int i = 10; i < 20; i++) {
              sum.copyFrom(sum.plus(keys(ids, i, i + 1).reshape(1, 2)));
            }
          }
          past.advance(10);
        }
        for (int to = slot.length() + 1; to <= 20; to++) {
          pass(slot, ids, to, recurrent);
        }
        pass(slot, ids, 35, recurrent);
        cache.keep(state, slot, ids);
        assertEquals(35, cached(cache, changed(ids, 35, -1), recurrent, Reuse.LONGEST), how);
        assertEquals(10, cached(cache, ids, recurrent, Reuse.EXACT, 10, 20, 35), how);
        assertEquals(10, cached(cache, ids, recurrent, Reuse.EXACT, 10, 11, 12, 13, 20, 35), how);
        state.release(slot);
      }
    }
  }

  /// `[0, 31]` and `[1, 0]` have the same hash of arrays.
  @Test
  void textsOfOneHashAreApart() {
    int[] one = {0, 31, 7};
    int[] other = {1, 0, 7};
    assertEquals(Arrays.hashCode(one), Arrays.hashCode(other));
    try (var cache = new PrefixCache("a", 1 << 20)) {
      read(cache, one, true, 2);
      assertEquals(0, cached(cache, other, true, Reuse.EXACT, 2));
      assertEquals(0, cached(cache, other, true, Reuse.LONGEST));
    }
  }

  /// Checkpoints that others follow go first, then pieces from the end, the oldest before the
  /// newest.
  @Test
  void theBudgetIsKept() {
    int[] a = text(31, 5);
    int[] b = changed(a, 10, text(21, 6));
    long both = 50L * TOKEN + 5 * CHECKPOINT;
    for (long budget = 0; budget <= both; budget += budget < both - 40 ? 40 : 4) {
      try (var cache = new PrefixCache("a", budget)) {
        read(cache, a, true, 10, 20, 30);
        read(cache, b, true, 10, 20, 30);
        assertTrue(cache.bytes() <= budget);
        long held = cache.pieces().stream().mapToLong(PrefixCache.Piece::bytes).sum();
        assertEquals(held, cache.bytes());
        int ofA = cached(cache, a, true, Reuse.EXACT, 10, 20, 30);
        int ofB = cached(cache, b, true, Reuse.EXACT, 10, 20, 30);
        assertTrue(ofB >= ofA, ofA + " and " + ofB);
        if (budget == both) {
          assertEquals(30, ofA);
          assertEquals(30, ofB);
        } else if (budget == both - CHECKPOINT) {
          assertEquals(30, ofA); // without the checkpoint within
          assertEquals(10, cached(cache, changed(a, 25, -1), true, Reuse.LONGEST));
        } else if (budget == both - 10 * TOKEN) {
          assertEquals(30, ofB);
          assertTrue(ofA < 30);
        }
      }
    }
  }

  private PrefixCache saved(Path file) throws IOException {
    var cache = new PrefixCache("the model", 1 << 20);
    int[] a = text(31, 7);
    read(cache, a, true, 10, 20, 30);
    read(cache, changed(a, 10, text(5, 8)), true, 10, 14);
    cache.save(file);
    return cache;
  }

  private PrefixCache load(Path file, String model, long budget, boolean recurrent) {
    var like = state.take();
    try {
      pass(like, new int[] {3}, 1, recurrent);
      return PrefixCache.load(file, model, budget, like);
    } finally {
      state.release(like);
    }
  }

  private PrefixCache load(Path file) {
    return load(file, "the model", 1 << 20, true);
  }

  @Test
  void whatIsSavedIsLoaded() throws IOException {
    var file = directory.resolve("cache");
    int[] a = text(31, 7);
    try (var _ = saved(file);
        var cache = load(file)) {
      assertEquals(30, cached(cache, a, true, Reuse.EXACT, 10, 20, 30));
      assertEquals(14, cached(cache, changed(a, 10, text(5, 8)), true, Reuse.EXACT, 10, 14));
      int[] longer = changed(a, 31, text(8, 9));
      read(cache, longer, true, 10, 20, 30, 38);
      cache.save(file);
      try (var again = load(file)) {
        assertEquals(38, cached(again, longer, true, Reuse.LONGEST));
        assertEquals(cache.bytes(), again.bytes());
      }
      for (long budget = 0; budget < cache.bytes(); budget += 200) {
        try (var small = load(file, "the model", budget, true)) {
          assertTrue(small.bytes() <= budget);
          cached(small, longer, true, Reuse.LONGEST);
        }
      }
    }
    var empty = directory.resolve("empty");
    try (var cache = new PrefixCache("the model", 0)) {
      cache.save(empty);
    }
    try (var cache = load(empty)) {
      assertEquals(0, cache.bytes());
    }
  }

  private void refuses(Path file, String words) {
    var refusal = assertThrows(InvalidInputException.class, () -> load(file).close(), words);
    assertTrue(refusal.getMessage().contains(words), refusal.getMessage());
    assertTrue(refusal.getMessage().contains("go on without it"), refusal.getMessage());
    assertTrue(refusal.getMessage().contains(file.toString()), refusal.getMessage());
  }

  @Test
  void aFileOfAnotherModelIsRefused() throws IOException {
    var file = directory.resolve("cache");
    saved(file).close();
    refuses(directory.resolve("none"), "does not exist");
    refuses(directory, "is a directory");
    var other =
        assertThrows(InvalidInputException.class, () -> load(file, "another", 1 << 20, true));
    assertTrue(other.getMessage().contains("of the model the model, not of another"));
    var form =
        assertThrows(InvalidInputException.class, () -> load(file, "the model", 1 << 20, false));
    assertTrue(form.getMessage().contains("this model has the keys of layer 0"), form.getMessage());
  }

  /// What is no cache is not written over; what is none any more, or one of others, is.
  @Test
  void nothingElseIsWrittenOver() throws IOException {
    var file = directory.resolve("letter.txt");
    Files.writeString(file, "Sluice, dear");
    var cache = new PrefixCache("tiny", 1L << 20);
    for (Executable writing :
        List.<Executable>of(() -> PrefixCache.requireReplaceable(file), () -> cache.save(file))) {
      var refusal = assertThrows(InvalidInputException.class, writing);
      assertTrue(
          refusal.getMessage().contains("letter.txt holds something else"), refusal::toString);
    }
    assertEquals("Sluice, dear", Files.readString(file));
    for (String begin : List.of("", "Slu", "Sluice prefixes 7 of the future")) {
      Files.writeString(file, begin);
      PrefixCache.requireReplaceable(file);
    }
    cache.save(file);
    cache.save(file);
    cache.close();
  }

  @Test
  void aDamagedFileIsRefused() throws IOException {
    var file = directory.resolve("cache");
    saved(file).close();
    byte[] bytes = Files.readAllBytes(file);
    var damaged = directory.resolve("damaged");
    for (int length = 0; length < bytes.length; length += 29) {
      Files.write(damaged, Arrays.copyOf(bytes, length));
      refuses(damaged, "");
    }
    for (int i = 0; i < bytes.length; i += 13) {
      byte[] flipped = bytes.clone();
      flipped[i] ^= (byte) (1 << i % 8);
      Files.write(damaged, flipped);
      refuses(damaged, "");
    }
    Files.write(damaged, Arrays.copyOf(bytes, bytes.length + 1));
    refuses(damaged, "damaged");
  }

  /// Numbers that lie, under a checksum that is right.
  @Test
  void numbersAreNotBelieved() throws IOException {
    var file = directory.resolve("cache");
    saved(file).close();
    byte[] bytes = Files.readAllBytes(file);
    String text = new String(bytes, StandardCharsets.ISO_8859_1);
    int model = text.indexOf("the model") - 4;
    int form = model + 4 + "the model".length();
    int pieces = form + 4 + ByteBuffer.wrap(bytes).getInt(form);
    int tokens = pieces + 4 + 4 + 2 + 16;
    var lies = new ArrayList<Consumer<ByteBuffer>>();
    for (int lie : new int[] {Integer.MAX_VALUE, Integer.MIN_VALUE, -1, 1 << 28, 1 << 20, 1, 0}) {
      for (int at : new int[] {model, form, pieces, tokens}) {
        lies.add(lying -> lying.putInt(at, lie));
      }
    }
    for (int parent : new int[] {0, 1, 2, Integer.MAX_VALUE, -2, Integer.MIN_VALUE}) {
      lies.add(lying -> lying.putInt(pieces + 4, parent));
    }
    var lied = directory.resolve("lied");
    for (var lie : lies) {
      var content = Arrays.copyOf(bytes, bytes.length - 32);
      lie.accept(ByteBuffer.wrap(content));
      Files.write(lied, content);
      var checksum = HexFormat.of().parseHex(Sha256.hex(content));
      Files.write(lied, checksum, StandardOpenOption.APPEND);
      if (ByteBuffer.wrap(content).getInt(pieces) == 0) {
        refuses(lied, "follow the last piece");
      } else {
        refuses(lied, "");
      }
    }
    // The same without a lie is taken.
    Files.write(lied, bytes);
    load(lied).close();
  }

  @Test
  void wrongUsesAreRefused() {
    var cache = new PrefixCache("a", 1 << 20);
    int[] ids = text(12, 10);
    var slot = state.take();
    pass(slot, ids, 10, true);
    assertThrows(
        IllegalArgumentException.class, () -> cache.keep(state, slot, Arrays.copyOf(ids, 9)));
    cache.keep(state, slot, ids);
    var other = state.take();
    pass(other, ids, 10, false);
    assertThrows(IllegalStateException.class, () -> cache.keep(state, other, ids));
    state.past(slot).begin(1, 1);
    assertThrows(IllegalStateException.class, () -> cache.keep(state, slot, ids));
    cache.close();
    assertEquals(0, cache.bytes());
    assertThrows(IllegalStateException.class, () -> cache.keep(state, slot, ids));
    assertFalse(cache.form().isEmpty());
  }
}
