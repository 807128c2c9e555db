package dev.sluice.sink;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.TinyDecoders;
import dev.sluice.operations.Precision;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import dev.sluice.tokenizer.Tokenizer;
import dev.sluice.tokenizer.Tokenizers;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.OptionalInt;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// Against the definition in plain loops, and on attention whose answer is known.
class TokenAttentionTest {
  /// With the start token 0.
  private static final Tokenizer BYTES = Tokenizers.load("bytes");

  private static final int START = 0;

  @TempDir Path directory;

  /// Every pair of a query and an earlier key that it sees, as the definition has it.
  @ParameterizedTest
  @ValueSource(ints = {0, 9})
  void followsTheDefinition(int slidingWindow) {
    var config = windowed(slidingWindow);
    List<long[]> windows =
        List.of(TinyDecoders.tokens(90, 1), TinyDecoders.tokens(90, 2), TinyDecoders.tokens(31, 3));
    try (var decoder = Decoder.initialize(config, Precision.FLOAT32, Device.CPU, 7)) {
      var measured = new TokenAttention(config, BYTES, windows);
      Map<String, double[]> sums = new HashMap<>(); // of the attention, uniform, pairs
      double[] start = new double[TinyDecoders.LAYERS];
      double[] startUniform = new double[TinyDecoders.LAYERS];
      long[] startQueries = new long[TinyDecoders.LAYERS];
      for (long[] window : windows) {
        measured.begin(window);
        for (var weights : Observed.watch(decoder, measured, window).attention) {
          int layer = weights.layer();
          for (int head = 0; head < TinyDecoders.HEADS; head++) {
            for (int i = 0; i < window.length; i++) {
              int first = slidingWindow == 0 ? 0 : Math.max(0, i - slidingWindow + 1);
              int starts = 0;
              double toStart = 0;
              for (int k = first; k < i; k++) {
                double weight = weights.at(0, head, i, k);
                if (window[k] == START) {
                  starts++;
                  toStart += weight;
                }
                for (String of : List.of("all", layer + " " + head)) {
                  if (k > 0) {
                    double[] sum = sums.computeIfAbsent(of + " " + window[k], _ -> new double[3]);
                    sum[0] += weight;
                    sum[1] += 1.0 / (i - first + 1);
                    sum[2]++;
                  }
                }
              }
              if (starts > 0) {
                start[layer] += toStart / TinyDecoders.HEADS;
                startUniform[layer] += (double) starts / (i - first + 1);
                startQueries[layer] += head == 0 ? 1 : 0;
              }
            }
          }
        }
      }
      var result = measured.result();
      var found = Objects.requireNonNull(result.startToken());
      for (var layer : found.layers()) {
        long queries = startQueries[layer.layer()];
        assertEquals(start[layer.layer()] / queries, layer.mean(), 1e-9);
        assertEquals(
            startUniform[layer.layer()] / queries / TinyDecoders.HEADS, layer.uniform(), 1e-9);
      }
      assertEquals(startQueries[0], found.queries());
      int named = 0;
      for (var layer : result.layers()) {
        for (int head = 0; head < TinyDecoders.HEADS; head++) {
          var tokens = layer.heads().get(head);
          assertEquals(TokenAttention.NAMED_OF_A_HEAD, tokens.size());
          for (var token : tokens) {
            assertToken(sums, layer.layer() + " " + head, token);
            named++;
          }
          for (int id = 0; id < TinyDecoders.VOCABULARY; id++) {
            double[] other =
                Objects.requireNonNull(sums.get(layer.layer() + " " + head + " " + id));
            boolean among = tokens.stream().map(TokenAttention.Token::id).toList().contains(id);
            assertTrue(
                among
                    || other[0] / other[1] <= tokens.getLast().times() + 1e-9
                    || count(windows, id) < TokenAttention.LEAST_COUNT);
          }
        }
      }
      assertTrue(named > 0);
      result.sinks().forEach(token -> assertToken(sums, "all", token));
    }
  }

  private static DecoderConfig windowed(int slidingWindow) {
    return TinyDecoders.config().mapAttention(a -> a.with(a.positions().withWindow(slidingWindow)));
  }

  private static long count(List<long[]> windows, int id) {
    return windows.stream()
        .flatMapToLong(window -> Arrays.stream(window).skip(1))
        .filter(token -> token == id)
        .count();
  }

  private static void assertToken(
      Map<String, double[]> sums, String of, TokenAttention.Token token) {
    double[] expected = Objects.requireNonNull(sums.get(of + " " + token.id()));
    assertEquals(expected[0] / expected[2], token.attention(), 1e-9, of);
    assertEquals(expected[1] / expected[2], token.uniform(), 1e-9, of);
  }

  /// Weights of one head for each layer.
  ///
  /// @param preferred id whose keys get ten times the weight of others
  private static float[] weights(long[] window, int sliding, long preferred) {
    int n = window.length;
    float[] weights = new float[n * n];
    for (int i = 0; i < n; i++) {
      double sum = 0;
      for (int pass = 0; pass < 2; pass++) {
        for (int k = sliding == 0 ? 0 : Math.max(0, i - sliding + 1); k <= i; k++) {
          double score = window[k] == preferred ? 10 : 1;
          if (pass == 0) {
            sum += score;
          } else {
            weights[i * n + k] = (float) (score / sum);
          }
        }
      }
    }
    return weights;
  }

  /// @param block how many queries are shown at a time
  private static TokenAttention.Result measured(
      List<long[]> windows, int sliding, long preferred, int block) {
    try (var _ = Scope.withoutGradient()) {
      var measured = new TokenAttention(windowed(sliding), BYTES, windows);
      for (long[] window : windows) {
        measured.begin(window);
        int n = window.length;
        var all = Tensor.of(weights(window, sliding, preferred), 1, 1, n, n);
        for (int first = 0; first < n; first += block) {
          measured.attention(1, first, all.narrow(2, first, Math.min(block, n - first)));
        }
      }
      return measured.result();
    }
  }

  /// Every seventh token is a line's end, and the start token stands in the middle.
  private static long[] lines(int tokens) {
    long[] window = new long[tokens];
    for (int i = 0; i < tokens; i++) {
      window[i] = i % 7 == 6 ? '\n' : 'a' + i % 5;
    }
    window[tokens / 2] = START;
    return window;
  }

  @ParameterizedTest
  @ValueSource(ints = {0, 5, 40})
  void uniformAttentionPrefersNoToken(int sliding) {
    var result = measured(List.of(lines(80), lines(67)), sliding, -1, 80);
    assertEquals(List.of(), result.sinks());
    assertEquals(6, result.judged());
    for (var token : result.layers().getFirst().heads().getFirst()) {
      assertEquals(1, token.times(), 1e-6);
    }
    var start = Objects.requireNonNull(result.startToken());
    assertEquals(start.uniform(), start.mean(), 1e-7);
    assertEquals(
        sliding == 0 ? 39 + 33 : Math.min(sliding - 1, 39) + Math.min(sliding - 1, 33),
        start.queries());
  }

  @Test
  void aDelimiterThatAttentionGoesToIsNamed() {
    var result = measured(List.of(lines(80)), 0, '\n', 80);
    var sinks = result.sinks();
    assertEquals(1, sinks.size());
    assertEquals("\n", sinks.getFirst().text());
    assertEquals('\n', sinks.getFirst().id());
    assertEquals(11, sinks.getFirst().count());
    assertTrue(sinks.getFirst().times() > 3, sinks::toString);
    assertEquals(result, measured(List.of(lines(80)), 0, '\n', 7), "in blocks");
    var start = Objects.requireNonNull(result.startToken());
    assertTrue(start.mean() < start.uniform());
  }

  @Test
  void theStartTokenIsFoundWhereverItStands() {
    var start = Objects.requireNonNull(measured(List.of(lines(81)), 0, START, 81).startToken());
    assertTrue(start.mean() > 5 * start.uniform(), start::toString);
    assertEquals(40, start.queries());
    long[] none = lines(60);
    none[30] = 'x';
    assertNull(measured(List.of(none), 0, 'a', 60).startToken());
  }

  /// A token that stands seven times says little, and the first position is no occurrence.
  @Test
  void rareTokensAreNotJudged() {
    long[] window = new long[64];
    Arrays.fill(window, 'a');
    for (int i = 0; i < 8; i++) {
      window[8 * i] = 'b';
    }
    assertEquals(List.of(), measured(List.of(window), 0, 'b', 64).sinks());
    window[61] = 'b';
    assertEquals(
        List.of("b"),
        measured(List.of(window), 0, 'b', 64).sinks().stream()
            .map(TokenAttention.Token::text)
            .toList());
  }

  @Test
  void brokenWeightsAndAnotherWindowAreRefused() {
    try (var _ = Scope.withoutGradient()) {
      var measured = new TokenAttention(windowed(0), BYTES, List.of(lines(9)));
      measured.begin(lines(9));
      float[] broken = new float[81];
      broken[80 - 3] = Float.NaN;
      var refusal =
          assertThrows(
              InvalidInputException.class,
              () -> measured.attention(2, 0, Tensor.of(broken, 1, 1, 9, 9)));
      assertTrue(refusal.getMessage().contains("layer 2"), refusal.getMessage());
      assertThrows(
          IllegalArgumentException.class,
          () -> measured.attention(2, 0, Tensor.of(new float[64], 1, 1, 8, 8)));
    }
  }

  // ---------------------------------------------------------------- in the report

  @Test
  void reportHoldsItAndOldFilesAreRead() throws IOException {
    List<long[]> windows = List.of(TinyDecoders.tokens(100, 1), TinyDecoders.tokens(60, 2));
    try (var decoder = TinyDecoders.random()) {
      var report = SinkReport.measure(decoder, windows, BYTES, _ -> {});
      assertNotNull(report.tokenAttention());
      Path file = directory.resolve("sinks.json");
      report.write(file);
      assertTrue(Files.readString(file).contains("\"start_token\""));
      assertEquals(report, SinkReport.read(file));

      var without = SinkReport.measure(decoder, windows);
      assertNull(without.tokenAttention());
      without.write(file);
      assertTrue(!Files.readString(file).contains("token_attention\":null"));
      assertEquals(without, SinkReport.read(file)); // as an earlier version wrote it
      assertEquals(without.firstTokenAttention(), report.firstTokenAttention());
    }
  }

  @Test
  void windowsAreCutIntoDocuments() {
    long[] window = {7, 7, 7, 7, 7, 0, 1, 2, 3, 0, 0, 1, 2, 3, 4, 5};
    assertEquals(List.of(window), SinkReport.byDocument(List.of(window), OptionalInt.empty()));
    var cut = new ArrayList<List<Long>>();
    for (long[] document : SinkReport.byDocument(List.of(window), OptionalInt.of(0))) {
      cut.add(Arrays.stream(document).boxed().toList());
    }
    assertEquals(List.of(List.of(7L, 7L, 7L, 7L, 7L), List.of(0L, 1L, 2L, 3L, 4L, 5L)), cut);
    var refusal =
        assertThrows(
            InvalidInputException.class,
            () -> SinkReport.byDocument(List.of(new long[] {0, 1, 2, 3, 0}), OptionalInt.of(0)));
    assertTrue(refusal.getMessage().contains("no document of more than 4"));
  }
}
