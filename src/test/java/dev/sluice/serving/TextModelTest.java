package dev.sluice.serving;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.chat.Message;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.corpus.WindowRule;
import dev.sluice.files.Trees;
import dev.sluice.generation.Generator;
import dev.sluice.generation.LogitAdjustments;
import dev.sluice.generation.Sampler;
import dev.sluice.operations.Precision;
import dev.sluice.probe.Probe;
import dev.sluice.provenance.RunManifest;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.json.JsonMapper;

class TextModelTest {
  private static final Path TINY = Path.of("samples/tiny-chat");
  private static final String WHALE = "so it was the whale";
  private static final String SCHEMA =
      "{\"type\":\"object\",\"properties\":{\"city\":{\"enum\":[\"Rome\",\"Oslo\"]}},"
          + "\"required\":[\"city\"],\"additionalProperties\":false}";

  @TempDir private static Path directory;
  private static TextModel model;

  @BeforeAll
  static void open() throws Exception {
    model =
        TextModel.at(TINY)
            .precision(Precision.BFLOAT16)
            .usualTokens(24)
            .memory(1L << 28, 1L << 26)
            .open();
  }

  @AfterAll
  static void close() {
    model.close();
  }

  private static Path copy(Path to) throws IOException {
    Files.createDirectories(to);
    for (Path file : Trees.children(TINY)) {
      Files.copy(file, to.resolve(file.getFileName()));
    }
    return to;
  }

  private static Question asked(String content) {
    return Question.of(new Message(Message.Role.USER, content));
  }

  private static Tool weather() {
    return Tool.function("weather", "", JsonMapper.shared().readTree(SCHEMA));
  }

  private static void assertRefused(String what, Runnable asking) {
    var refusal = assertThrows(InvalidInputException.class, asking::run);
    assertTrue(String.valueOf(refusal.getMessage()).contains(what), refusal::getMessage);
  }

  @Test
  void aTextIsWhatTheGeneratorWrites() {
    var known = model.known();
    try (var decoder = ModelDirectory.openInPlace(TINY, Precision.BFLOAT16).decoder()) {
      int[] ids =
          new Generator(decoder, 256)
              .generate(known.encode(WHALE), Sampler.GREEDY, 24, known.stopIds())
              .ids();
      var pieces = new StringBuilder();
      var answer = model.begin(WHALE, model.manner()).await(pieces::append);
      assertEquals(known.tokenizer().decode(ids), answer.text());
      assertEquals(answer.text(), pieces.toString());
      assertEquals(ids.length, answer.tokens());
      assertEquals(known.encode(WHALE).length, answer.promptTokens());
      assertEquals(ids.length == 24 ? Answer.Ending.LENGTH : Answer.Ending.STOP, answer.ending());
    }
  }

  @Test
  void manyAtOnceAreWhatTheyAreAlone() throws Exception {
    var manners =
        IntStream.range(0, 6)
            .mapToObj(i -> model.manner().with(new Sampler(i % 2 == 0 ? 0 : 1.2, 0, 1, i)))
            .toList();
    var alone = manners.stream().map(manner -> model.answer(asked(WHALE), manner).text()).toList();
    assertNotEquals(alone.get(1), alone.get(3));
    try (var threads = Executors.newVirtualThreadPerTaskExecutor()) {
      List<Future<String>> together = new ArrayList<>();
      for (var manner : manners) {
        together.add(threads.submit(() -> model.answer(asked(WHALE), manner).text()));
      }
      for (int i = 0; i < alone.size(); i++) {
        assertEquals(alone.get(i), together.get(i).get());
      }
    }
  }

  @Test
  void stopStringsAndSeedsCount() {
    String whole = model.complete(WHALE, model.manner()).text();
    String stop = whole.substring(5, 8);
    var cut = model.complete(WHALE, model.manner().withStops(stop));
    assertEquals(whole.substring(0, whole.indexOf(stop)), cut.text());
    assertEquals(Answer.Ending.STOP, cut.ending());
    var drawn = new Sampler(1.5, 0, 1, 3);
    var manner = model.manner().with(drawn);
    assertEquals(model.complete(WHALE, manner).text(), model.complete(WHALE, manner).text());
    assertNotEquals(
        model.complete(WHALE, manner).text(), model.complete(WHALE, manner.withSeed(4)).text());
    assertNotEquals(model.manner().sampler().seed(), model.manner().sampler().seed());
  }

  @Test
  void aForcedCallAndItsResultGoOn() {
    var question = asked("Rome?").withForcedCall(List.of(weather()));
    var called = model.answer(question, model.manner().withTokens(200));
    assertEquals(Answer.Ending.CALLS, called.ending());
    assertEquals("weather", called.calls().getFirst().name());
    var arguments = JsonMapper.shared().readTree(called.calls().getFirst().arguments());
    assertTrue(Set.of("Rome", "Oslo").contains(arguments.path("city").asString()));
    assertEquals("", called.text());
    var next = question.with(called).withResult(called.calls().getFirst(), "no rain");
    var prompt = next.prompt(model.known());
    String text = model.known().tokenizer().decode(prompt.ids());
    assertTrue(text.contains("no rain") && text.contains("\"city\""), text);
    assertTrue(model.answer(next, model.manner()).cachedTokens() > 0);
  }

  /// What comes first decides, and either is whole.
  @Test
  void withToolsAnAnswerIsJsonOrACall() {
    var either = asked("Rome?").withTools(List.of(weather())).withJson(model.json(SCHEMA));
    var endings = new ArrayList<Answer.Ending>();
    int mark = model.known().callMark();
    for (double bias : new double[] {-50, 50}) {
      var manner = model.manner().withTokens(300);
      var biased = manner.with(new LogitAdjustments(1, 0, 0, Map.of(mark, bias)));
      var answer = model.answer(either, biased);
      endings.add(answer.ending());
      String json =
          answer.calls().isEmpty() ? answer.text() : answer.calls().getFirst().arguments();
      assertTrue(JsonMapper.shared().readTree(json).path("city").isString(), json);
    }
    assertEquals(List.of(Answer.Ending.STOP, Answer.Ending.CALLS), endings);
  }

  @Test
  void whatIsCancelledEndsAndFreesItsSlot() throws Exception {
    var writing = model.begin(WHALE, model.manner().withTokens(8000).with(new Sampler(1, 0, 1, 1)));
    var begun = new CountDownLatch(1);
    try (var threads = Executors.newVirtualThreadPerTaskExecutor()) {
      var answer = threads.submit(() -> writing.await(_ -> begun.countDown()));
      begun.await();
      writing.cancel();
      assertEquals(Answer.Ending.CANCELLED, answer.get().ending());
    }
    // the next one waits for the engine's next step, before which slots are free
    model.complete(WHALE, model.manner().withTokens(1));
    assertEquals(0, model.engine().usedSlots());

    Thread.currentThread().interrupt();
    var interrupted = model.complete(WHALE, model.manner());
    assertTrue(Thread.interrupted());
    assertEquals(Answer.Ending.CANCELLED, interrupted.ending());
  }

  @Test
  void aListenerThatFailsEndsItsText() {
    assertThrows(
        IllegalStateException.class,
        () ->
            model
                .begin(WHALE, model.manner().withTokens(8000))
                .await(
                    _ -> {
                      throw new IllegalStateException("no more");
                    }));
    model.complete(WHALE, model.manner().withTokens(1));
    assertEquals(0, model.engine().usedSlots());
  }

  @Test
  void aVectorDoesNotDependOnOthers() {
    var texts = List.of("the sea", WHALE, "a");
    for (var pooling : Pooling.values()) {
      var together = model.embed(texts, pooling);
      for (int i = 0; i < texts.size(); i++) {
        var alone = model.embed(List.of(texts.get(i)), pooling).getFirst();
        assertArrayEquals(alone.vector(), together.get(i).vector());
        assertEquals(model.hiddenSize(), alone.vector().length);
      }
    }
  }

  /// By hand, from the hidden states of the same model in float32.
  @Test
  void vectorsAreMeansAndLastRows() throws Exception {
    long[] ids =
        Arrays.stream(model.known().tokenizer().encodeFramed(WHALE)).asLongStream().toArray();
    try (var exact = TextModel.open(TINY);
        var decoder = ModelDirectory.load(TINY, Precision.FLOAT32, Device.CPU, false);
        var _ = Scope.withoutGradient()) {
      float[] all = decoder.hiddenStates(Tensor.of(ids, 1, ids.length), null, Probe.NONE).floats();
      int size = exact.hiddenSize();
      float[] last = exact.embed(List.of(WHALE), Pooling.LAST).getFirst().vector();
      float[] mean = exact.embed(List.of(WHALE), Pooling.MEAN).getFirst().vector();
      for (int i = 0; i < size; i++) {
        double sum = 0;
        for (int row = 0; row < ids.length; row++) {
          sum += all[row * size + i];
        }
        assertEquals(all[(ids.length - 1) * size + i], last[i], 1e-4);
        assertEquals(sum / ids.length, mean[i], 1e-4);
      }
    }
  }

  /// While others write.
  @Test
  void aProbeSeesGates() {
    var layers = new ArrayList<Integer>();
    var rows = new ArrayList<Integer>();
    var writing = model.begin(WHALE, model.manner().withTokens(200));
    model.watch(
        WHALE,
        new Probe() {
          @Override
          public boolean wantsGates(int layer) {
            return true;
          }

          @Override
          public void gate(int layer, String position, Tensor scores) {
            layers.add(layer);
            rows.add((int) scores.size(1));
          }
        });
    assertEquals(List.of(1), layers); // the layer with attention
    assertEquals(List.of(model.known().tokenizer().encodeFramed(WHALE).length), rows);
    assertTrue(writing.await().tokens() > 0);
    assertThrows(
        IllegalStateException.class,
        () ->
            model
                .engine()
                .with(
                    _ -> {
                      throw new IllegalStateException("of the work");
                    }));
    assertTrue(model.engine().isOpen());
  }

  @Test
  void whatCannotBeDoneIsRefused() throws Exception {
    assertRefused("'mood'", () -> model.begin(asked("x").withVariable("mood", 1), model.manner()));
    assertRefused("there is room for", () -> model.begin("sea ".repeat(9000), model.manner()));
    assertRefused("at least 1 token", () -> model.manner().withTokens(0));
    assertRefused("a stop string is empty", () -> model.manner().withStops(""));
    assertRefused("the schema", () -> model.json("{"));
    assertRefused("a tool's name", () -> Tool.function("a b", "", weather().parameters()));
    assertRefused(
        "cannot both",
        () -> asked("x").withForcedCall(List.of(weather())).withJson(model.json(SCHEMA)));
    String endless = "sea ".repeat(9000);
    assertRefused("must have 1 to 8192", () -> model.embed(List.of("a", endless), Pooling.MEAN));
    assertRefused("neither a directory", () -> TextModel.open(directory));
    assertRefused("the context must be", () -> TextModel.at(TINY).context(100_000).open());
    assertRefused("slots must be", () -> TextModel.at(TINY).slots(0, 1).open());
    assertRefused("q9_9", () -> TextModel.at(TINY).weights("q9_9").open());
    TextModel.at(TINY).keysAndValues(ElementType.BFLOAT16).open().close();
    Path plain = copy(directory.resolve("plain"));
    Files.delete(plain.resolve("chat_template.jinja"));
    try (var without = TextModel.open(plain)) {
      assertRefused("no chat template", () -> without.begin(asked("x"), without.manner()));
      assertFalse(without.complete(WHALE, without.manner().withTokens(3)).text().isEmpty());
    }
    var closed = TextModel.open(plain);
    closed.close();
    assertThrows(RefusedException.class, () -> closed.begin(WHALE, closed.manner()));
    assertThrows(RefusedException.class, () -> closed.embed(List.of(WHALE), Pooling.MEAN));
  }

  /// A model that was trained on sequences with a start token continues such ones.
  @Test
  void whatTheTrainingSaysCounts() throws Exception {
    Path run = Files.createDirectories(directory.resolve("run"));
    Path checkpoint = copy(run.resolve("checkpoints/step-00000001"));
    new RunManifest(
            "commit",
            List.of(),
            Map.of("windows", "documents"),
            Map.of(),
            "none",
            "libtorch",
            RunManifest.Machine.current(),
            Instant.EPOCH)
        .write(run.resolve(RunManifest.FILE_NAME));
    var files = ModelFiles.at(checkpoint, _ -> {});
    assertEquals(Optional.of(WindowRule.DOCUMENTS), files.windowRule());
    assertEquals("step-00000001", files.name());
  }
}
