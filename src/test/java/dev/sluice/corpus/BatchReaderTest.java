package dev.sluice.corpus;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.tokenizer.ByteTokenizer;
import dev.sluice.tokenizer.Tokenizers;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.BitSet;
import java.util.HashSet;
import java.util.Set;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class BatchReaderTest {
  /// Each id is its own place.
  private static TokenShard places(int length) {
    return TokenShard.of(IntStream.range(0, length).toArray());
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 2, 3, 4, 5, 7, 16, 17, 63, 64, 65, 1000, 4096, 4097, 100_003})
  void permutationMeetsEachNumberOnce(int size) {
    for (long key : new long[] {0, 1, -1, 123456789}) {
      var permutation = new Permutation(size, key);
      var met = new BitSet(size);
      for (int i = 0; i < size; i++) {
        met.set(Math.toIntExact(permutation.at(i)));
      }
      assertEquals(size, met.cardinality());
    }
  }

  @Test
  void permutationShuffles() {
    int size = 10_000;
    var permutation = new Permutation(size, 42);
    long neighbours = 0;
    double correlation = 0;
    for (int i = 0; i < size; i++) {
      if (i > 0 && Math.abs(permutation.at(i) - permutation.at(i - 1)) == 1) {
        neighbours++;
      }
      correlation += (i - (size - 1) / 2.0) * (permutation.at(i) - (size - 1) / 2.0);
    }
    correlation /= (double) size * size * size / 12;
    assertTrue(neighbours < 15, neighbours + " neighbours stay neighbours");
    assertEquals(0, correlation, 0.05);
    assertTrue(new Permutation(Long.MAX_VALUE / 4, 1).at(12345) >= 0);
  }

  @ParameterizedTest
  @ValueSource(ints = {20, 21, 99, 100, 101, 1009})
  void everyWindowComesOnceAnEpoch(int length) {
    int sequence = 10;
    int batch = 4;
    var reader = new BatchReader(places(length), batch, sequence, 5);
    long windows = reader.windows();
    assertEquals(length / sequence - 1, windows);
    for (int epoch = 0; epoch < 5; epoch++) {
      Set<Long> starts = new HashSet<>();
      Set<Long> shifts = new HashSet<>();
      for (long sample = epoch * windows; sample < (epoch + 1) * windows; sample++) {
        long[] ids = reader.batch(sample / batch);
        int row = (int) (sample % batch) * (sequence + 1);
        for (int i = 0; i <= sequence; i++) {
          assertEquals(ids[row] + i, ids[row + i]);
        }
        assertTrue(ids[row] >= 0 && ids[row + sequence] < length);
        starts.add(ids[row]);
        shifts.add(ids[row] % sequence);
      }
      assertEquals(windows, starts.size());
      assertEquals(1, shifts.size(), "one shift an epoch");
    }
  }

  @Test
  void bordersMoveAndOrdersDiffer() {
    var reader = new BatchReader(places(1000), 1, 10, 5);
    Set<Long> shifts = new HashSet<>();
    for (int epoch = 0; epoch < 40; epoch++) {
      shifts.add(reader.batch(epoch * reader.windows())[0] % 10);
    }
    assertTrue(shifts.size() > 5, shifts.toString());
    long[] first = firstIds(reader, 0);
    assertFalse(Arrays.equals(first, firstIds(reader, 1)));
    assertFalse(Arrays.equals(first, firstIds(new BatchReader(places(1000), 1, 10, 6), 0)));
  }

  private static long[] firstIds(BatchReader reader, long epoch) {
    long[] ids = new long[(int) reader.windows()];
    for (int i = 0; i < ids.length; i++) {
      ids[i] = reader.batch(epoch * reader.windows() + i)[0] / 10;
    }
    return ids;
  }

  @Test
  void aBatchDependsOnItsIndexAlone() {
    var forwards = new BatchReader(places(5000), 8, 16, 99);
    var backwards = new BatchReader(places(5000), 8, 16, 99);
    long[][] expected = new long[300][];
    for (int i = 0; i < 300; i++) {
      expected[i] = forwards.batch(i);
    }
    for (int i = 299; i >= 0; i -= 7) {
      assertArrayEquals(expected[i], backwards.batch(i));
      assertArrayEquals(expected[i], forwards.batch(i));
    }
    assertEquals(8 * 17, forwards.batch(1_000_000_000_000L).length);
    assertThrows(IllegalArgumentException.class, () -> forwards.batch(-1));
  }

  @Test
  void tooLittleTextIsNamed() {
    var e = assertThrows(InvalidInputException.class, () -> new BatchReader(places(19), 1, 10, 0));
    assertTrue(e.getMessage().contains("19 tokens, fewer than two windows of 10"), e.getMessage());
    assertThrows(InvalidInputException.class, () -> new BatchReader(places(100), 0, 10, 0));
    assertThrows(InvalidInputException.class, () -> new BatchReader(places(100), 1, 0, 0));
    e =
        assertThrows(
            InvalidInputException.class,
            () -> new HeldOutReader(places(20), 10, new ByteTokenizer()));
    assertTrue(e.getMessage().contains("20 tokens, fewer than two windows of 10"), e.getMessage());
    assertThrows(
        InvalidInputException.class, () -> new HeldOutReader(places(20), 0, new ByteTokenizer()));
    assertEquals(2, new HeldOutReader(places(21), 10, new ByteTokenizer()).count());
  }

  @Test
  void heldOutWindowsPredictEachTokenOnce() {
    var reader = new HeldOutReader(places(105), 10, new ByteTokenizer());
    assertEquals(10, reader.count());
    long next = 1;
    for (int i = 0; i < reader.count(); i++) {
      long[] window = reader.window(i);
      assertEquals(11, window.length);
      for (int t = 1; t < window.length; t++) {
        assertEquals(next++, window[t]);
      }
      assertEquals(10, reader.bytesOf(i));
    }
    assertThrows(IndexOutOfBoundsException.class, () -> reader.window(10));
    assertThrows(IndexOutOfBoundsException.class, () -> reader.bytesOf(10));
  }

  /// No loss a byte can be told where there are only separators.
  @Test
  void heldOutWindowsWithoutText() {
    var tokenizer = new ByteTokenizer();
    int[] ids = new int[30];
    var reader = new HeldOutReader(TokenShard.of(ids), 4, tokenizer);
    var e = assertThrows(InvalidInputException.class, () -> reader.sample(3));
    assertTrue(e.getMessage().contains("The 3 held-out windows hold no text"), e.getMessage());
    ids[2] = 'a';
    assertEquals(1, new HeldOutReader(TokenShard.of(ids), 4, tokenizer).sample(3).bytes());
  }

  /// The windows' bytes are those of the text, even if each border cuts a character.
  @ParameterizedTest
  @ValueSource(ints = {1, 2, 3, 5, 8, 13})
  void heldOutBytesAddUp(int sequenceLength) {
    var tokenizer = Tokenizers.load("src/test/resources/dev/sluice/tokenizer/tokenizer.json");
    String text = "The 鯨🐋 rose—naïve 🐋. ".repeat(7);
    int[] ids = tokenizer.encode(text);
    var reader = new HeldOutReader(TokenShard.of(ids), sequenceLength, tokenizer);
    long bytes = 0;
    for (int i = 0; i < reader.count(); i++) {
      bytes += reader.bytesOf(i);
    }
    int predicted = 1 + reader.count() * sequenceLength;
    int exact =
        tokenizer.decode(Arrays.copyOf(ids, predicted)).getBytes(StandardCharsets.UTF_8).length
            - tokenizer.decode(Arrays.copyOf(ids, 1)).length();
    assertEquals(exact, bytes, 5);
    if (predicted == ids.length) {
      assertEquals(exact, bytes);
    }
  }
}
