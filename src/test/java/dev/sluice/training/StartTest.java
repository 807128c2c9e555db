package dev.sluice.training;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.checkpoint.CheckpointDirectory;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.checkpoint.SafetensorsFile;
import dev.sluice.corpus.Corpus;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.ExpertLoad;
import dev.sluice.operations.Precision;
import dev.sluice.probe.Probe;
import dev.sluice.provenance.RunManifest;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import dev.sluice.tokenizer.Tokenizer;
import dev.sluice.tokenizer.Tokenizers;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/// A training that begins with a checkpoint: what it takes from it, what it refuses, what moves,
/// and that it resumes in the same bits.
class StartTest {
  private static final int STEPS = 6;

  @TempDir static Path shared;
  @TempDir Path directory;

  private static final Tokenizer BYTES = Tokenizers.load("bytes");
  private static Corpus corpus;
  private static Path parent;

  @BeforeAll
  static void train() throws IOException {
    corpus = Runs.corpus(shared.resolve("corpus"));
    parent = shared.resolve("parent");
    var config = Runs.config("gate", "none", "steps", 3, "save_every", 3, "learning_rate", 0.02);
    new TrainingRun(config, parent, origin(), new Runs.Heard(), () -> false).start(corpus, BYTES);
  }

  private static TrainingRun.Origin origin() {
    return new TrainingRun.Origin("test", List.of("train"));
  }

  private static RunConfig config(Object... more) {
    Object[] all = new Object[more.length + 4];
    all[0] = "start";
    all[1] = parent;
    all[2] = "steps";
    all[3] = STEPS;
    System.arraycopy(more, 0, all, 4, more.length);
    return Runs.config(all).pinned();
  }

  private static long[] tokens(int count) {
    long[] tokens = new long[count];
    corpus.heldOut().copy(0, count, tokens, 0);
    return tokens;
  }

  private Path run(RunConfig config, String name) throws IOException {
    Path run = directory.resolve(name);
    new TrainingRun(config, run, origin(), new Runs.Heard(), () -> false).start(corpus, BYTES);
    return run;
  }

  private static Decoder load(Path checkpoint) {
    return ModelDirectory.load(checkpoint, Precision.FLOAT32, Device.CPU, false);
  }

  /// Everything at once: frozen at first, gates annealed, a parent, both penalties.
  private static RunConfig everything(Object... more) {
    Object[] all = {
      "gate",
      "sdpa-headwise",
      "frozen_steps",
      2,
      "gate_anneal_steps",
      4,
      "new_learning_rate",
      0.05,
      "parent_kl",
      0.5,
      "text_share",
      0.7,
      "first_token_penalty",
      2,
      "first_token_layers",
      "1",
      "activation_penalty",
      0.1,
      "activation_limit",
      0.5,
      "penalty_warmup_steps",
      2,
      "penalty_decay_steps",
      2,
      "z_loss",
      1e-3,
      "gradient_accumulation",
      2
    };
    Object[] both = new Object[all.length + more.length];
    System.arraycopy(all, 0, both, 0, all.length);
    System.arraycopy(more, 0, both, all.length, more.length);
    return config(both);
  }

  @ParameterizedTest
  @ValueSource(strings = {"first frozen", "always frozen", "masked"})
  void resumesInTheSameBits(String kind) throws IOException {
    var config =
        switch (kind) {
          case "first frozen" -> everything();
          case "always frozen" ->
              everything("frozen_steps", -1, "precision", "bfloat16", "save_while_training", false);
          case "masked" -> everything("document_mask", true, "parent_kl_direction", "from-model");
          default -> throw new IllegalArgumentException(kind);
        };
    Path whole = run(config, "whole");
    var expected = Runs.result(whole);
    for (int step : kind.equals("first frozen") ? new int[] {1, 4} : new int[] {3}) {
      Path part = Runs.after(whole, step, directory.resolve("after-" + step));
      new TrainingRun(config, part, origin(), new Runs.Heard(), () -> false).resume(corpus, BYTES);
      assertEquals(expected, Runs.result(part), kind + " after step " + step);
    }
    for (Path checkpoint : CheckpointDirectory.complete(whole.resolve("checkpoints"))) {
      TrainingCheckpoint.verify(checkpoint);
    }
  }

  /// In the frozen steps what was there keeps every bit while the gates move; afterwards all moves.
  @Test
  void frozenAtFirst() throws IOException {
    Path run = run(everything(), "run");
    Path start = CheckpointDirectory.latest(parent.resolve("checkpoints")).orElseThrow();
    try (var before = load(start);
        var frozen = load(run.resolve("checkpoints/step-00000002"));
        var moved = load(run.resolve("checkpoints/step-00000003"))) {
      for (var named : before.parameters().all().entrySet()) {
        float[] numbers = named.getValue().floats();
        assertArrayEquals(numbers, frozen.parameters().get(named.getKey()).floats());
        assertFalse(
            Arrays.equals(numbers, moved.parameters().get(named.getKey()).floats()),
            named.getKey());
      }
      var gates = new LinkedHashSet<>(frozen.parameters().all().keySet());
      gates.removeAll(before.parameters().all().keySet());
      assertEquals(2, gates.size());
      for (String gate : gates) {
        assertTrue(frozen.parameters().get(gate).absolute().max().item() > 0.01, gate);
      }
    }
  }

  /// Without new parameters nothing moves in the frozen steps: so a control moves a model for as
  /// many steps as it moves beside gates. It is told.
  @Test
  void frozenWithoutGates() throws IOException {
    var config = config("gate", "model", "frozen_steps", 2, "parent_kl", 0.5);
    Path run = directory.resolve("run");
    var heard = new Runs.Heard();
    new TrainingRun(config, run, origin(), heard, () -> false).start(corpus, BYTES);
    assertTrue(
        heard.noted.contains(
            "With gate model the model has no new parameters, so nothing moves in the first 2 steps"
                + " (frozen_steps)."),
        heard.noted::toString);
    Path start = CheckpointDirectory.latest(parent.resolve("checkpoints")).orElseThrow();
    try (var before = load(start);
        var frozen = load(run.resolve("checkpoints/step-00000002"));
        var moved = load(run.resolve("checkpoints/step-00000003"))) {
      for (var named : before.parameters().all().entrySet()) {
        float[] numbers = named.getValue().floats();
        assertArrayEquals(numbers, frozen.parameters().get(named.getKey()).floats());
        assertFalse(
            Arrays.equals(numbers, moved.parameters().get(named.getKey()).floats()),
            named.getKey());
      }
    }
    Path part = Runs.after(run, 1, directory.resolve("part"));
    new TrainingRun(config, part, origin(), heard, () -> false).resume(corpus, BYTES);
    assertEquals(Runs.result(run), Runs.result(part));
  }

  @Test
  void whatIsAlwaysFrozenHasNoState() throws IOException {
    Path run = run(everything("frozen_steps", -1), "run");
    Path last = run.resolve("checkpoints/step-00000006");
    try (var file = SafetensorsFile.open(last.resolve(TrainingCheckpoint.OPTIMIZER));
        var before = load(CheckpointDirectory.latest(parent.resolve("checkpoints")).orElseThrow());
        var after = load(last)) {
      assertEquals(4, file.names().size(), file.names()::toString); // two gates, two moments each
      before
          .parameters()
          .all()
          .forEach(
              (name, numbers) ->
                  assertArrayEquals(numbers.floats(), after.parameters().get(name).floats(), name));
    }
  }

  /// With a gate at any position the model begins bit for bit as it was.
  @ParameterizedTest
  @ValueSource(
      strings = {
        "sdpa-elementwise",
        "sdpa-headwise",
        "query-elementwise",
        "key-headwise",
        "value-elementwise-shared",
        "dense-elementwise",
        "sdpa-elementwise-additive-silu",
        "sdpa-headwise-ns-sigmoid-bias*40",
        "sdpa-elementwise-rank*3",
        "value-headwise-input-independent",
        "sdpa-headwise-from-output",
        "query-elementwise+value-headwise+dense-elementwise"
      })
  void beginsAsItWas(String gate) {
    var start = StartCheckpoint.of(config("gate", gate));
    long[] ids = tokens(40);
    assertEquals(0, start.differenceAtStart(Precision.FLOAT32, Device.CPU, ids), gate);
    assertEquals(0, start.differenceAtStart(Precision.BFLOAT16, Device.CPU, ids), gate);
    assertFalse(start.added(start.decoder()).isEmpty());
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "sdpa-elementwise-silu",
        "sdpa-elementwise-softplus",
        "sdpa-elementwise-additive",
        "sdpa-elementwise-ns-sigmoid",
        "sdpa-headwise-bias*0.5",
        "sdpa-headwise-bias*3"
      })
  void refusesAGateThatIsNotThereAtOnce(String gate) {
    var refused =
        assertThrows(
            InvalidInputException.class, () -> StartCheckpoint.of(config("gate", gate)).decoder());
    assertTrue(
        refused.getMessage().contains("does not begin as if it were not there"),
        refused::getMessage);
    var taken = StartCheckpoint.of(config("gate", gate, "identity_start", false));
    long[] ids = tokens(40);
    assertTrue(taken.differenceAtStart(Precision.FLOAT32, Device.CPU, ids) > 1e-4, gate);
  }

  @ParameterizedTest
  @CsvSource({
    "hidden_size,48,contradicts start",
    "layers,3,contradicts start",
    "layers_pattern,gdn,decides that itself",
    "qk_norm,false,has true",
    "softmax_sink,learned,decides that itself",
    "match_parameters,true,decides that itself",
    "model,small,decides that itself",
    "sequence_length,40000,more than the context",
    "frozen_steps,6,the run has 6 steps",
    "gate_anneal_steps,6,the run has 6 steps",
    "first_token_layers,2,names layer 2",
    "activation_layers,0-2,names layer 2",
    "text_share,0.5,weighs the text against parent_kl",
    "parent_kl_direction,both,unknown parent_kl_direction",
    "first_token_layers,x,names no layers",
    "frozen_steps,-2,or -1 for all"
  })
  void refuses(String setting, String value, String says) {
    var refused =
        assertThrows(
            InvalidInputException.class,
            () -> Trainable.require(config("gate", "sdpa-headwise", setting, value), BYTES, 1));
    assertTrue(refused.getMessage().contains(says), refused::getMessage);
  }

  /// Of a model with new weights too.
  @ParameterizedTest
  @CsvSource({
    "first_token_layers,7,model,'names layer 7, and the model has 2'",
    "first_token_layers,'0,7',model,'names layer 7, and the model has 2'",
    "activation_layers,99,model,'names layer 99, and the model has 2'",
    "first_token_layers,1,'attention,gdn','names layer 1, which has no attention'",
    "first_token_layers,all,gdn,no layer of the model has attention"
  })
  void aPenaltyOnLayersThatAreNotThere(String setting, String value, String pattern, String says) {
    var config =
        Runs.config(
            "gate",
            "none",
            "first_token_penalty",
            1,
            "activation_penalty",
            1,
            "layers_pattern",
            pattern,
            setting,
            value);
    var refused =
        assertThrows(InvalidInputException.class, () -> Trainable.require(config, BYTES, 1));
    assertTrue(refused.getMessage().contains(says), refused::getMessage);
  }

  /// What the model is said to take is what it was trained with, whatever its training began with.
  @Test
  void aContextShorterThanTheSequences() {
    for (var config : List.of(Runs.config("context", 8), config("gate", "model", "context", 8))) {
      var refused =
          assertThrows(InvalidInputException.class, () -> Trainable.require(config, BYTES, 1));
      assertTrue(
          refused.getMessage().contains("context 8 is less than the sequences of 32 tokens"),
          refused::getMessage);
    }
    Trainable.require(Runs.config("context", 32), BYTES, 1);
  }

  @Test
  void needsAStart() {
    for (String setting :
        List.of("frozen_steps", "parent_kl", "new_learning_rate", "new_weight_decay")) {
      var refused = assertThrows(InvalidInputException.class, () -> Runs.config(setting, 1));
      assertTrue(refused.getMessage().contains("name it as start"), refused::getMessage);
    }
    var nowhere =
        assertThrows(
            InvalidInputException.class,
            () -> Runs.config("start", directory.resolve("nowhere")).pinned());
    assertTrue(nowhere.getMessage().contains("holds neither"), nowhere::getMessage);
    var nothing =
        assertThrows(
            InvalidInputException.class,
            () -> StartCheckpoint.of(config("gate", "model", "frozen_steps", -1)).decoder());
    assertTrue(nothing.getMessage().contains("add a gate"), nothing::getMessage);
  }

  /// The manifest says which weights the run began with, and no others are taken for them.
  @Test
  void otherWeightsAreNotTheSame() throws IOException {
    Path start = directory.resolve("start");
    Path original = CheckpointDirectory.latest(parent.resolve("checkpoints")).orElseThrow();
    Files.createDirectory(start);
    for (String name : List.of("config.json", "model.safetensors", "tokenizer.json")) {
      Files.copy(original.resolve(name), start.resolve(name));
    }
    var config = config("gate", "model", "start", start);
    Path run = run(config, "run");
    var manifest = RunManifest.read(run.resolve(RunManifest.FILE_NAME));
    assertEquals(64, String.valueOf(manifest.config().get(StartCheckpoint.CHECKSUM)).length());
    assertEquals(start.toAbsolutePath().toString(), manifest.config().get("start"));

    byte[] weights = Files.readAllBytes(start.resolve("model.safetensors"));
    weights[weights.length - 1] ^= 1;
    Files.write(start.resolve("model.safetensors"), weights);
    var resumed = new TrainingRun(config, run, origin(), new Runs.Heard(), () -> false);
    var refused = assertThrows(InvalidInputException.class, () -> resumed.resume(corpus, BYTES));
    assertTrue(refused.getMessage().contains("changed since the run began"), refused::getMessage);
    Files.writeString(run.resolve(RunManifest.FILE_NAME), "{"); // its checkpoint says the same
    var torn = assertThrows(InvalidInputException.class, () -> resumed.resume(corpus, BYTES));
    assertTrue(torn.getMessage().contains("changed since the run began"), torn::getMessage);
  }

  /// A model with another vocabulary than bytes have, and no tokenizer, is not trained on bytes.
  @Test
  void tokenizerIsTheCheckpoints() throws IOException {
    assertTrue(config("gate", "model").tokenizer().contains("step-0000"));
    Path start = directory.resolve("start");
    Files.createDirectory(start);
    try (var _ = Scope.open();
        var decoder =
            Decoder.initialize(
                Runs.config("gate", "none").decoder(300), Precision.FLOAT32, Device.CPU, 1)) {
      ModelDirectory.write(start, decoder);
    }
    var refused =
        assertThrows(
            InvalidInputException.class, config("gate", "model", "start", start)::tokenizer);
    assertTrue(refused.getMessage().contains("name its tokenizer"), refused::getMessage);
  }

  /// What penalties add to the loss, and that it falls as they push.
  @Test
  void penaltiesArePartsOfTheObjective() throws IOException {
    Path run = run(everything("penalty_warmup_steps", 0, "penalty_decay_steps", 0), "run");
    var metrics = RunMetrics.read(run);
    double[] loss = metrics.curve("loss").values();
    double[] kl = metrics.curve("parent_kl").values();
    double[] share = metrics.curve("first_token_share").values();
    double[] excess = metrics.curve("activation_excess").values();
    double[] z = metrics.curve("z_loss").values();
    double[] objective = metrics.curve("objective").values();
    assertEquals(STEPS, objective.length);
    assertEquals(0, kl[0]);
    assertTrue(kl[STEPS - 1] > 0);
    assertTrue(share[0] > 0 && excess[0] > 0);
    for (int i = 0; i < STEPS; i++) {
      double sum = 0.7 * loss[i] + 0.5 * kl[i] + 2 * share[i] + 0.1 * excess[i] + z[i];
      assertEquals(sum, objective[i], 1e-4 * sum, "step " + (i + 1));
    }
  }

  /// A is the mean over blocks and tokens of what is above the limit.
  @Test
  void activationExcessIsItsDefinition() {
    var config = config("gate", "model", "activation_penalty", 1, "activation_limit", 0.3);
    try (var _ = Scope.open();
        var decoder = StartCheckpoint.of(config).begin(Precision.FLOAT32, Device.CPU);
        var objective = new WeightedObjective(config.start(), STEPS, 0, Set.of(), null)) {
      long[] ids = tokens(66);
      var rows = Tensor.of(ids, 2, 33);
      var inputs = rows.narrow(1, 0, 32);
      double[] expected = new double[1];
      var _ =
          decoder.hiddenStates(
              inputs,
              null,
              new Probe() {
                @Override
                public void residual(int index, Tensor xBTD) {
                  for (float x : index == 1 || index == 2 ? xBTD.floats() : new float[0]) {
                    expected[0] += Math.max(0, Math.abs(x) - 0.3) / (2 * 2 * 32);
                  }
                }
              });
      var terms =
          objective.terms(decoder, inputs, rows.narrow(1, 1, 32), null, new ExpertLoad(), 0);
      double found = Objects.requireNonNull(terms.parts().get("activation_excess")).item();
      assertEquals(expected[0], found, 1e-4 * expected[0]);
      assertTrue(expected[0] > 0);
      assertNotEquals(0, terms.total().item());
    }
  }

  /// Half of what does nothing at first, none of it at the end, and penalties that rise and fall.
  @Test
  void schedules() {
    var settings =
        config(
                "gate",
                "sdpa-headwise",
                "gate_anneal_steps",
                4,
                "penalty_warmup_steps",
                2,
                "penalty_decay_steps",
                3)
            .start();
    double[] neutral = {0.5, 0.375, 0.25, 0.125, 0, 0};
    double[] penalty = {0.5, 1, 1, 2 / 3.0, 1 / 3.0, 0};
    for (int step = 0; step < STEPS; step++) {
      assertEquals(neutral[step], settings.neutralShare(step), 1e-12);
      assertEquals(penalty[step], settings.penaltyShare(step, STEPS), 1e-12);
    }
  }

  /// Two ranks do what one does, also when other parameters begin to move, and where most never do.
  @ParameterizedTest
  @CsvSource({"2,0", "2,2", "-1,1"})
  void twoRanks(int frozen, int zero) throws Exception {
    var config = everything("frozen_steps", frozen, "batch_size", 4, "gradient_accumulation", 1);
    Path one = run(config, "one");
    Path two = directory.resolve("two");
    var shared = config.with(null, Map.of("zero", String.valueOf(zero)));
    TwoRanks.run(
        replicas -> {
          var heard = new Runs.Heard();
          return new TrainingRun(shared, two, origin(), heard, () -> false, replicas)
              .start(corpus, BYTES);
        });
    for (String curve : List.of("loss", "parent_kl", "first_token_share", "gradient_norm")) {
      assertArrayEquals(
          RunMetrics.read(one).curve(curve).values(),
          RunMetrics.read(two).curve(curve).values(),
          1e-5,
          curve);
    }
    TrainingCheckpoint.verify(two.resolve("checkpoints/step-00000006"));
  }
}
