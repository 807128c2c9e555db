package dev.sluice.training;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.gate.Gate;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class RunConfigTest {
  @TempDir private Path directory;

  @Test
  void whatIsWrittenIsReadBack() throws Exception {
    var config =
        RunConfig.from(
            null,
            Map.of(
                "gate", "sdpa-headwise+value-elementwise",
                "learning_rate", "1e-4",
                "seed", "9007199254740993",
                "sample_prompt", "say \"hi\"\n\\ é",
                "match_parameters", "true"));
    config.write(directory);
    assertEquals(config, RunConfig.from(directory.resolve(RunConfig.FILE), Map.of()));
    assertEquals(2, config.gates().size());
  }

  @Test
  void flagsWinOverTheFile() throws Exception {
    Path file = Files.writeString(directory.resolve("run.toml"), "steps = 7\nbatch_size = 3\n");
    var config = RunConfig.from(file, Map.of("steps", "9"));
    assertEquals(9, config.optimization().steps());
    assertEquals(3, config.batch().batchSize());
    assertEquals(RunConfig.DEFAULTS.seed(), config.seed());
  }

  @Test
  void mistakesAreOneSentence() throws Exception {
    refused("stpes = 7", "unknown setting 'stpes'");
    refused("steps = \"many\"", "steps");
    refused("steps = 0", "steps cannot be 0");
    refused("steps = [", "not valid TOML");
    refused("held_out_share = 1.5", "held_out_share cannot be 1.5");
    assertTrue(
        assertThrows(InvalidInputException.class, () -> RunConfig.from(null, Map.of("steps", "x")))
            .getMessage()
            .contains("'x'"));
  }

  @Test
  void whatDoesNothingForADenseModelIsTold() {
    for (String setting : List.of("experts_per_token 2", "expert_balance 5.0", "router_z 0.5")) {
      String[] words = setting.split(" ", -1);
      String told = setting + " does nothing: the model has no experts; experts gives it some.";
      var given = Map.of(words[0], words[1]);
      assertEquals(List.of(told), RunConfig.from(null, given).notes());
      for (var mixture : List.of(Map.of("experts", "4"), Map.of("model", "paper-moe-15b"))) {
        assertEquals(List.of(), RunConfig.from(null, given).with(null, mixture).notes());
      }
    }
    assertEquals(List.of(), RunConfig.DEFAULTS.notes());
  }

  /// Neither 0 nor infinity takes the place of what was meant, whoever says it.
  @Test
  void numbersBeyondWhatCanBeComputedAreRefused() throws Exception {
    for (var setting : RunConfig.declared()) {
      if (setting.type() != Double.class) {
        continue;
      }
      String name = setting.name();
      for (String tiny : List.of("1e-500", "-3e-400", "0.01E-999", "1e-99999")) {
        refused(name + " = " + tiny, name + " cannot be");
        refused(name + " = " + tiny, "too near to zero");
        flagRefused(name, tiny, "too near to zero");
      }
      flagRefused(name, "0x0.01p-2000", "too near to zero");
      for (String huge : List.of("1e400", "-7e999")) {
        refused(name + " = " + huge, name + " must be a finite number");
        flagRefused(name, huge, "must be a finite number");
      }
    }
    for (String zero : List.of("0", "0.0", "0e-999", "-0.0", "0x0p3")) {
      assertEquals(
          0.0, Math.abs(RunConfig.from(null, Map.of("router_z", zero)).shape().routerZ()), zero);
    }
    Path file = Files.writeString(directory.resolve("zero.toml"), "router_z = 0e-999\n");
    assertEquals(0, RunConfig.from(file, Map.of()).shape().routerZ());
    assertEquals(1e-300, RunConfig.from(null, Map.of("router_z", "1e-300")).shape().routerZ());
  }

  private static void flagRefused(String name, String value, String reason) {
    var e =
        assertThrows(InvalidInputException.class, () -> RunConfig.from(null, Map.of(name, value)));
    assertTrue(e.getMessage().startsWith(name) && e.getMessage().contains(reason), e::getMessage);
  }

  /// A record without a new setting is one of before there was that setting.
  @Test
  void aFileOfBeforeASettingIsReadWithItsFirstValue() throws Exception {
    RunConfig.DEFAULTS.write(directory);
    Path file = directory.resolve(RunConfig.FILE);
    for (var setting : RunConfig.declared()) {
      RunConfig.DEFAULTS.write(directory);
      var lines =
          Files.readAllLines(file).stream()
              .filter(line -> !line.startsWith(setting.name() + " = "))
              .toList();
      assertEquals(RunConfig.declared().size() - 1, lines.size(), setting.name());
      Files.write(file, lines);
      assertEquals(RunConfig.DEFAULTS, RunConfig.from(file, Map.of()));
    }
  }

  @Test
  void layersFollowThePattern() {
    var config =
        RunConfig.from(
            null,
            Map.of("layers", "6", "layers_pattern", "gdn, gdn,attention", "gate", "sdpa-headwise"));
    var layers = config.decoder(256).layers();
    assertEquals(
        List.of(false, false, true, false, false, true),
        layers.stream().map(layer -> layer.attention().isPresent()).toList());
    assertEquals(List.of(Gate.SDPA_HEADWISE), layers.getLast().attention().orElseThrow().gates());
    var plain = RunConfig.from(null, Map.of("layers_pattern", "attention")).decoder(256);
    assertEquals(RunConfig.DEFAULTS.decoder(256), plain);
    for (String wrong : List.of("gdn,attn", "", "gdn,,attention", "model,gdn")) {
      var e =
          assertThrows(
              InvalidInputException.class,
              () -> RunConfig.from(null, Map.of("layers_pattern", wrong)));
      assertTrue(e.getMessage().contains("use attention, sliding, gdn"), e::getMessage);
    }
    var ungated = RunConfig.from(null, Map.of("layers_pattern", "gdn"));
    assertEquals(4, ungated.decoder(256).layers().size());
    for (var one :
        Map.of(
                "gate",
                "sdpa-elementwise",
                "softmax_sink",
                "learned",
                "switch_head",
                "value-2-choose-1")
            .entrySet()) {
      var gated = ungated.with(null, Map.of(one.getKey(), one.getValue()));
      var e = assertThrows(InvalidInputException.class, () -> gated.decoder(256));
      assertTrue(e.getMessage().contains("layers_pattern"), e::getMessage);
    }
  }

  @Test
  void windowsStandWhereThePatternPutsThem() {
    assertEquals(List.of(9, 9, 9, 9), windows(Map.of("sliding_window", "9")));
    assertEquals(
        List.of(9, 0, 9, 0),
        windows(Map.of("sliding_window", "9", "layers_pattern", "sliding,attention")));
    assertEquals(
        List.of(9, 9), windows(Map.of("sliding_window", "9", "layers_pattern", "gdn,attention")));
    var e =
        assertThrows(
            InvalidInputException.class,
            () -> RunConfig.from(null, Map.of("layers_pattern", "sliding,attention")));
    assertTrue(e.getMessage().contains("sliding_window is 0"), e::getMessage);
  }

  private static List<Integer> windows(Map<String, String> settings) {
    return RunConfig.from(null, settings).decoder(256).layers().stream()
        .flatMap(layer -> layer.attention().stream())
        .map(attention -> attention.positions().window())
        .toList();
  }

  /// No file in UTF-8 holds half a character; every other is read back.
  @Test
  void textSettingsAreWholeCharacters() throws Exception {
    for (String setting : new String[] {"data", "text_field", "sample_prompt", "eos_token"}) {
      var e =
          assertThrows(
              InvalidInputException.class,
              () -> RunConfig.from(null, Map.of(setting, "a\uD83D b")));
      assertTrue(e.getMessage().contains("holds half a character"), e.getMessage());
      var config = RunConfig.from(null, Map.of(setting, "a\uD83D\uDE00\u0001\u007f\uffff b"));
      config.write(directory);
      assertEquals(config, RunConfig.from(directory.resolve(RunConfig.FILE), Map.of()));
    }
  }

  private void refused(String toml, String reason) throws Exception {
    Path file = Files.writeString(directory.resolve("bad.toml"), toml);
    var e = assertThrows(InvalidInputException.class, () -> RunConfig.from(file, Map.of()));
    assertTrue(e.getMessage().contains(reason), e.getMessage());
    assertTrue(e.getMessage().lines().count() == 1, e.getMessage());
  }

  @Test
  void sizesOverrideTheNamedModel() {
    var config =
        RunConfig.from(null, Map.of("hidden_size", "64", "layers", "2", "gate", "sdpa-headwise"));
    var decoder = config.decoder(300);
    assertEquals(64, decoder.hiddenSize());
    assertEquals(2, decoder.layers().size());
    assertEquals(300, decoder.vocabSize());
    assertEquals(List.of(Gate.SDPA_HEADWISE), decoder.attention().gates());
    assertThrows(
        InvalidInputException.class,
        () ->
            RunConfig.from(null, Map.of("attention_heads", "5", "key_value_heads", "2"))
                .decoder(256));
  }
}
