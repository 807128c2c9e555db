package dev.sluice.checkpoint;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.attention.RopeScaling;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.Decoders;
import dev.sluice.decoder.Experts;
import dev.sluice.gate.Gate;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ObjectNode;

/// Every key of `config.json` is used, known to have no effect, told, or refused.
class ModelConfigTest {
  private static final JsonMapper JSON = JsonMapper.builder().build();

  /// As `transformers` 5 saves a Qwen3.
  private static final String QWEN3 =
      """
      {"architectures": ["Qwen3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
       "bos_token_id": null, "dtype": "float32", "eos_token_id": 3, "head_dim": 16,
       "hidden_act": "silu", "hidden_size": 32, "initializer_range": 0.02,
       "intermediate_size": 40, "layer_types": ["full_attention", "full_attention"],
       "max_position_embeddings": 128, "max_window_layers": 28, "model_type": "qwen3",
       "num_attention_heads": 4, "num_hidden_layers": 2, "num_key_value_heads": 2,
       "pad_token_id": null, "rms_norm_eps": 1e-06,
       "rope_parameters": {"rope_theta": 50000.0, "rope_type": "default"},
       "sliding_window": null, "tie_word_embeddings": false, "transformers_version": "5.18.0",
       "use_cache": true, "use_sliding_window": false, "vocab_size": 96}
      """;

  private static final String YARN =
      "{\"rope_type\":\"yarn\",\"factor\":4.0,\"original_max_position_embeddings\":32}";

  @TempDir private Path directory;

  private ModelConfig read(ObjectNode json) throws IOException {
    return read(JSON.writeValueAsString(json));
  }

  private ModelConfig read(String json) throws IOException {
    Files.writeString(directory.resolve("config.json"), json);
    return ModelConfig.read(directory);
  }

  private String refusal(ObjectNode json) {
    return refusal(JSON.writeValueAsString(json));
  }

  private String refusal(String json) {
    var e = assertThrows(InvalidInputException.class, () -> read(json));
    assertTrue(e.getMessage().startsWith(directory.resolve("config.json").toString()));
    return e.getMessage().substring(directory.resolve("config.json").toString().length());
  }

  /// The notes without the file's name.
  private List<String> notes(ObjectNode json) throws IOException {
    String start = directory.resolve("config.json") + ": ";
    return read(json).notes().stream().map(note -> note.replace(start, "")).toList();
  }

  /// A Qwen3's configuration with keys set or, by `-`, removed: `a = 1; b = -`.
  private static ObjectNode qwen3(String changes) {
    return changed(QWEN3, changes);
  }

  /// A mixture of experts as `transformers` 5 saves it.
  private static ObjectNode mixture(String changes) {
    return changed(
        JSON.writeValueAsString(
            qwen3(
                "model_type = \"qwen3_moe\"; num_local_experts = 8; num_experts_per_tok = 2;"
                    + " moe_intermediate_size = 12; norm_topk_prob = true; decoder_sparse_step = 1;"
                    + " mlp_only_layers = []; output_router_logits = false;"
                    + " router_aux_loss_coef = 0.001; layer_types = -; max_window_layers = -")),
        changes);
  }

  private static ObjectNode changed(String base, String changes) {
    var json = (ObjectNode) JSON.readTree(base);
    for (String change : changes.split(";")) {
      if (!change.isBlank()) {
        String key = change.split("=", 2)[0].strip();
        String value = change.split("=", 2)[1].strip();
        if (value.equals("-")) {
          json.remove(key);
        } else {
          json.set(key, JSON.readTree(value));
        }
      }
    }
    return json;
  }

  @Test
  void whatTransformersSavesNeedsNoWord() throws IOException {
    var config = read(QWEN3);
    assertEquals(List.of(), config.notes());
    assertEquals(
        DecoderConfig.uniform(
            96,
            32,
            40,
            2,
            4,
            2,
            16,
            128,
            50_000,
            new RopeScaling.None(),
            1e-6,
            true,
            false,
            0.02,
            List.of()),
        config.decoder());
    assertEquals(List.of(), read(mixture("")).notes());
    assertEquals(new Experts(8, 2, 1e-3, 0), read(mixture("")).decoder().feedForward().experts());
    assertEquals(12, read(mixture("")).decoder().feedForward().intermediateSize());
  }

  /// A hub's file of before version 5.
  @Test
  void olderFilesNeedNoWord() throws IOException {
    assertEquals(
        List.of(),
        notes(
            qwen3(
                "rope_parameters = -; rope_theta = 1000000; rope_scaling = null; dtype = -;"
                    + " torch_dtype = \"bfloat16\"; layer_types = -; transformers_version ="
                    + " \"4.51.0\"; sliding_window = 4096; _attn_implementation_autoset = true;"
                    + " temperature = 0.6; do_sample = true")));
    assertEquals(List.of(), notes(mixture("num_local_experts = -; num_experts = 8")));
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      textBlock =
          """
          head_dim = -                                    | head_dim 128
          num_key_value_heads = -; num_attention_heads = 64 | num_key_value_heads 32
          vocab_size = -                                  | vocab_size 151936
          hidden_size = null                              | hidden_size 4096
          intermediate_size = -                           | intermediate_size 22016
          num_attention_heads = -                         | num_attention_heads 32
          num_hidden_layers = -; layer_types = -          | num_hidden_layers 32
          rms_norm_eps = -                                | rms_norm_eps 1.0E-6
          rope_parameters = -                             | rope_theta 10000
          """)
  void defaultsOfQwen3AreTaken(String changes, String taken) throws IOException {
    assertEquals(
        List.of("not given, and taken as transformers does: " + taken), notes(qwen3(changes)));
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      textBlock =
          """
          head_dim = -                                      | head_dim 8
          num_key_value_heads = -                           | num_key_value_heads 4
          moe_intermediate_size = -                         | moe_intermediate_size 768
          num_local_experts = -                             | num_experts 128
          num_experts_per_tok = -                           | num_experts_per_tok 8
          hidden_size = -                                   | hidden_size 2048
          num_hidden_layers = -                             | num_hidden_layers 24
          norm_topk_prob = -                                | norm_topk_prob false
          """)
  void defaultsOfMixturesAreTaken(String changes, String taken) throws IOException {
    assertEquals(
        List.of("not given, and taken as transformers does: " + taken), notes(mixture(changes)));
  }

  @Test
  void aNullNumberOfKeyValueHeadsMeansAllHeads() throws IOException {
    var config = read(qwen3("num_key_value_heads = null"));
    assertEquals(4, config.decoder().attention().keyValueHeads());
    assertEquals(List.of(), config.notes());
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      textBlock =
          """
          rope_scalling = {"type": "yarn"}  | not used, since qwen3 does not have it: 'rope_scalling' (near rope_scaling)
          foo = 1; bar = {"a": 1}           | not used, since qwen3 does not have them: 'foo', 'bar'
          num_experts = 8                   | not used, since qwen3 does not have it: 'num_experts'
          attention_dropout = 0.1           | attention_dropout 0.1 acts in training alone, where Sluice drops nothing
          resid_pdrop = 0.5                 | resid_pdrop 0.5 acts in training alone, where Sluice drops nothing
          architectures = ["Qwen3ForSequenceClassification"] | architectures names 'Qwen3ForSequenceClassification'; Sluice computes the logits of the next token
          auto_map = {"AutoModel": "m.M"}   | auto_map names code that comes with the model; Sluice does not run it
          torch_dtype = "bfloat16"          | dtype is "float32" and torch_dtype is "bfloat16"; Sluice uses neither, it reads what the weights are
          rope_theta = 7.0                  | rope_theta is 50000.0 in rope_parameters.rope_theta and 7.0 at the top; the former is used, as transformers does
          gate_packing = "query_head"       | gate_packing query_head has no effect, since no gate is packed
          headwise_attn_output_gate = true; elementwise_attn_output_gate = true | headwise_attn_output_gate and elementwise_attn_output_gate are both true; the former counts, as in the paper's code
          """)
  void whatIsNotUsedIsTold(String changes, String note) throws IOException {
    assertEquals(List.of(note), notes(qwen3(changes)));
  }

  @Test
  void aMisspeltKeyIsToldWithTheOneThatIsMissing() throws IOException {
    assertEquals(
        List.of(
            "not given, and taken as transformers does: head_dim 128",
            "not used, since qwen3 does not have it: 'head_dimm' (near head_dim)"),
        notes(qwen3("head_dim = -; head_dimm = 16")));
    String refused = refusal(qwen3("num_key_value_heads = -; num_key_value_head = 2"));
    assertTrue(refused.contains("num_attention_heads (4) is not a multiple"), refused);
    assertTrue(refused.contains("taken as transformers does: num_key_value_heads 32"), refused);
    assertTrue(refused.contains("'num_key_value_head' (near num_key_value_heads)"), refused);
  }

  /// Whatever key is misspelt, its wrong name is shown, and the right one where that is not there.
  @Test
  void noMisspeltKeyIsSilent() {
    for (var good : List.of(qwen3(""), mixture(""))) {
      for (String key : List.copyOf(good.propertyNames())) {
        if (good.path(key).isNull()) {
          continue;
        }
        var json = good.deepCopy();
        String wrong = key + "x";
        json.set(wrong, json.remove(key));
        String told;
        try {
          told = String.join(" ", read(json).notes());
        } catch (InvalidInputException e) {
          told = e.getMessage();
        } catch (IOException e) {
          throw new AssertionError(e);
        }
        assertTrue(told.contains("'" + wrong + "'"), key + ": " + told);
        assertTrue(told.contains("near " + key), key + ": " + told);
      }
    }
  }

  @Test
  void manyUnknownKeysAreOneLine() throws IOException {
    var changes = new StringBuilder();
    for (int i = 0; i < 1000; i++) {
      changes.append("x%d%s = %d;".formatted(i, "y".repeat(i), i));
    }
    var notes = notes(qwen3(changes + "\u001b[2J = 1"));
    assertEquals(1, notes.size());
    assertTrue(notes.getFirst().endsWith("and 996 more"), notes.getFirst());
    assertTrue(notes.getFirst().length() < 700, notes.getFirst());
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "attention_bias = true",
        "qkv_bias = true",
        "mlp_bias = true",
        "attn_logit_softcapping = 50.0",
        "final_logit_softcapping = 30",
        "query_pre_attn_scalar = 256",
        "partial_rotary_factor = 0.5",
        "logit_scale = 0.0625",
        "residual_multiplier = 0.22",
        "attn_output_gate = true",
        "per_layer_config = {\"0\": {\"head_dim\": 8}}",
        "is_encoder_decoder = true",
        "text_config = {\"model_type\": \"qwen3\"}",
        "vision_config = {\"depth\": 3}",
        "quantization_config = {\"quant_method\": \"gptq\"}",
        "shared_expert_intermediate_size = 64",
        "first_k_dense_replace = 1",
        "n_shared_experts = 1",
        "gates = [\"value-headwise\"]",
        "softmax_sink = \"learned\"",
        "sandwich_norm = true",
        "residual_clip = 1.5"
      })
  void whatIsNotComputedIsRefusedByName(String change) throws IOException {
    String key = change.split(" ")[0];
    for (var json : List.of(qwen3(change), mixture(change))) {
      String refused = refusal(json);
      assertTrue(refused.startsWith(": " + key), refused);
    }
    // and what says no to it is not
    for (String off : List.of("null", "false", "0", "[]", "{}", "\"none\"")) {
      boolean multiplies =
          change.contains("partial")
              || change.contains("logit_scale")
              || change.contains("multiplier");
      if (!multiplies && !change.startsWith("attention_bias")) {
        assertEquals(List.of(), notes(qwen3(key + " = " + off)), key + " " + off);
      } else if (multiplies) {
        assertEquals(List.of(), notes(qwen3(key + " = 1.0")), key);
      }
    }
  }

  /// `transformers` takes null for false.
  @Test
  void attentionThatIsNotCausalIsRefused() throws IOException {
    for (String change : List.of("is_causal = false", "is_causal = null")) {
      assertTrue(refusal(qwen3(change)).startsWith(": is_causal is "), change);
    }
    assertEquals(List.of(), notes(qwen3("is_causal = true")));
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      textBlock =
          """
          hidden_act = "gelu"                       | hidden_act 'gelu' is not known
          layer_types = ["full_attention", "sliding_attention"] | layer_types names sliding_attention, but use_sliding_window is not true
          layer_types = ["full_attention", "sliding_attention"]; use_sliding_window = true | sliding_window is null
          layer_types = ["full_attention", "chunked_attention"] | layer type 'chunked_attention' is not known
          layer_types = ["full_attention"]          | layer_types names 1 layers where num_hidden_layers is 2
          layer_types = "full_attention"            | layer_types must be a list of words
          use_sliding_window = true; layer_types = -; sliding_window = 0; max_window_layers = 1 | sliding_window must be positive, not 0
          rope_scaling = {"rope_type": "su", "factor": 2} | rope type 'su' is not known
          rope_scaling = {"rope_type": "longrope", "short_factor": [1], "long_factor": [2]} | rope_scaling.long_factor and rope_scaling.short_factor must be the same list of numbers
          rope_scaling = {"rope_type": "longrope", "short_factor": [1], "long_factor": [1]} | rope_scaling.attention_factor is not given
          rope_scaling = {"rope_type": "longrope", "short_factor": [1, "x"], "long_factor": [1, "x"], "attention_factor": 1} | rope_scaling.long_factor must be a list of numbers
          rope_scaling = {"rope_type": "default", "facter": 2} | rope_scaling.facter is not known (near factor)
          rope_scaling = {"mrope_section": [1, 2]}  | rope_scaling.mrope_section is not known
          rope_parameters = {"full_attention": {"rope_theta": 1}} | rope_parameters.full_attention is not known
          rope_parameters = {"rope_type": "yarn", "rope_theta": 5} | rope_parameters.factor is missing among 'rope_type', 'rope_theta'
          rope_parameters = {"rope_type": "yarn", "factor": 0.5} | factor must be a number of at least 1
          rope_parameters = {"rope_type": "yarn", "factor": 2, "beta_fast": -1} | beta_fast must be a positive number
          rope_parameters = {"rope_type": "yarn", "factor": 2, "truncate": null} | truncate must be true or false
          rope_parameters = {"rope_type": "yarn", "factor": 2, "rope_theta": 1} | rope_theta is 1
          rope_parameters = {"partial_rotary_factor": 0.25} | rope_parameters.partial_rotary_factor is 0.25
          rope_parameters = [1]                     | rope_parameters must be an object in braces
          rope_parameters = {"rope_theta": 0}       | rope_theta must be a number from 1e-30 to 1e30
          rope_parameters = {"rope_theta": {"__float__": "NaN"}} | rope_theta must be a number, not {"__float__":"NaN"}
          rms_norm_eps = -1                         | rms_norm_eps must be positive
          rms_norm_eps = "small"                    | rms_norm_eps must be a number, not "small"
          vocab_size = 12.0                         | vocab_size must be a whole number, not 12.0
          vocab_size = 99999999999                  | vocab_size must be a number that a model can have
          num_hidden_layers = 2000000000; layer_types = - | num_hidden_layers 2000000000 are more than
          head_dim = 2147483646                     | head_dim 2147483646 is wider
          tie_word_embeddings = "yes"               | tie_word_embeddings must be true or false
          initializer_range = -0.02                 | initializer_range must be 0 or a positive number
          model_type = "llama"                      | unknown architecture 'llama'
          model_type = "llava"; text_config = {"a": 1} | its text_config makes it a composite model
          model_type = -                            | model_type is missing among 'architectures',
          model_type = 7                            | model_type must be a word in quotes
          """)
  void whatIsWrongIsNamed(String changes, String message) {
    String refused = refusal(qwen3(changes));
    assertTrue(refused.contains(message), refused);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      textBlock =
          """
          mlp_only_layers = ["1"]                | mlp_only_layers must be a list of numbers of layers
          mlp_only_layers = 1                    | mlp_only_layers must be a list of numbers of layers
          decoder_sparse_step = 0                | decoder_sparse_step must be positive, not 0
          num_local_experts = 2000000000         | 2000000000 experts are more than
          num_local_experts = 0                  | a token cannot go through 2 of 0 experts
          num_experts_per_tok = 9                | a token cannot go through 9 of 8 experts
          use_sliding_window = true; sliding_window = -64 | sliding_window must be positive, not -64
          router_aux_loss_coef = NaN             |
          """)
  void whatIsWrongWithAMixtureIsNamed(String changes, String message) {
    if (message == null) {
      // as Python writes what JSON does not have
      String text = JSON.writeValueAsString(mixture("")).replace("0.001", "NaN");
      String refused = refusal(text);
      assertTrue(refused.contains("not valid JSON") && refused.contains("NaN"), refused);
      assertFalse(refused.contains("Jackson") || refused.contains("ALLOW"), refused);
      return;
    }
    String refused = refusal(mixture(changes));
    assertTrue(refused.contains(message), refused);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      textBlock =
          """
          layer_types = -; sliding_window = 64; max_window_layers = 1                | 0 64
          layer_types = -; sliding_window = -; max_window_layers = 0                 | 4096 4096
          layer_types = ["sliding_attention", "full_attention"]; sliding_window = 64 | 64 0
          """)
  void windowsAreThoseOfTransformers(String changes, String windows) throws IOException {
    var config = read(qwen3("use_sliding_window = true;" + changes));
    assertEquals(
        windows,
        config.decoder().layers().stream()
            .map(layer -> "" + layer.attention().orElseThrow().positions().window())
            .collect(Collectors.joining(" ")));
    assertEquals(List.of(), config.notes());
    ModelConfig.of(config.decoder()).write(directory, null);
    assertEquals(config.decoder(), ModelConfig.read(directory).decoder());
  }

  @Test
  void aMixturesWindowIsThatOfAllLayers() throws IOException {
    var layers = read(mixture("use_sliding_window = true; sliding_window = 64")).decoder().layers();
    assertEquals(64, layers.get(0).attention().orElseThrow().positions().window());
    assertEquals(layers.get(0), layers.get(1));
  }

  /// `Qwen3MoeDecoderLayer`: layer i has experts if it is not named and i + 1 is a multiple.
  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      textBlock =
          """
          mlp_only_layers = [1]                          | 8 0
          decoder_sparse_step = 2                        | 0 8
          decoder_sparse_step = 2; mlp_only_layers = [1] | 0 0
          decoder_sparse_step = 1; mlp_only_layers = [7] | 8 8
          """)
  void layersWithoutExpertsStandAmongThoseWithThem(String changes, String experts)
      throws IOException {
    var config = read(mixture(changes));
    var layers = config.decoder().layers();
    assertEquals(
        experts,
        layers.get(0).feedForward().experts().count()
            + " "
            + layers.get(1).feedForward().experts().count());
    for (var layer : layers) {
      assertEquals(
          layer.feedForward().experts().count() > 0 ? 12 : 40,
          layer.feedForward().intermediateSize());
    }
    assertEquals(List.of(), config.notes());
  }

  @Test
  void windowsThatNoLayerHasAreNone() throws IOException {
    for (String changes :
        List.of(
            "use_sliding_window = true; sliding_window = 64",
            "use_sliding_window = true; sliding_window = 64; layer_types = -",
            "use_sliding_window = true; layer_types = -; max_window_layers = 0",
            "use_sliding_window = false; sliding_window = 64; layer_types = -; max_window_layers ="
                + " 0",
            "layer_types = [\"attention\", \"full_attention\"]",
            "hidden_act = \"swish\"")) {
      assertEquals(List.of(), notes(qwen3(changes)), changes);
    }
  }

  @Test
  void factorsOfRotaryFrequenciesAreReadAndWritten() throws IOException {
    var config =
        read(
            qwen3(
                "rope_scaling = {\"rope_type\": \"longrope\", \"short_factor\": [1, 2.5],"
                    + " \"long_factor\": [1, 2.5], \"attention_factor\": 1}; rope_theta = 50000"));
    var expected = new RopeScaling.Factors(List.of(1.0, 2.5));
    ModelConfig.of(config.decoder()).write(directory, null);
    for (var each : List.of(config, ModelConfig.read(directory))) {
      assertEquals(
          expected, each.decoder().attention().positions().rotary().orElseThrow().scaling());
    }
  }

  /// The newer key counts as transformers 5 has it, whichever way they differ.
  @Test
  void contradictionsAreDecidedAndTold() throws IOException {
    var experts = read(mixture("num_experts = 4"));
    assertEquals(8, experts.decoder().feedForward().experts().count());
    assertTrue(experts.notes().getFirst().contains("num_local_experts is 8 and num_experts is 4"));

    var both = read(qwen3("rope_scaling = " + YARN + "; rope_theta = 300"));
    assertEquals(
        new RopeScaling.Yarn(4, 32),
        both.decoder().attention().positions().rotary().orElseThrow().scaling());
    assertEquals(300, both.decoder().attention().positions().rotary().orElseThrow().theta());
    assertEquals(1, both.notes().size());
    assertTrue(both.notes().getFirst().contains("rope_scaling {"), both.notes()::toString);
    assertTrue(both.notes().getFirst().contains("rope_parameters {"), both.notes()::toString);

    // its base is not that of the other
    var without = read(qwen3("rope_scaling = " + YARN));
    assertEquals(10_000, without.decoder().attention().positions().rotary().orElseThrow().theta());
    assertEquals(2, without.notes().size());

    // where both say the same there is nothing to tell
    var same =
        read(
            qwen3(
                "rope_scaling = "
                    + YARN.replace("}", ",\"rope_theta\":9}")
                    + "; rope_parameters = "
                    + YARN.replace("rope_type", "type").replace("}", ",\"rope_theta\":9.0}")));
    assertEquals(List.of(), same.notes());
    assertEquals(9, same.decoder().attention().positions().rotary().orElseThrow().theta());

    var length =
        read(
            qwen3(
                "rope_parameters = "
                    + YARN
                    + "; rope_theta = 9; original_max_position_embeddings = 64"));
    assertEquals(
        new RopeScaling.Yarn(4, 64),
        length.decoder().attention().positions().rotary().orElseThrow().scaling());
    assertEquals(1, length.notes().size());

    var empty = read(qwen3("rope_scaling = {}"));
    assertEquals(50_000, empty.decoder().attention().positions().rotary().orElseThrow().theta());
    assertEquals(List.of(), empty.notes());

    var idle =
        read(qwen3("rope_scaling = " + YARN.replace("yarn", "default") + "; rope_theta = 50000"));
    assertEquals(
        new RopeScaling.None(),
        idle.decoder().attention().positions().rotary().orElseThrow().scaling());
    assertTrue(idle.notes().getFirst().contains("rope_scaling.factor"), idle.notes()::toString);
  }

  /// What the reference takes for absent: zero for betas and scales, null for the factor.
  @Test
  void yarnFollowsTheReference() throws IOException {
    var betas =
        read(
            qwen3(
                "rope_parameters = " + YARN.replace("}", ",\"beta_fast\":0,\"beta_slow\":null}")));
    assertEquals(
        new RopeScaling.Yarn(4, 32),
        betas.decoder().attention().positions().rotary().orElseThrow().scaling());
    var scales =
        read(
            qwen3("rope_parameters = " + YARN.replace("}", ",\"mscale\":0,\"mscale_all_dim\":2}")));
    assertEquals(
        new RopeScaling.Yarn(4, 32),
        scales.decoder().attention().positions().rotary().orElseThrow().scaling());
    var factor = read(qwen3("rope_theta = 9; rope_parameters = " + YARN.replace("4.0", "null")));
    assertEquals(
        new RopeScaling.Yarn(4, 32),
        factor.decoder().attention().positions().rotary().orElseThrow().scaling());
    assertTrue(
        factor.notes().getFirst().endsWith("rope_parameters.factor 4.0"), factor.notes()::toString);
    var length =
        read(qwen3("rope_theta = 9; rope_parameters = {\"rope_type\":\"yarn\",\"factor\":2}"));
    assertEquals(
        new RopeScaling.Yarn(2, 128),
        length.decoder().attention().positions().rotary().orElseThrow().scaling());
    assertTrue(length.notes().getFirst().endsWith("original_max_position_embeddings 128"));
  }

  // ---------------------------------------------------------------- Sluice's own

  @Test
  void ownModelsNeedTheirKeys() throws IOException {
    var own = ModelConfig.of(Decoders.TINY.with(List.of(Gate.parse("value-headwise"))));
    own.write(directory, null);
    String text = Files.readString(directory.resolve("config.json"));
    assertEquals(own, ModelConfig.read(directory));
    for (String key : List.of("gates", "vocab_size", "head_dim")) {
      String refused = refusal(changed(text, key + " = -"));
      assertTrue(refused.startsWith(": " + key + " is missing among 'architectures',"), refused);
    }
    assertTrue(
        refusal(changed(text, "gates = \"value-headwise\"")).contains("gates must be a list"));
    assertTrue(
        refusal(changed(text, "gates = [7]")).contains("gates must be a list of words, not [7]"));
    assertTrue(
        refusal(changed(text, "headwise_attn_output_gate = true"))
            .contains("model_type qwen3 alone"));
    assertTrue(
        notes(changed(text, "sandwich_norms = true")).getFirst().contains("'sandwich_norms'"));
  }

  @Test
  void theEndTokenIsWrittenAndNoDifference() throws IOException {
    var config = ModelConfig.of(Decoders.TINY);
    config.write(directory, 17);
    var json = JSON.readTree(Files.readString(directory.resolve("config.json")));
    assertEquals(17, json.path("eos_token_id").asInt());
    var read = ModelConfig.read(directory);
    assertEquals(config, read);
    assertEquals(List.of(), read.differences(config));
    config.write(directory, null);
    assertFalse(Files.readString(directory.resolve("config.json")).contains("eos"));
    var other = ModelConfig.of(Decoders.TINY.withIntermediateSize(123));
    assertEquals(List.of("intermediate_size 344, now 123"), config.differences(other));
  }

  @Test
  void numbersWithoutBoundsAreRefused() {
    String refused = refusal(QWEN3.replace("50000.0", "1e400"));
    assertTrue(refused.contains("rope_parameters.rope_theta is larger than any"), refused);
    refused = refusal(QWEN3.replace("50000.0", "9".repeat(390)));
    assertTrue(refused.contains("rope_parameters.rope_theta is larger than any"), refused);
    refused = refusal(QWEN3.replace("\"vocab_size\": 96", "\"vocab_size\": " + "9".repeat(390)));
    assertTrue(refused.contains("vocab_size must be a number that a model can have"), refused);
  }

  /// Numbers are written alike on every machine.
  @Test
  void theLocaleDoesNotMatter() throws IOException {
    var before = Locale.getDefault();
    try {
      Locale.setDefault(Locale.forLanguageTag("tr-TR"));
      assertEquals(List.of(), read(QWEN3).notes());
    } finally {
      Locale.setDefault(before);
    }
  }
}
