package dev.sluice.serving;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.attention.AttentionConfig;
import dev.sluice.attention.SoftmaxSink;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.LayerConfig;
import dev.sluice.gate.Gate;
import dev.sluice.gate.GatePosition;
import dev.sluice.generation.Choice;
import dev.sluice.generation.Generator;
import dev.sluice.generation.Sampler;
import dev.sluice.generation.TokenLogprob;
import dev.sluice.operations.Precision;
import dev.sluice.probe.Probe;
import dev.sluice.serving.Ticket.Event;
import dev.sluice.sink.FirstTokenAttention;
import dev.sluice.sink.GateStatistics;
import dev.sluice.state.PrefixCache.Reuse;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.TreeMap;
import java.util.function.UnaryOperator;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/// Texts that are watched, against the same texts when nobody watches, and what is seen against
/// what `inspect` measures of the same tokens.
class WatchedTextTest {
  private static final int TOKENS = 12;
  private static final Duration LONG = Duration.ofSeconds(60);

  /// Of float32: passes of one token and of all sum in another order.
  private static final double TOLERANCE = 2e-5;

  @TempDir private Path directory;

  private record Seen(List<TokenLogprob> tokens, List<TokenWatch> watches) {}

  private static Arguments model(String name, LayerConfig... layers) {
    return Arguments.of(name, List.of(layers));
  }

  private static LayerConfig attention(UnaryOperator<AttentionConfig> change) {
    return TinyModel.attention(change);
  }

  private static Stream<Arguments> models() {
    var gated = attention(c -> c.with(List.of(Gate.SDPA_ELEMENTWISE)));
    return Stream.of(
        model("hybrid", TinyModel.deltaNet(), gated),
        twice("without gates", c -> c),
        twice("headwise", c -> c.with(List.of(Gate.SDPA_HEADWISE))),
        twice("window", c -> c.with(c.positions().withWindow(5))),
        twice("sinks", c -> c.with(c.variant().with(SoftmaxSink.OFF_BY_ONE))),
        gates("value-elementwise", "dense-elementwise-ns-sigmoid"),
        gates("sdpa-elementwise-input-independent"),
        gates("sdpa-headwise-silu"));
  }

  private static Arguments twice(String name, UnaryOperator<AttentionConfig> change) {
    return model(name, attention(change), attention(change));
  }

  private static Arguments gates(String... names) {
    return twice(
        String.join(" and ", names), c -> c.with(Stream.of(names).map(Gate::parse).toList()));
  }

  private static TextRequest request(int[] ids, int sequences, boolean isWatched) {
    var choice = new Choice(new Sampler(1.2, 0, 0.95, 3));
    return new TextRequest(
        ids, new int[0], choice, TOKENS, Set.of(), sequences, 2, true, isWatched);
  }

  private static int[] tokens(int count, long seed) {
    return new SplittableRandom(seed).ints(count, 0, TinyModel.VOCABULARY).toArray();
  }

  private static Map<Integer, Seen> seen(Ticket ticket) throws InterruptedException {
    Map<Integer, Seen> texts = new TreeMap<>();
    int open = ticket.request().sequences();
    while (open > 0) {
      switch (ticket.next(LONG)) {
        case Event.Read _ -> {}
        case Event.Token token -> {
          var text =
              texts.computeIfAbsent(
                  token.sequence(), _ -> new Seen(new ArrayList<>(), new ArrayList<>()));
          text.tokens.add(token.logprob());
          if (ticket.request().isWatched()) {
            assertNotNull(token.watch());
            text.watches.add(token.watch());
          } else {
            assertNull(token.watch());
          }
        }
        case Event.Ended _ -> open--;
        case Event.Failed failed -> throw failed.cause();
        case null -> throw new AssertionError("nothing happens");
      }
    }
    return texts;
  }

  private static Engine engine(Decoder decoder) {
    return new Engine(
        new Generator(decoder),
        new EngineLimits(8, TinyModel.CONTEXT, 1L << 30, 20, 16),
        null,
        Reuse.EXACT);
  }

  /// Beside each other and beside those that nobody watches, to the last bit of log-probabilities.
  @ParameterizedTest(name = "{0}")
  @MethodSource("models")
  void watchingChangesNothing(String name, List<LayerConfig> layers) throws Exception {
    for (var precision : List.of(Precision.FLOAT32, Precision.BFLOAT16)) {
      try (var decoder =
              TinyModel.open(directory.resolve(precision.toString()), precision, layers);
          var engine = engine(decoder)) {
        var alone = new ArrayList<List<TokenLogprob>>();
        for (int i = 0; i < 3; i++) {
          alone.add(seen(engine.submit(request(tokens(7 * i + 1, i), 1, false))).get(0).tokens);
        }
        var tickets = new ArrayList<Ticket>();
        for (int i = 0; i < 3; i++) {
          tickets.add(engine.submit(request(tokens(7 * i + 1, i), 1, true)));
          tickets.add(engine.submit(request(tokens(7 * i + 1, i), 1, false)));
        }
        for (int i = 0; i < tickets.size(); i++) {
          assertEquals(alone.get(i / 2), seen(tickets.get(i)).get(0).tokens, name + i);
        }
      }
    }
  }

  /// By layer and query, as `inspect` watches.
  private static final class Whole implements Probe {
    private final Map<Integer, float[]> shares = new TreeMap<>();
    private final Map<String, Map<Integer, float[]>> scores = new TreeMap<>();
    private final int tokens;

    Whole(int tokens) {
      this.tokens = tokens;
    }

    @Override
    public boolean wantsAttention(int layer) {
      return true;
    }

    @Override
    public void attention(int layer, int firstQuery, Tensor weightsBNRS) {
      shares.put(layer, weightsBNRS.narrow(3, 0, 1).mean(1).reshape(weightsBNRS.size(2)).floats());
    }

    @Override
    public boolean wantsGates(int layer) {
      return true;
    }

    @Override
    public void gate(int layer, String position, Tensor scoresBTNH) {
      float[] means = scoresBTNH.mean(3).mean(2).floats();
      float[] all = Arrays.copyOf(means, tokens);
      Arrays.fill(all, means.length, tokens, means[0]); // the same for every token
      scores.computeIfAbsent(position, _ -> new TreeMap<>()).put(layer, all);
    }
  }

  /// A prompt of one token, so that every token but the last is seen as it is read; several texts
  /// of one request have what each has alone.
  @ParameterizedTest(name = "{0}")
  @MethodSource("models")
  void whatIsSeenIsWhatInspectMeasures(String name, List<LayerConfig> layers) throws Exception {
    try (var decoder = TinyModel.open(directory.resolve("model"), Precision.FLOAT32, layers);
        var engine = engine(decoder)) {
      var texts = seen(engine.submit(request(tokens(1, 3), 2, true)));
      assertEquals(2, texts.size());
      for (var text : texts.values()) {
        assertEquals(TOKENS, text.watches.size());
        long[] read = new long[TOKENS];
        read[0] = tokens(1, 3)[0];
        for (int i = 1; i < TOKENS; i++) {
          read[i] = text.tokens.get(i - 1).token();
        }
        var whole = new Whole(TOKENS);
        var attention = new FirstTokenAttention(0, 0.3);
        var gates = new GateStatistics();
        try (var _ = Scope.withoutGradient()) {
          var ids = Tensor.of(read, 1, TOKENS);
          for (var probe : List.of(whole, attention, gates)) {
            decoder.hiddenStates(ids, null, probe);
          }
        }
        for (int layer = 0; layer < layers.size(); layer++) {
          requireEqual(name, layer, whole.shares.get(layer), firstToken(text, layer));
        }
        for (var layer : attention.result().layers()) {
          assertEquals(layer.mean(), mean(firstToken(text, layer.layer())), TOLERANCE);
        }
        assertEquals(whole.scores.keySet(), text.watches.getFirst().gateScores().keySet());
        for (var position : whole.scores.entrySet()) {
          for (int layer = 0; layer < layers.size(); layer++) {
            float[] found = scores(text, position.getKey(), layer);
            requireEqual(name, layer, position.getValue().get(layer), found);
          }
        }
        for (var gate : gates.result().gates()) {
          float[] found = scores(text, gate.position(), gate.layer());
          assertEquals(gate.scores().mean(), mean(found), TOLERANCE, name);
        }
      }
    }
  }

  private static float[] firstToken(Seen text, int layer) {
    return numbers(text.watches.stream().map(watch -> watch.firstTokenAttention()[layer]).toList());
  }

  private static float[] scores(Seen text, String position, int layer) {
    return numbers(
        text.watches.stream().map(watch -> watch.gateScores().get(position)[layer]).toList());
  }

  private static float[] numbers(List<Float> values) {
    float[] numbers = new float[values.size()];
    for (int i = 0; i < numbers.length; i++) {
      numbers[i] = values.get(i);
    }
    return numbers;
  }

  private static double mean(float[] values) {
    double sum = 0;
    for (float value : values) {
      sum += value;
    }
    return sum / values.length;
  }

  /// @param expected null where the layer has nothing to see
  private static void requireEqual(String name, int layer, float[] expected, float[] found) {
    for (int i = 0; i < found.length; i++) {
      String where = "%s, layer %d, token %d".formatted(name, layer, i);
      if (expected == null) {
        assertTrue(Float.isNaN(found[i]), where);
      } else {
        assertEquals(expected[i], found[i], TOLERANCE, where);
      }
    }
  }

  @Test
  void whatCannotBeWatchedIsRefused() throws Exception {
    try (var decoder =
            TinyModel.open(
                directory.resolve("states"), Precision.FLOAT32, List.of(TinyModel.deltaNet()));
        var engine = engine(decoder)) {
      var refusal =
          assertThrows(
              InvalidInputException.class, () -> engine.submit(request(tokens(3, 1), 1, true)));
      assertTrue(refusal.getMessage().contains("no layer of attention"), refusal::toString);
    }
    try (var decoder = TinyModel.open(directory.resolve("model"), Precision.FLOAT32);
        var engine = engine(decoder)) {
      var refusal =
          assertThrows(
              InvalidInputException.class,
              () -> engine.requireWatchable(TokenWatch.MOST_TOKENS + 1));
      assertTrue(refusal.getMessage().contains("4097"), refusal::toString);
    }
    assertEquals("sdpa", GatePosition.SDPA_OUTPUT.word()); // by which the server's page knows it
  }
}
