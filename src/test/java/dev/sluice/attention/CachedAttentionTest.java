package dev.sluice.attention;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.sluice.gate.Granularity;
import dev.sluice.kernel.MachineAttention;
import dev.sluice.kernel.Threads;
import dev.sluice.probe.Probe;
import dev.sluice.state.Past;
import dev.sluice.state.SequenceState;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.io.IOException;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.stream.Stream;
import jdk.jfr.Recording;
import jdk.jfr.consumer.RecordingFile;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/// Attention over a cache, a sequence taken up in chunks, against the definition on the whole
/// sequence at once.
class CachedAttentionTest {
  private static final Probe EXPLICIT =
      new Probe() {
        @Override
        public boolean wantsAttention(int layer) {
          return true;
        }
      };

  /// The event of an object too large for a thread's own part of the heap.
  private static final String LARGE_OBJECT = "jdk.ObjectAllocationOutsideTLAB";

  @BeforeEach
  void poison() {
    Libtorch.poisonUninitialized(true);
  }

  @AfterEach
  void stopPoisoning() {
    Libtorch.poisonUninitialized(false);
  }

  /// Queries, keys, values, and what may come with them, of a whole sequence.
  private record Sequence(
      Tensor qBTNH,
      Tensor kBTMH,
      Tensor vBTMH,
      @Nullable Tensor gate,
      @Nullable Tensor sinksN,
      int window) {
    static Sequence random(
        int batch,
        int heads,
        int keyValueHeads,
        int tokens,
        int headSize,
        ElementType type,
        @Nullable Granularity gate,
        boolean sinks) {
      var random = new Random(31L * tokens + headSize);
      return new Sequence(
          gaussian(random, batch, tokens, heads, headSize).to(type),
          gaussian(random, batch, tokens, keyValueHeads, headSize).to(type),
          gaussian(random, batch, tokens, keyValueHeads, headSize).to(type),
          switch (gate) {
            case null -> null;
            case HEADWISE -> gaussian(random, batch, tokens, heads).to(type);
            case ELEMENTWISE -> gaussian(random, batch, tokens, heads, headSize).to(type);
          },
          sinks ? gaussian(random, heads) : null,
          0);
    }

    Sequence within(int changedWindow) {
      return new Sequence(qBTNH, kBTMH, vBTMH, gate, sinksN, changedWindow);
    }

    int tokens() {
      return Math.toIntExact(qBTNH.size(1));
    }

    /// The definition.
    Tensor whole() {
      return ScaledDotProductAttention.attend(
          qBTNH, kBTMH, vBTMH, sinksN, gate, window, null, null, 0, EXPLICIT);
    }

    /// The tokens `from … to`, with those before in the cache.
    Tensor chunk(int from, int to, Past past, Probe probe) {
      assertTrue(Arrays.stream(past.lengths()).allMatch(length -> length == from));
      past.begin(qBTNH.size(0), to - from);
      var y =
          ScaledDotProductAttention.attend(
              qBTNH.narrow(1, from, to - from),
              kBTMH.narrow(1, from, to - from),
              vBTMH.narrow(1, from, to - from),
              sinksN,
              gate == null ? null : gate.narrow(1, from, to - from),
              window,
              null,
              past,
              0,
              probe);
      past.advance(to - from);
      return y;
    }

    Tensor chunks(List<Integer> lengths, Probe probe) {
      return chunks(lengths, probe, ElementType.FLOAT32);
    }

    /// Chunk by chunk; the lengths begin anew when they are used up.
    ///
    /// @param kept the type of keys and values
    Tensor chunks(List<Integer> lengths, Probe probe, ElementType kept) {
      var parts = new ArrayList<Tensor>();
      int batch = Math.toIntExact(qBTNH.size(0));
      try (var state = new SequenceState(batch, tokens() + 13, kept)) {
        var past = state.past(Stream.generate(state::take).limit(batch).toList());
        for (int from = 0; from < tokens(); ) {
          int to = Math.min(tokens(), from + lengths.get(parts.size() % lengths.size()));
          parts.add(chunk(from, to, past, probe));
          from = to;
        }
        return Tensor.concatenate(parts, 1);
      }
    }
  }

  private static Tensor gaussian(Random random, long... shape) {
    float[] values = new float[(int) Arrays.stream(shape).reduce(1, (a, b) -> a * b)];
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return Tensor.of(values, shape);
  }

  /// Float32 within 5e-6. Of bfloat16 sequences the weights are rounded by up to 2⁻⁹ of each, as
  /// their products' inputs are, and the results once or twice: within 2⁻⁷ for values about 1.
  private static void assertChunksEqualWhole(Sequence sequence, List<List<Integer>> splits) {
    float[] expected = sequence.whole().floats();
    for (var lengths : splits) {
      for (var probe : List.of(Probe.NONE, EXPLICIT)) {
        float[] actual = sequence.chunks(lengths, probe).floats();
        String chunks = "chunks of " + lengths + (probe == EXPLICIT ? " explicitly" : "");
        assertEquals(expected.length, actual.length);
        double rounding = sequence.qBTNH.type() == ElementType.BFLOAT16 ? 0x1p-7 : 0;
        for (int i = 0; i < actual.length; i++) {
          double tolerance = 5e-6 + rounding * Math.max(1, Math.abs(expected[i]));
          if (!(Math.abs(actual[i] - expected[i]) <= tolerance)) {
            fail(chunks + ": y[" + i + "] is " + actual[i] + ", not " + expected[i]);
          }
        }
      }
    }
  }

  @ParameterizedTest(name = "B{0} N{1} M{2} T{3} H{4} {5} gate {6} sinks {7}")
  @CsvSource({
    "1,1,1,131,2,FLOAT32,,false",
    "2,6,2,150,6,FLOAT32,,false",
    "2,6,2,150,6,FLOAT32,HEADWISE,true",
    "1,8,1,140,10,FLOAT32,ELEMENTWISE,false",
    "3,4,4,132,1,FLOAT32,,true",
    "2,6,2,150,32,FLOAT32,ELEMENTWISE,true",
    "2,3,1,150,18,BFLOAT16,,false",
    "1,4,2,140,16,BFLOAT16,HEADWISE,false",
    "2,6,2,133,10,BFLOAT16,ELEMENTWISE,true"
  })
  void chunksOfEveryLength(
      int batch,
      int heads,
      int keyValueHeads,
      int tokens,
      int headSize,
      ElementType type,
      @Nullable Granularity gate,
      boolean sinks) {
    try (var _ = Scope.withoutGradient()) {
      var sequence =
          Sequence.random(batch, heads, keyValueHeads, tokens, headSize, type, gate, sinks);
      List<List<Integer>> splits = new ArrayList<>();
      for (int length : new int[] {1, 2, 7, 63, 64, 65}) {
        splits.add(List.of(length));
      }
      splits.add(List.of(5, 1, 70, 2, 33));
      assertChunksEqualWhole(sequence, splits);
    }
  }

  /// Where one token's attention is machine code, a token of a long pass has the bits that it has
  /// alone, with keys and values as they are kept, wherever passes are cut.
  @ParameterizedTest(name = "N{0} M{1} H{2} {3} window {4} sinks {5}")
  @CsvSource({
    "4,4,16,FLOAT32,0,false",
    "6,2,32,FLOAT32,0,true",
    "6,2,32,FLOAT32,41,true",
    "6,2,32,FLOAT32,150,false",
    "40,1,16,FLOAT32,0,false",
    "6,2,48,BFLOAT16,0,false",
    "5,1,32,BFLOAT16,64,true"
  })
  void aTokenOfALongPassHasTheBitsThatItHasAlone(
      int heads, int keyValueHeads, int headSize, ElementType kept, int window, boolean sinks) {
    assumeTrue(MachineAttention.of(headSize, false) != null, "the machine runs no code made here");
    try (var _ = Scope.withoutGradient()) {
      var sequence =
          Sequence.random(2, heads, keyValueHeads, 150, headSize, ElementType.FLOAT32, null, sinks)
              .within(window);
      float[] alone = sequence.chunks(List.of(1), Probe.NONE, kept).floats();
      for (var lengths : List.of(List.of(150), List.of(37, 16, 97), List.of(3), List.of(64, 65))) {
        float[] together = sequence.chunks(lengths, Probe.NONE, kept).floats();
        assertEquals(-1, Arrays.mismatch(alone, together), lengths::toString);
      }
    }
  }

  /// Longer than a tile is wide, so that blocks of queries reach over the ends of tiles.
  @ParameterizedTest(name = "B{0} N{1} M{2} T{3} H{4} {5}")
  @CsvSource({
    "1,2,1,1300,4,FLOAT32,false",
    "2,6,2,1100,6,FLOAT32,true",
    "1,5,1,2300,16,FLOAT32,true",
    "1,8,1,1050,10,BFLOAT16,false"
  })
  void chunksOfLongSequences(
      int batch,
      int heads,
      int keyValueHeads,
      int tokens,
      int headSize,
      ElementType type,
      boolean sinks) {
    try (var _ = Scope.withoutGradient()) {
      var sequence =
          Sequence.random(batch, heads, keyValueHeads, tokens, headSize, type, null, sinks);
      assertChunksEqualWhole(
          sequence, List.of(List.of(450, 130, 1, 2, 317, 65), List.of(511, 64, 7), List.of(512)));
    }
  }

  /// Windows shorter and longer than the chunks and the sequence.
  @ParameterizedTest(name = "B{0} N{1} M{2} T{3} H{4} {5} gate {6} sinks {7}")
  @CsvSource({
    "2,6,2,150,6,FLOAT32,,false",
    "1,8,1,140,10,FLOAT32,ELEMENTWISE,true",
    "2,6,2,150,16,FLOAT32,,true",
    "2,3,1,133,16,BFLOAT16,HEADWISE,false"
  })
  void chunksWithinAWindow(
      int batch,
      int heads,
      int keyValueHeads,
      int tokens,
      int headSize,
      ElementType type,
      @Nullable Granularity gate,
      boolean sinks) {
    try (var _ = Scope.withoutGradient()) {
      var sequence =
          Sequence.random(batch, heads, keyValueHeads, tokens, headSize, type, gate, sinks);
      for (int window : new int[] {1, 2, 37, 64, 100, tokens - 1, tokens, tokens + 5}) {
        assertChunksEqualWhole(
            sequence.within(window), List.of(List.of(1), List.of(5, 1, 70, 2, 33)));
      }
    }
  }

  /// Windows whose ends lie within tiles, on their borders and beyond one.
  @Test
  void chunksOfLongSequencesWithinAWindow() {
    try (var _ = Scope.withoutGradient()) {
      var sequence = Sequence.random(1, 6, 2, 1300, 6, ElementType.FLOAT32, null, true);
      for (int window : new int[] {3, 64, 129, 512, 700}) {
        assertChunksEqualWhole(sequence.within(window), List.of(List.of(450, 130, 1, 2, 317, 65)));
      }
    }
  }

  /// The pass that begins a text has the gradients of its keys and values, whatever its length.
  @ParameterizedTest
  @ValueSource(ints = {2, 20, 90})
  void gradientsOfKeysOfAFirstPass(int tokens) {
    try (var _ = Scope.open()) {
      var sequence = Sequence.random(1, 4, 2, tokens, 16, ElementType.FLOAT32, null, false);
      var upstream = gaussian(new Random(6), 1, tokens, 4, 16);
      for (var leaf : List.of(sequence.kBTMH, sequence.vBTMH)) {
        leaf.requireGradient(true);
        sequence.whole().backward(upstream);
        float[] expected = leaf.gradient().floats();
        leaf.clearGradient();
        sequence.chunks(List.of(tokens), Probe.NONE).backward(upstream);
        assertArrayEquals(expected, leaf.gradient().floats(), 2e-5f);
        leaf.clearGradient();
        leaf.requireGradient(false);
      }
    }
  }

  /// A query's gradient is its own row's, whatever stands in the cache.
  @Test
  void gradientsOfTheQueriesOfAChunk() {
    try (var _ = Scope.open()) {
      var all = Sequence.random(2, 6, 2, 90, 6, ElementType.FLOAT32, Granularity.HEADWISE, true);
      var upstream = gaussian(new Random(5), 2, 90, 6, 6);
      all.qBTNH.requireGradient(true);
      for (int window : new int[] {0, 23}) {
        var sequence = all.within(window);
        sequence.whole().backward(upstream);
        float[] expected = sequence.qBTNH.gradient().floats();
        sequence.qBTNH.clearGradient();
        sequence.chunks(List.of(40, 1, 30), Probe.NONE).backward(upstream);
        assertArrayEquals(expected, sequence.qBTNH.gradient().floats(), 2e-5f);
        sequence.qBTNH.clearGradient();
      }
    }
  }

  /// The definition without a probe, in several blocks of queries, of which each takes the keys
  /// that it sees.
  @Test
  void gradientsOfLongChunksWithinAWindow() {
    try (var _ = Scope.open()) {
      var sequence = Sequence.random(1, 8, 1, 1800, 2, ElementType.FLOAT32, null, true).within(70);
      var upstream = gaussian(new Random(5), 1, 1800, 8, 2);
      sequence.qBTNH.requireGradient(true);
      var results = new ArrayList<float[]>();
      for (int way = 0; way < 2; way++) {
        var y =
            way == 0
                ? sequence.chunks(List.of(1800), Probe.NONE)
                : ScaledDotProductAttention.attend(
                    sequence.qBTNH,
                    sequence.kBTMH,
                    sequence.vBTMH,
                    sequence.sinksN,
                    null,
                    sequence.window,
                    null,
                    null,
                    0,
                    Probe.NONE);
        y.backward(upstream);
        results.add(y.detach().floats());
        results.add(sequence.qBTNH.gradient().floats());
        sequence.qBTNH.clearGradient();
      }
      assertArrayEquals(results.get(2), results.get(0), 2e-5f);
      assertArrayEquals(results.get(3), results.get(1), 2e-5f);
    }
  }

  /// Same bits with another number of threads: a block of queries is one thread's work.
  @Test
  void repeats() {
    try (var _ = Scope.withoutGradient()) {
      var sequence = Sequence.random(1, 3, 1, 700, 6, ElementType.FLOAT32, null, false);
      float[] once = sequence.chunks(List.of(300), Probe.NONE).floats();
      for (int threads : new int[] {1, 3}) {
        Threads.count(threads);
        assertArrayEquals(once, sequence.chunks(List.of(300), Probe.NONE).floats());
      }
    } finally {
      Threads.count(Runtime.getRuntime().availableProcessors());
    }
  }

  /// A chunk of T tokens after a long cache makes nothing of T · S numbers in Java: neither in
  /// tiles nor by the definition, which is what gradients are recorded through.
  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void noArrayOfTheCacheTimesTheChunk(boolean recorded) throws IOException {
    int tokens = 512;
    int keys = 16_384;
    for (int attempt = 0; attempt < 20; attempt++) {
      byte[][] witness = new byte[1][];
      long largest = largestObject(recorded, tokens, keys, witness);
      // A thread's own piece of the heap may have room for a large object, which is then no event.
      if (largest >= witness[0].length) {
        assertTrue(largest < (long) tokens * keys, largest + " bytes");
        return;
      }
    }
    fail("the witness is not among the events, twenty times");
  }

  /// Bytes of the largest object that is made, the witness among them.
  private static long largestObject(boolean recorded, int tokens, int keys, byte[][] witness)
      throws IOException {
    var file = Files.createTempFile("allocations", ".jfr");
    try (var recording = new Recording();
        var _ = recorded ? Scope.open() : Scope.withoutGradient();
        var state = new SequenceState(1, keys)) {
      var past = state.past(state.take());
      past.begin(1, keys - tokens);
      var before = Tensor.zeros(ElementType.FLOAT32, 1, 1, keys - tokens, 2);
      past.keys(0, 0, before);
      past.values(0, 0, before);
      past.advance(keys - tokens);
      past.begin(1, tokens);
      var sequence = Sequence.random(1, 1, 1, tokens, 2, ElementType.FLOAT32, null, false);
      sequence.qBTNH.requireGradient(recorded);
      recording.enable(LARGE_OBJECT);
      recording.start();
      ScaledDotProductAttention.attend(
          sequence.qBTNH, sequence.kBTMH, sequence.vBTMH, null, null, 0, null, past, 0, Probe.NONE);
      witness[0] = new byte[4 << 20]; // that large objects are recorded
      recording.stop();
      recording.dump(file);
      return RecordingFile.readAllEvents(file).stream()
          .filter(event -> event.getEventType().getName().equals(LARGE_OBJECT))
          .mapToLong(event -> event.getLong("allocationSize"))
          .max()
          .orElse(0);
    } finally {
      Files.delete(file);
    }
  }
}
