package dev.sluice.training;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.checkpoint.CheckpointDirectory;
import dev.sluice.checkpoint.SafetensorsFile;
import dev.sluice.corpus.Corpus;
import dev.sluice.optimizer.AdamW;
import dev.sluice.optimizer.Muon;
import dev.sluice.tensor.ParameterSpec;
import dev.sluice.tokenizer.Tokenizer;
import dev.sluice.tokenizer.Tokenizers;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/// Runs with Muon, the z-loss and independent decay.
class MuonRunTest {
  @TempDir Path directory;

  private final Tokenizer tokenizer = Tokenizers.load("bytes");
  private Corpus corpus;

  @BeforeEach
  void prepare() {
    corpus = Runs.corpus(directory.resolve("corpus"));
  }

  private Path start(RunConfig config, String name, Runs.Fault fault) throws IOException {
    Path run = directory.resolve(name);
    Runs.run(config, run, fault, new Runs.Heard(), () -> false).start(corpus, tokenizer);
    return run;
  }

  private static Path last(Path run) {
    return CheckpointDirectory.latest(run.resolve("checkpoints")).orElseThrow();
  }

  private static String weights(Path run, int step) throws IOException {
    return Files.readString(
        run.resolve("checkpoints")
            .resolve(CheckpointDirectory.name(step))
            .resolve("model.safetensors"),
        StandardCharsets.ISO_8859_1);
  }

  @Test
  void learnsAndKeepsOneMomentOfMaps() throws IOException {
    Path run = start(Runs.config("optimizer", "muon", "save_every", 8), "run", Runs.Fault.NONE);
    var losses = Runs.curve(run, "loss");
    assertTrue(losses.get(8) < losses.get(1), losses::toString);
    assertTrue(Runs.curve(run, "z_loss").isEmpty());
    try (var file = SafetensorsFile.open(last(run).resolve("optimizer.safetensors"))) {
      assertTrue(file.names().contains("first_moment.model.layers.0.self_attn.q_proj.weight"));
      assertTrue(!file.names().contains("second_moment.model.layers.0.self_attn.q_proj.weight"));
      assertTrue(file.names().contains("second_moment.model.embed_tokens.weight"));
    }
    assertTrue(RunCheck.check(run, _ -> {}).stream().allMatch(part -> part.damage() == null));
  }

  /// Each way: its state is of no use to the other.
  @Test
  void anotherOptimizerIsRefused() throws IOException {
    var adamW = Runs.config("steps", 2);
    var muon = Runs.config("steps", 2, "optimizer", "muon");
    Path run = start(adamW, "adamw", Runs.Fault.NONE);
    assertRefused(muon, run, "adamw", "muon");
    assertRefused(adamW, start(muon, "muon", Runs.Fault.NONE), "muon", "adamw");
  }

  private void assertRefused(RunConfig config, Path run, String begun, String wanted) {
    String refused =
        assertThrows(
                InvalidInputException.class,
                () ->
                    Runs.run(config, run, Runs.Fault.NONE, new Runs.Heard(), () -> false)
                        .resume(corpus, tokenizer))
            .getMessage();
    assertTrue(
        refused.contains(
            "step-00000002 holds the state of optimizer %s and the run is to go on with %s"
                .formatted(begun, wanted)),
        refused);
    assertTrue(refused.contains("--optimizer " + begun), refused);
  }

  @Test
  void whatIsNotFiniteMovesNothing() throws IOException {
    Path run =
        start(
            Runs.config("optimizer", "muon", "z_loss", 1e-4),
            "run",
            (step, loss, _) -> step == 4 ? Double.NaN : loss);
    assertEquals(weights(run, 3), weights(run, 4));
    assertTrue(!weights(run, 4).equals(weights(run, 5)));
  }

  /// The first step's loss is that of a run without it, and what is added is told; later it is
  /// less.
  @Test
  void zLossIsToldApartAndMovesTheWeights() throws IOException {
    Path plain = start(Runs.config(), "plain", Runs.Fault.NONE);
    Path with = start(Runs.config("z_loss", 0.1), "with", Runs.Fault.NONE);
    assertEquals(Runs.curve(plain, "loss").get(1), Runs.curve(with, "loss").get(1));
    var z = Runs.curve(with, "z_loss");
    assertEquals(8, z.size());
    double logVocabulary = Math.log(257); // what logits near zero sum to
    assertEquals(0.1 * logVocabulary * logVocabulary, z.get(1), 0.1);
    assertTrue(z.get(8) < z.get(1), z::toString);
    assertNull(Runs.curve(plain, "z_loss").get(1));
  }

  // ---------------------------------------------------------------- settings

  /// θ ← θ − s (ηΔ + λθ): the decay of a step is λ times the schedule's share, at any rate.
  @Test
  void independentDecayDoesNotGrowWithTheLearningRate() {
    for (String rate : List.of("1e-4", "3e-2")) {
      var settings =
          Runs.config(
                  "learning_rate", rate, "weight_decay", "1e-4", "weight_decay_kind", "independent")
              .optimization();
      var adamW = (AdamW.Settings) settings.optimizerSettings();
      for (int step : new int[] {1, 2, 8}) {
        double share = settings.learningRateAt(step) / settings.learningRate();
        assertEquals(
            1e-4 * share, settings.learningRateAt(step) * adamW.weightDecay(), 1e-12, rate);
      }
    }
    var muon =
        Runs.config("optimizer", "MUON", "muon_momentum", 0.9, "weight_decay", 0.2).optimization();
    assertEquals(
        new Muon.Settings(0.9, new AdamW.Settings(0.9, 0.95, 1e-8, 0.2)), muon.optimizerSettings());
  }

  @Test
  void tellsWhatMakesNoSense() {
    assertEquals(List.of(), Runs.config().notes());
    assertEquals(
        List.of(), Runs.config("weight_decay_kind", "independent", "weight_decay", "1e-4").notes());
    String much = Runs.config("weight_decay_kind", "independent").notes().getFirst();
    assertTrue(much.contains("weight_decay 0.1 is not multiplied by the learning rate"), much);
    String fast = Runs.config("learning_rate", 1, "weight_decay", 0.1).notes().getFirst();
    assertTrue(fast.contains("weight_decay 0.1 is multiplied by 1.0"), fast);
    assertEquals(
        List.of("muon_momentum 0.9 does nothing with optimizer adamw."),
        Runs.config("muon_momentum", 0.9).notes());
    for (var wrong : Map.of("optimizer", "adam", "weight_decay_kind", "none").entrySet()) {
      String refused =
          assertThrows(
                  InvalidInputException.class,
                  () -> start(Runs.config(wrong.getKey(), wrong.getValue()), "x", Runs.Fault.NONE))
              .getMessage();
      assertTrue(refused.contains("'" + wrong.getValue() + "'; use "), refused);
      assertTrue(Files.notExists(directory.resolve("x")));
    }
  }

  // ---------------------------------------------------------------- which parameters

  private static Map<String, String> maps(Object... settings) {
    Map<String, String> maps = new TreeMap<>();
    Runs.config(settings)
        .decoder(257)
        .parameters()
        .forEach(
            (name, spec) ->
                maps.put(
                    name.replaceAll("^model\\.layers\\.\\d+\\.|\\.\\d+(?=\\.)|\\.weight$", ""),
                    described(spec)));
    return maps;
  }

  private static String described(ParameterSpec spec) {
    return spec.maps().length == 0 ? "" : Arrays.toString(spec.maps());
  }

  /// The rule, said once more for every kind of parameter: what maps features to features, each
  /// gate, expert and packed projection for itself.
  @Test
  void mapsAreWhatMapsFeatures() {
    var attention =
        maps(
            "gate",
            "sdpa-elementwise+query-headwise+value-elementwise-rank*4",
            "tie_word_embeddings",
            "false",
            "gated_norm_rank",
            2);
    var expected = new TreeMap<String, String>();
    for (String none :
        List.of("model.embed_tokens", "lm_head", "input_layernorm", "self_attn.q_norm")) {
      expected.put(none, "");
    }
    expected.put("self_attn.q_proj", "[32]");
    expected.put("self_attn.k_proj", "[16]");
    expected.put("self_attn.v_proj", "[16]");
    expected.put("self_attn.o_proj", "[32]");
    expected.put("mlp.gate_proj", "[64]");
    expected.put("mlp.up_proj", "[64]");
    expected.put("mlp.down_proj", "[32]");
    expected.put("input_layernorm.gate_down", "[2]");
    expected.put("input_layernorm.gate_up", "[32]");
    assertHas(attention, expected);
    assertEquals(
        List.of("", "[16]", "[32]", "[4]"),
        attention.entrySet().stream()
            .filter(
                entry -> entry.getKey().contains("self_attn.") && entry.getKey().contains("gate"))
            .map(Map.Entry::getValue)
            .sorted()
            .toList(),
        attention::toString);

    var hybrid = maps("layers_pattern", "gdn,attention", "experts", 4, "experts_per_token", 2);
    var others = new TreeMap<String, String>();
    for (String none : List.of("in_proj_a", "in_proj_b", "conv1d", "norm", "A_log", "dt_bias")) {
      others.put("linear_attn." + none, "");
    }
    others.put("mlp.gate", ""); // the router
    others.put("mlp.experts.gate_proj", "[64]");
    others.put("mlp.experts.down_proj", "[32]");
    others.put("linear_attn.out_proj", "[32]");
    assertHas(hybrid, others);
    assertEquals(
        3, Objects.requireNonNull(hybrid.get("linear_attn.in_proj_qkv")).split(",").length);

    var chosen = maps("switch_head", "key-value-4-choose-2", "gate", "none");
    assertHas(
        chosen,
        Map.of(
            "self_attn.k_proj", "[16, 16, 16, 16]",
            "self_attn.v_proj", "[16, 16, 16, 16]",
            "self_attn.k_router", "",
            "self_attn.v_router", ""));
  }

  private static void assertHas(Map<String, String> actual, Map<String, String> expected) {
    var some = new TreeMap<>(actual);
    some.keySet().retainAll(expected.keySet());
    assertEquals(new TreeMap<>(expected), some, actual::toString);
  }
}
