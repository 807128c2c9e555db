package dev.sluice.serving;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.Decoder;
import dev.sluice.generation.Choice;
import dev.sluice.generation.Generation.Ending;
import dev.sluice.generation.Generator;
import dev.sluice.generation.LogitAdjustments;
import dev.sluice.generation.Prompt;
import dev.sluice.generation.Restriction;
import dev.sluice.generation.Sampler;
import dev.sluice.generation.TokenLogprob;
import dev.sluice.operations.Precision;
import dev.sluice.serving.Ticket.Event;
import dev.sluice.state.PrefixCache;
import dev.sluice.state.PrefixCache.Reuse;
import dev.sluice.tensor.ElementType;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/// Texts that are written beside others, against the same texts alone.
class EngineTest {
  private static final int PIECE = 16;
  private static final Duration LONG = Duration.ofSeconds(60);
  private static final long MUCH = 1L << 30;

  @TempDir private static Path directory;
  private static Decoder decoder;

  @BeforeAll
  static void open() throws IOException {
    decoder = TinyModel.open(directory.resolve("model"), Precision.BFLOAT16);
  }

  @AfterAll
  static void close() {
    decoder.close();
  }

  private static Engine engine(int slots, int waiting, PrefixCache cache) {
    return new Engine(
        new Generator(decoder),
        new EngineLimits(slots, TinyModel.CONTEXT, MUCH, waiting, PIECE),
        cache,
        Reuse.EXACT);
  }

  private static int[] tokens(int count, long seed) {
    return new SplittableRandom(seed).ints(count, 0, TinyModel.VOCABULARY).toArray();
  }

  private static TextRequest request(int[] ids, Choice choice, int most, int sequences) {
    return new TextRequest(ids, new int[] {5}, choice, most, Set.of(7), sequences, 0, true, false);
  }

  private static TextRequest greedy(int[] ids, int most) {
    return request(ids, new Choice(Sampler.GREEDY), most, 1);
  }

  /// What became of a request.
  private record Outcome(
      Map<Integer, List<TokenLogprob>> texts, List<Ending> endings, int cached) {}

  private static Outcome outcome(Ticket ticket) throws InterruptedException {
    Map<Integer, List<TokenLogprob>> texts = new TreeMap<>();
    var endings = new ArrayList<Ending>();
    int cached = 0;
    while (endings.size() < ticket.request().sequences()) {
      switch (ticket.next(LONG)) {
        case Event.Read read -> cached = read.cachedTokens();
        case Event.Token token ->
            texts.computeIfAbsent(token.sequence(), _ -> new ArrayList<>()).add(token.logprob());
        case Event.Ended ended -> endings.add(ended.ending());
        case Event.Failed failed -> throw failed.cause();
        case null -> throw new AssertionError("nothing happens");
      }
    }
    return new Outcome(texts, endings, cached);
  }

  /// The tokens of the texts by [Generator] alone, in the same passes, with their
  /// log-probabilities.
  private static Map<Integer, List<TokenLogprob>> alone(TextRequest request) {
    Map<Integer, List<TokenLogprob>> texts = new TreeMap<>();
    new Generator(decoder, PIECE)
        .generate(
            new Prompt(request.ids(), request.turnStarts(), null, Reuse.EXACT),
            request.choice(),
            request.mostTokens(),
            request.stopIds(),
            request.sequences(),
            (text, token, logits) ->
                texts
                    .computeIfAbsent(text, _ -> new ArrayList<>())
                    .add(TokenLogprob.of(token, logits, 0)));
    return texts;
  }

  private static boolean isHolding(Engine engine) {
    return engine.usedSlots() > 0 || engine.usedBytes() > 0 || engine.waiting() > 0;
  }

  /// Waits until nothing is held any more.
  private static void expectEmpty(Engine engine) throws InterruptedException {
    for (int i = 0; i < 2000 && isHolding(engine); i++) { // which are given back one by one
      Thread.sleep(5);
    }
    assertEquals(0, engine.usedSlots());
    assertEquals(0, engine.usedBytes());
    assertEquals(0, engine.waiting());
  }

  /// Twelve requests of all kinds in ten slots, so that texts come and go and passes have up to
  /// eight texts: each text is what it is alone, to the last bit of each token's log-probability,
  /// drawn and greedy, with penalties too.
  @Test
  void eachTextIsWhatItIsAlone() throws Exception {
    var requests = new ArrayList<TextRequest>();
    for (int i = 0; i < 12; i++) {
      var sampler = i % 3 == 0 ? Sampler.GREEDY : new Sampler(1.5, 0, 0.95, i);
      var adjustments =
          i % 2 == 0 ? LogitAdjustments.NONE : new LogitAdjustments(1.2, 0.5, 0.1, Map.of(9, 2.0));
      int sequences = i % 4 == 1 ? 3 : 1;
      requests.add(
          request(tokens(3 + 9 * i, i), new Choice(sampler, adjustments), 10 + i, sequences));
    }
    try (var engine = engine(10, 20, null)) {
      var tickets = requests.stream().map(engine::submit).toList();
      for (int i = 0; i < requests.size(); i++) {
        assertEquals(alone(requests.get(i)), outcome(tickets.get(i)).texts, "request " + i);
      }
      expectEmpty(engine);
      assertTrue(engine.counts().steps.sum() < engine.counts().generatedTokens.sum() / 2);
      assertEquals(12, engine.counts().requests.sum());
    }
  }

  /// The same prompt again, and one that begins like it, also by an engine that has loaded what
  /// another has saved.
  @Test
  void aHitIsAMiss() throws Exception {
    int[] first = tokens(60, 1);
    int[] second = Arrays.copyOf(first, 60);
    second[50] ^= 1; // after the first turn and two whole pieces
    Path file = directory.resolve("saved");
    try (var cache = new PrefixCache("tiny", MUCH)) {
      try (var engine = engine(4, 20, cache)) {
        assertEquals(0, outcome(engine.submit(greedy(first, 6))).cached);
        var again = outcome(engine.submit(greedy(first, 6)));
        assertEquals(59, again.cached);
        assertEquals(alone(greedy(first, 6)), again.texts);
        assertEquals(60 + 1, engine.counts().promptTokens.sum());
        assertEquals(59, engine.counts().cachedTokens.sum());
        assertTrue(engine.cachedBytes() > 0);
        var other =
            new TextRequest(
                first, new int[] {5}, new Choice(Sampler.GREEDY), 6, Set.of(), 1, -1, false, false);
        assertEquals(0, outcome(engine.submit(other)).cached);
      }
      cache.save(file);
    }
    var generator = new Generator(decoder);
    try (var cache = generator.loadPrefixes(file, "tiny", MUCH);
        var engine = engine(4, 20, cache)) {
      var changed = outcome(engine.submit(greedy(second, 6)));
      assertEquals(5 + 2 * PIECE, changed.cached);
      assertEquals(alone(greedy(second, 6)), changed.texts);
    }
  }

  /// A trained model in bfloat16 computes them so, and loses nothing by keeping them in two bytes
  /// each.
  @Test
  void keysAndValuesAreKeptAsTheyAreComputed() throws Exception {
    assertEquals(ElementType.FLOAT32, decoder.keyValueType());
    var requests = List.of(greedy(tokens(60, 1), 6), greedy(tokens(9, 2), 8));
    List<Long> bytes = new ArrayList<>();
    List<Map<Integer, List<TokenLogprob>>> texts = new ArrayList<>();
    try {
      for (var type : List.of(ElementType.FLOAT32, ElementType.BFLOAT16)) {
        decoder.keepKeysAndValuesIn(type);
        try (var cache = new PrefixCache("tiny", MUCH);
            var engine = engine(4, 20, cache)) {
          for (int i = 0; i < 2; i++) {
            var tickets = requests.stream().map(engine::submit).toList();
            for (int j = 0; j < tickets.size(); j++) {
              var outcome = outcome(tickets.get(j));
              assertEquals(i == 0 ? 0 : requests.get(j).ids().length - 1, outcome.cached);
              texts.add(outcome.texts);
            }
          }
          expectEmpty(engine);
          bytes.add(engine.cachedBytes());
        }
      }
    } finally {
      decoder.keepKeysAndValuesIn(ElementType.FLOAT32);
    }
    assertEquals(texts.subList(0, 4), texts.subList(4, 8));
    long numbers = // of a token
        decoder.config().layers().stream()
            .flatMap(layer -> layer.attention().stream())
            .mapToLong(each -> 2L * each.keyValueHeads() * each.headDim())
            .sum();
    assertEquals((59 + 8) * numbers * 2, bytes.getFirst() - bytes.getLast());
  }

  /// Holds the engine up at its first token.
  private static final class Hold implements Restriction {
    private final CountDownLatch reached = new CountDownLatch(1);
    private final CountDownLatch released = new CountDownLatch(1);

    @Override
    public void restrict(float[] logits) {
      reached.countDown();
      try {
        assertTrue(released.await(60, TimeUnit.SECONDS));
      } catch (InterruptedException e) {
        throw new AssertionError(e);
      }
    }

    @Override
    public void chosen(int token) {}

    void await() throws InterruptedException {
      assertTrue(reached.await(60, TimeUnit.SECONDS));
    }

    void release() {
      released.countDown();
    }

    TextRequest request(int[] ids, int most) {
      return endless(ids, new Choice(Sampler.GREEDY, LogitAdjustments.NONE, _ -> this), most, 1);
    }
  }

  private static TextRequest endless(int[] ids, Choice choice, int most, int sequences) {
    return new TextRequest(ids, new int[0], choice, most, Set.of(), sequences, -1, true, false);
  }

  @Test
  void whoeverGoesFreesAllThatWasHeld() throws Exception {
    var hold = new Hold();
    var greedy = new Choice(Sampler.GREEDY);
    try (var engine = engine(4, 20, null)) {
      var tickets = new ArrayList<>(List.of(engine.submit(hold.request(tokens(4, 0), 900))));
      hold.await();
      for (int i = 0; i < 8; i++) {
        tickets.add(engine.submit(endless(tokens(4, i), greedy, 900, 1)));
      }
      var three = engine.submit(endless(tokens(3, 9), greedy, 900, 3));
      assertEquals(9, engine.waiting());
      tickets.forEach(Ticket::cancel);
      hold.release();
      assertInstanceOf(Event.Read.class, three.next(LONG));
      three.stop(1);
      var event = three.next(LONG);
      while (!(event instanceof Event.Ended)) {
        event = three.next(LONG);
      }
      assertEquals(new Event.Ended(1, Ending.CALLER), event);
      assertEquals(2, engine.usedSlots());
      three.cancel();
      expectEmpty(engine);
      assertEquals(10, engine.counts().cancelled.sum());
      assertEquals(
          alone(greedy(tokens(9, 3), 5)), outcome(engine.submit(greedy(tokens(9, 3), 5))).texts);
    }
  }

  @Test
  void whatCannotBeTakenIsRefused() throws Exception {
    var hold = new Hold();
    try (var engine = engine(2, 2, null)) {
      int[] ids = tokens(4, 1);
      assertThrows(
          InvalidInputException.class, () -> engine.submit(greedy(ids, TinyModel.CONTEXT - 3)));
      assertThrows(
          InvalidInputException.class,
          () -> engine.submit(request(ids, new Choice(Sampler.GREEDY), 2, 3)));
      assertThrows(
          InvalidInputException.class,
          () -> engine.submit(greedy(new int[] {TinyModel.VOCABULARY}, 2)));
      engine.submit(hold.request(ids, 1));
      hold.await();
      engine.submit(greedy(ids, 2));
      engine.submit(greedy(ids, 2));
      var busy = assertThrows(RefusedException.class, () -> engine.submit(greedy(ids, 2)));
      assertTrue(busy.retrySeconds() > 0);
      assertEquals(1, engine.counts().refused.sum());
      hold.release();
      expectEmpty(engine);
      outcome(engine.submit(greedy(ids, 2)));
    }
  }

  /// By memory fewer texts are written at a time than there are slots.
  @Test
  void memoryIsSetAsideForTheLongestThatATextMayBecome() throws Exception {
    long one;
    try (var engine = engine(1, 1, null)) {
      one = engine.bytes(200);
      assertTrue(one > engine.bytes(20));
    }
    var limits = new EngineLimits(4, TinyModel.CONTEXT, 2 * one, 20, PIECE);
    try (var engine = new Engine(new Generator(decoder), limits, null, Reuse.EXACT)) {
      assertTrue(engine.mostTokens(1) >= 200, () -> "" + engine.mostTokens(1));
      assertThrows(InvalidInputException.class, () -> engine.submit(greedy(tokens(4, 1), 900)));
      var first = new Hold();
      engine.submit(first.request(tokens(4, 1), 1));
      first.await();
      var second = new Hold();
      engine.submit(second.request(tokens(4, 1), 196));
      for (int i = 0; i < 2; i++) {
        engine.submit(greedy(tokens(4, i), 196));
      }
      first.release();
      second.await();
      assertEquals(2, engine.usedSlots());
      assertEquals(1, engine.waiting());
      second.release();
      expectEmpty(engine);
    }
  }

  /// A request whose tokens cannot be chosen takes no other with it.
  @Test
  void oneRequestFailsAlone() throws Exception {
    var nothing =
        new Restriction() {
          private int tokens;

          @Override
          public void restrict(float[] logits) {
            if (tokens == 3) {
              Arrays.fill(logits, Float.NEGATIVE_INFINITY);
            }
          }

          @Override
          public void chosen(int token) {
            tokens++;
          }
        };
    try (var engine = engine(4, 20, null)) {
      var other = greedy(tokens(8, 2), 30);
      var good = engine.submit(other);
      var choice =
          new Choice(
              Sampler.GREEDY, LogitAdjustments.NONE, i -> i == 1 ? nothing : Restriction.NONE);
      var bad = engine.submit(request(tokens(8, 1), choice, 30, 2));
      var failure = assertThrows(InvalidInputException.class, () -> outcome(bad));
      assertTrue(failure.getMessage().contains("none of the 400"), failure::getMessage);
      assertEquals(alone(other), outcome(good).texts);
      expectEmpty(engine);
      assertEquals(1, engine.counts().failed.sum());
    }
  }

  /// Those that were taken end, those that come later are refused; nobody waits for ever.
  @Test
  void anEndWaitsForThoseThatWereTaken() throws Exception {
    var engine = engine(1, 20, null);
    var first = engine.submit(greedy(tokens(8, 1), 20));
    var second = engine.submit(greedy(tokens(8, 2), 20));
    engine.close(LONG);
    assertEquals(alone(first.request()), outcome(first).texts);
    assertEquals(alone(second.request()), outcome(second).texts);
    assertThrows(RefusedException.class, () -> engine.submit(greedy(tokens(8, 2), 20)));

    var hold = new Hold();
    var other = engine(1, 20, null);
    var endless = other.submit(hold.request(tokens(8, 1), 1000));
    hold.await();
    var waiting = other.submit(greedy(tokens(8, 1), 1000));
    Thread.ofVirtual().start(hold::release);
    other.close();
    assertThrows(RefusedException.class, () -> outcome(endless));
    assertThrows(RefusedException.class, () -> outcome(waiting));
    assertEquals(0, other.usedSlots());
  }

  @Test
  void tokensHaveLogProbabilities() throws Exception {
    try (var engine = engine(1, 20, null)) {
      var ticket =
          engine.submit(
              new TextRequest(
                  tokens(5, 1),
                  new int[0],
                  new Choice(Sampler.GREEDY),
                  1,
                  Set.of(),
                  1,
                  3,
                  true,
                  false));
      var event = ticket.next(LONG);
      while (!(event instanceof Event.Token)) {
        event = ticket.next(LONG);
      }
      var token = (Event.Token) event;
      var logprob = token.logprob();
      assertNotNull(logprob);
      assertEquals(3, logprob.likeliest().size());
      assertEquals(token.token(), logprob.likeliest().getFirst().token());
      assertEquals(logprob.logprob(), logprob.likeliest().getFirst().logprob());
      assertNotEquals(0, logprob.logprob());
    }
  }
}
