package dev.sluice.training;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.checkpoint.CheckpointDirectory;
import dev.sluice.corpus.Corpus;
import dev.sluice.decoder.Decoder;
import dev.sluice.distributed.GradientExchange;
import dev.sluice.operations.Precision;
import dev.sluice.optimizer.AdamW;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import dev.sluice.tokenizer.Tokenizer;
import dev.sluice.tokenizer.Tokenizers;
import dev.sluice.training.TrainingRun.Ending;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import java.util.Random;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/// Two ranks do what one does.
class DataParallelTest {
  private static final int STEPS = 12;

  @TempDir Path directory;

  private final Tokenizer tokenizer = Tokenizers.load("bytes");
  private Corpus corpus;

  @BeforeEach
  void prepare() {
    corpus = Runs.corpus(directory.resolve("corpus"));
  }

  private static RunConfig config(Object... more) {
    var all = new ArrayList<Object>(List.of("steps", STEPS, "batch_size", 4, "save_every", 4));
    all.addAll(List.of("evaluate_every", 6, "sample_tokens", 0));
    all.addAll(List.of(more));
    return Runs.config(all.toArray());
  }

  private Path one(RunConfig config, String name) throws Exception {
    Path run = directory.resolve(name);
    Runs.run(config, run, Runs.Fault.NONE, new Runs.Heard(), () -> false).start(corpus, tokenizer);
    return run;
  }

  private Path two(RunConfig config, String name, boolean resume) throws Exception {
    Path run = directory.resolve(name);
    TwoRanks.run(
        replicas -> {
          var rank =
              Runs.run(config, run, Runs.Fault.NONE, new Runs.Heard(), () -> false, replicas);
          return resume ? rank.resume(corpus, tokenizer) : rank.start(corpus, tokenizer);
        });
    return run;
  }

  private static void assertSame(Path expected, Path actual, double relative) {
    for (String name : List.of("loss", "gradient_norm")) {
      var one = Runs.curve(expected, name);
      var two = Runs.curve(actual, name);
      assertEquals(one.keySet(), two.keySet());
      one.forEach(
          (step, value) ->
              assertEquals(
                  value, two.get(step), relative * Math.abs(value), name + " of step " + step));
    }
  }

  /// The same global batch: losses differ by the order of float32 sums alone. The gates are one
  /// fused, one composed, one of another position, one with a bias; experts balance over all ranks.
  @ParameterizedTest
  @CsvSource({
    "sdpa-elementwise, 1, 1, none",
    "sdpa-headwise-shared, 1, 2, learned",
    "value-elementwise-rank*4, 1, 1, none",
    "sdpa-elementwise-input-independent, 1, 1, off-by-one",
    "none, 4, 1, none"
  })
  void twoRanksGiveTheLossesOfOne(String gate, int experts, int accumulation, String sink)
      throws Exception {
    var config =
        config(
            "gate",
            gate,
            "experts",
            experts,
            "experts_per_token",
            Math.min(2, experts),
            "gradient_accumulation",
            accumulation,
            "softmax_sink",
            sink);
    assertSame(one(config, "one"), two(config, "two", false), 1e-5);
  }

  @Test
  void twoRanksMaskDocumentsAsOneDoes() throws Exception {
    corpus = Runs.documents(directory.resolve("corpus"));
    var config = config("document_mask", true, "layers_pattern", "attention,gdn");
    assertSame(one(config, "one"), two(config, "two", false), 1e-5);
  }

  /// Experts large enough for several buckets, whose gradients are multiplied all at once after
  /// they were asked for: a bucket must not leave between.
  @Test
  void gradientsOfExpertsLeaveWhenTheyAreThere() throws Exception {
    var config =
        config(
            "steps",
            6,
            "hidden_size",
            256,
            "intermediate_size",
            256,
            "experts",
            4,
            "experts_per_token",
            2,
            "gate",
            "sdpa-headwise",
            "layers",
            3);
    assertSame(one(config, "one"), two(config, "two", false), 1e-5);
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 2})
  void shardedStateChangesNothing(int zero) throws Exception {
    var plain = two(config(), "plain", false);
    var sharded = two(config("zero", zero), "sharded", false);
    assertSame(plain, sharded, 1e-6);
    // The checkpoint is as one process writes it.
    Path last = CheckpointDirectory.latest(sharded.resolve("checkpoints")).orElseThrow();
    CheckpointDirectory.verify(last);
    Path same = CheckpointDirectory.latest(plain.resolve("checkpoints")).orElseThrow();
    for (String file : List.of("model.safetensors", "optimizer.safetensors")) {
      assertEquals(Files.size(same.resolve(file)), Files.size(last.resolve(file)));
    }
  }

  /// Maps are moved by their owner, and only what AdamW moves has a second moment. Without
  /// clipping, whose norm is summed in another order, the bits are those of unshared state; and one
  /// rank goes on from what two saved.
  @ParameterizedTest
  @ValueSource(ints = {1, 2})
  void shardedMuonChangesNoBit(int zero) throws Exception {
    Object[] settings = {"optimizer", "muon", "clip_norm", 1e6, "steps", 6, "save_every", 3};
    var plain = two(config(settings), "plain", false);
    var all = new ArrayList<Object>(List.of(settings));
    all.addAll(List.of("zero", zero));
    var config = config(all.toArray());
    var sharded = two(config, "sharded", false);
    assertSame(plain, sharded, 1e-12);
    Path last = CheckpointDirectory.latest(sharded.resolve("checkpoints")).orElseThrow();
    TrainingCheckpoint.verify(last);
    Path same = CheckpointDirectory.latest(plain.resolve("checkpoints")).orElseThrow();
    for (String file : List.of("model.safetensors", "optimizer.safetensors")) {
      assertArrayEquals(
          Files.readAllBytes(same.resolve(file)), Files.readAllBytes(last.resolve(file)), file);
    }
    Path one = Runs.after(sharded, 3, directory.resolve("one"));
    Runs.run(config, one, Runs.Fault.NONE, new Runs.Heard(), () -> false).resume(corpus, tokenizer);
    // another order of float32 sums, which Muon's bfloat16 makes larger
    assertSame(sharded, one, 0.05);
    Path again = Runs.after(sharded, 3, directory.resolve("again"));
    two(config, "again", true);
    assertEquals(Runs.result(sharded), Runs.result(again));
  }

  @ParameterizedTest
  @ValueSource(ints = {0, 1, 2})
  void anotherNumberOfRanksGoesOn(int zero) throws Exception {
    var config = config("zero", zero);
    Path whole = one(config, "whole");
    Path run = Runs.after(two(config, "run", false), 4, directory.resolve("four"));
    Runs.run(config, run, Runs.Fault.NONE, new Runs.Heard(), () -> false).resume(corpus, tokenizer);
    assertSame(whole, run, 1e-5);
    Path again = Runs.after(run, 8, directory.resolve("again"));
    two(config, "again", true);
    assertSame(whole, again, 1e-5);
  }

  /// Gradients leave while the backward pass goes on, and each rank keeps its share of the state.
  @Test
  void memoryFallsAsStatedAndBucketsLeaveEarly() throws Exception {
    var shape = Runs.config("hidden_size", 256, "intermediate_size", 512, "layers", 4).decoder(256);
    long parameters = shape.parameterCount() * Float.BYTES;
    for (int zero = 0; zero <= 2; zero++) {
      int stage = zero;
      long[] moments = new long[2];
      long[] gradients = new long[2];
      double[] overlapped = new double[2];
      TwoRanks.run(
          replicas -> {
            try (var decoder = Decoder.initialize(shape, Precision.FLOAT32, Device.CPU, 1)) {
              var exchange = new GradientExchange(replicas, decoder.parameters(), stage);
              try (var trainer =
                  new Trainer(
                      decoder,
                      new AdamW.Settings(0.9, 0.95, 1e-8, 0.1),
                      config().optimization().scheduleOf(),
                      1e-3,
                      1,
                      0,
                      exchange,
                      OptionalInt.empty())) {
                var random = new Random(replicas.rank());
                for (int step = 1; step <= 3; step++) {
                  long[] ids = random.longs(2 * 33, 0, 256).toArray();
                  trainer.step(
                      step,
                      List.of(ids),
                      2,
                      32,
                      (_, _) -> {
                        gradients[replicas.rank()] = exchange.gradientBytes();
                        return true;
                      });
                }
                moments[replicas.rank()] = bytes(trainer.optimizer().firstMoments());
                overlapped[replicas.rank()] = exchange.overlapped();
                assertEquals(exchange.ownedBytes(), moments[replicas.rank()]);
                assertEquals(exchange.keptGradientBytes(), gradients[replicas.rank()]);
              }
            }
            return 0;
          });
      long expectedMoments = stage == 0 ? 2 * parameters : parameters;
      long expectedGradients = stage == 2 ? parameters : 2 * parameters;
      assertEquals(expectedMoments, moments[0] + moments[1], "zero " + stage);
      assertEquals(expectedGradients, gradients[0] + gradients[1], "zero " + stage);
      if (stage > 0) { // evenly, to within the largest parameter
        assertEquals(0.5, (double) moments[0] / parameters, 0.05, "zero " + stage);
      }
      assertTrue(overlapped[0] > 0.4, "zero " + stage + ": " + overlapped[0]);
    }
  }

  /// What another rank has moved comes past libtorch; the next product takes it.
  @Test
  void productsTakeTheWeightsThatOtherRanksMoved() throws Exception {
    var shape = Runs.config().decoder(256);
    TwoRanks.run(
        replicas -> {
          try (var decoder = Decoder.initialize(shape, Precision.BFLOAT16, Device.CPU, 1)) {
            var exchange = new GradientExchange(replicas, decoder.parameters(), 1);
            try (var trainer =
                new Trainer(
                    decoder,
                    new AdamW.Settings(0.9, 0.95, 1e-8, 0.1),
                    config().optimization().scheduleOf(),
                    1e-2,
                    1,
                    0,
                    exchange,
                    OptionalInt.empty())) {
              var random = new Random(replicas.rank());
              for (int step = 1; step <= 2; step++) {
                trainer.step(step, List.of(random.longs(2 * 33, 0, 256).toArray()), 2, 32);
                for (var weight : decoder.parameters().weights().values()) {
                  var now = weight.leaf().detach().to(ElementType.BFLOAT16).floats();
                  assertArrayEquals(now, weight.of(ElementType.BFLOAT16).floats(), weight.name());
                }
              }
            }
          }
          return 0;
        });
  }

  private static long bytes(Map<String, Tensor> tensors) {
    return tensors.values().stream().mapToLong(tensor -> tensor.elements() * Float.BYTES).sum();
  }

  // ---------------------------------------------------------------- agreement

  /// One rank alone meets a NaN: both pass over the step, and both have the same weights after.
  @ParameterizedTest
  @CsvSource({"true, 0", "false, 0", "true, 2", "false, 2"})
  void aNanOfOneRankIsSeenByAll(boolean inTheGradient, int zero) throws Exception {
    var config = config("zero", zero, "steps", 6, "save_every", 1);
    Path run = directory.resolve("run");
    List<Runs.Heard> heard = List.of(new Runs.Heard(), new Runs.Heard());
    var outcomes =
        TwoRanks.run(
            replicas -> {
              Runs.Fault fault =
                  new Runs.Fault() {
                    @Override
                    public double differentiated(int step, double loss, Parameters parameters) {
                      return hits(step) && !inTheGradient ? Double.NaN : loss;
                    }

                    @Override
                    public Tensor differentiable(int step, Tensor total) {
                      return hits(step) && inTheGradient ? total.times(Double.NaN) : total;
                    }

                    private boolean hits(int step) {
                      return step == 4 && replicas.rank() == 1;
                    }
                  };
              return Runs.run(config, run, fault, heard.get(replicas.rank()), () -> false, replicas)
                  .start(corpus, tokenizer);
            });
    for (int rank = 0; rank < 2; rank++) {
      assertEquals(Ending.COMPLETE, outcomes.get(rank).ending());
      assertEquals(1, heard.get(rank).guarded.size(), heard.get(rank).guarded::toString);
      assertTrue(heard.get(rank).guarded.getFirst().startsWith("4: "));
    }
    assertEquals("[4]", Runs.curve(run, "skipped").keySet().toString());
    assertEquals(weights(run, 3), weights(run, 4));
    assertFalse(weights(run, 4).equals(weights(run, 5)));
    assertTrue(Runs.curve(run, "loss").get(6) < Runs.curve(run, "loss").get(1));
  }

  private static String weights(Path run, int step) throws Exception {
    return Files.readString(
        run.resolve("checkpoints")
            .resolve(CheckpointDirectory.name(step))
            .resolve("model.safetensors"),
        StandardCharsets.ISO_8859_1);
  }

  /// Going back is agreed on too.
  @Test
  void ranksGoBackTogether() throws Exception {
    var config = config("steps", 9, "save_every", 3, "max_skips", 0);
    Path run = directory.resolve("run");
    List<Runs.Heard> heard = List.of(new Runs.Heard(), new Runs.Heard());
    TwoRanks.run(
        replicas ->
            Runs.run(
                    config,
                    run,
                    (step, loss, _) ->
                        step == 5
                                && replicas.rank() == 1
                                && heard.get(replicas.rank()).guarded.isEmpty()
                            ? Double.NaN
                            : loss,
                    heard.get(replicas.rank()),
                    () -> false,
                    replicas)
                .start(corpus, tokenizer));
    assertEquals(List.of(1, 2, 3, 4, 4, 5, 6, 7, 8, 9), heard.getFirst().steps);
    assertEquals(heard.getFirst().steps, heard.getLast().steps);
    assertEquals(9, Runs.curve(run, "loss").size());
  }

  /// Asked of one rank, done by all at the same step.
  @Test
  void ranksStopTogether() throws Exception {
    var config = config("save_every", 100);
    Path run = directory.resolve("run");
    List<Runs.Heard> heard = List.of(new Runs.Heard(), new Runs.Heard());
    var outcomes =
        TwoRanks.run(
            replicas -> {
              var own = heard.get(replicas.rank());
              return Runs.run(
                      config,
                      run,
                      Runs.Fault.NONE,
                      own,
                      () -> replicas.rank() == 1 && own.steps.size() == 7,
                      replicas)
                  .start(corpus, tokenizer);
            });
    for (var outcome : outcomes) {
      assertEquals(Ending.STOPPED, outcome.ending());
      assertEquals(7, outcome.steps());
    }
    assertEquals(List.of("step-00000007"), Runs.checkpoints(run));
  }

  @Test
  void sumsAreSumsOnBothRanks() throws Exception {
    var sums =
        TwoRanks.run(
            replicas -> {
              try (var _ = Scope.withoutGradient()) {
                return List.of(
                    replicas.sum(replicas.rank() + 1.0, 0.5)[0],
                    replicas.mean(replicas.rank()),
                    (double) replicas.sum(1L << 40, replicas.rank())[0],
                    replicas.any(replicas.rank() == 1) ? 1.0 : 0.0,
                    replicas.any(false) ? 1.0 : 0.0,
                    (double) replicas.fromFirst("key", "said by " + replicas.rank()).length());
              }
            });
    assertEquals(List.of(3.0, 0.5, (double) (1L << 41), 1.0, 0.0, 9.0), sums.getFirst());
    assertEquals(sums.getFirst(), sums.getLast());
  }
}
