package dev.sluice.checkpoint;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.attention.RopeScaling;
import dev.sluice.checkpoint.SafetensorsFile.Entry;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.Experts;
import dev.sluice.gate.Gate;
import dev.sluice.operations.Precision;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.UnaryOperator;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

/// Whatever a model's tensors are called, they are all found, or it is said what was found.
class StoredWeightsTest {
  private static final DecoderConfig DENSE =
      DecoderConfig.uniform(
          31,
          16,
          24,
          2,
          4,
          2,
          4,
          128,
          10_000,
          new RopeScaling.None(),
          1e-6,
          true,
          false,
          0.2,
          List.of());

  private static final DecoderConfig MIXTURE = DENSE.with(new Experts(4, 2, 1e-3, 0));

  @TempDir private Path directory;

  /// Writes a new model with its tensors changed, and gives its parameters.
  private Map<String, float[]> write(
      DecoderConfig config, UnaryOperator<Map<String, Tensor>> change) throws IOException {
    try (var decoder = Decoder.initialize(config, Precision.FLOAT32, Device.CPU, 9);
        var _ = Scope.withoutGradient()) {
      ModelConfig.of(config).write(directory, null);
      save(change.apply(new LinkedHashMap<>(ModelDirectory.packed(decoder))));
      return parameters(decoder);
    }
  }

  private void save(Map<String, Tensor> tensors) throws IOException {
    Path file = directory.resolve("model.safetensors");
    Files.deleteIfExists(file);
    List<Entry> entries = new ArrayList<>();
    tensors.forEach(
        (name, tensor) ->
            entries.add(
                new Entry(
                    name,
                    tensor.type(),
                    Arrays.stream(tensor.shape()).boxed().toList(),
                    tensor.contiguous().memory())));
    SafetensorsWriter.write(file, Map.of(), entries);
  }

  private static UnaryOperator<Map<String, Tensor>> names(UnaryOperator<String> change) {
    return tensors -> {
      Map<String, Tensor> changed = new LinkedHashMap<>();
      tensors.forEach((name, tensor) -> changed.put(change.apply(name), tensor));
      return changed;
    };
  }

  private static Map<String, float[]> parameters(Decoder decoder) {
    Map<String, float[]> values = new LinkedHashMap<>();
    decoder.parameters().all().forEach((name, tensor) -> values.put(name, tensor.floats()));
    return values;
  }

  private List<String> assertReads(Map<String, float[]> expected) {
    var opened = ModelDirectory.open(directory, Precision.FLOAT32, Device.CPU, false);
    try (var decoder = opened.decoder()) {
      var found = parameters(decoder);
      assertEquals(List.copyOf(expected.keySet()), List.copyOf(found.keySet()));
      found.forEach((name, values) -> assertArrayEquals(expected.get(name), values, name));
    }
    return opened.notes();
  }

  private String refusal() {
    var e =
        assertThrows(
            InvalidInputException.class,
            () -> ModelDirectory.open(directory, Precision.FLOAT32, Device.CPU, false));
    assertTrue(e.getMessage().contains(directory.toString()), e.getMessage());
    return e.getMessage();
  }

  // ---------------------------------------------------------------- names

  @ParameterizedTest
  @CsvSource(
      textBlock =
          """
          '', ''
          _orig_mod., ''
          module., ''
          module._orig_mod., ''
          _orig_mod.module., ''
          _fsdp_wrapped_module., ''
          '', model.
          _orig_mod., model.
          module., model.
          """)
  void wrappersAreTakenOffAndTheBasePutBefore(String prefix, String left) throws IOException {
    var expected =
        write(
            DENSE,
            names(name -> prefix + (name.startsWith(left) ? name.substring(left.length()) : name)));
    assertEquals(List.of(), assertReads(expected));
    assertEquals(
        List.of(),
        assertReads(
            write(
                DENSE.withTieWordEmbeddings(true),
                names(name -> prefix + name.substring(left.length())))));
  }

  @Test
  void wrappersWithinNamesAreTakenOut() throws IOException {
    assertEquals(
        List.of(),
        assertReads(
            write(
                DENSE,
                names(
                    name ->
                        name.replace("layers.1.", "layers.1._checkpoint_wrapped_module.")
                            .replace("layers.0.", "layers.0._orig_mod.")
                            .replace("self_attn.", "self_attn._fsdp_wrapped_module.")))));
    assertReads(write(DENSE, names(name -> name.replace("model.", "model._orig_mod."))));
  }

  @Test
  void anyOnePrefixIsTakenOffAndTold() throws IOException {
    var notes = assertReads(write(DENSE, names(name -> "policy.net." + name)));
    assertEquals(
        List.of(
            "the names of the weights in %s begin with 'policy.net.', which was taken off"
                .formatted(directory)),
        notes);
    notes = assertReads(write(DENSE, names(name -> "model." + name)));
    assertTrue(notes.getFirst().contains("begin with 'model.'"), notes::toString);
  }

  @Test
  void namesThatBeginInDifferentWaysAreRefused() throws IOException {
    write(DENSE, names(name -> name.contains("layers.1.") ? "module." + name : name));
    assertTrue(refusal().contains("begin in different ways, such as"), this::refusal);
    write(DENSE, names(name -> name.contains("layers.1.") ? "other." + name : name));
    assertTrue(refusal().contains("other.model.layers.1."), this::refusal);
    write(DENSE, names(name -> name.contains("layers.1.") ? name : name.replace("model.", "")));
    assertTrue(refusal().contains("begin in different ways"), this::refusal);
    write(
        DENSE,
        tensors -> {
          var all = new LinkedHashMap<>(tensors);
          tensors.forEach((name, tensor) -> all.put("teacher." + name, tensor));
          return all;
        });
    assertTrue(refusal().contains("hold several models, with 'model.layers.0."), this::refusal);
    write(
        DENSE,
        tensors -> {
          var all = new LinkedHashMap<>(tensors);
          all.put("model._orig_mod.norm.weight", all.get("model.norm.weight"));
          return all;
        });
    assertTrue(refusal().contains("which are one tensor of a model"), this::refusal);
  }

  @Test
  void anotherLayoutIsNamedAsItWasFound() throws IOException {
    write(
        DENSE,
        names(name -> name.replace("model.layers", "transformer.h").replace("self_attn", "attn")));
    String refused = refusal();
    assertTrue(refused.contains("'transformer.h.0.attn.k_norm.weight' [4]"), refused);
    write(DENSE, names(name -> name.replace("q_proj.weight", "q_proj.base_layer.weight")));
    refused = refusal();
    assertTrue(refused.contains("'model.layers.0.self_attn.q_proj.weight' that"), refused);
    assertTrue(
        refused.contains("hold 'model.layers.0.self_attn.q_proj.base_layer.weight' [16, 16]"),
        refused);
    write(DENSE, names(name -> "a".repeat(3000) + name));
    assertReads(write(DENSE, names(name -> "a".repeat(3000) + "." + name)));
    save(Map.of());
    assertTrue(refusal().contains("which hold no tensor"), this::refusal);
  }

  @Test
  void tensorsThatNobodyNeedsAreNamed() throws IOException {
    write(
        DENSE,
        tensors -> {
          var more = new LinkedHashMap<>(tensors);
          for (int i = 0; i < 7; i++) {
            more.put(
                "model.layers.0.self_attn.q_proj.bias" + i, Tensor.zeros(ElementType.FLOAT32, 3));
          }
          return more;
        });
    String refused = refusal();
    assertTrue(refused.contains("q_proj.bias0', ") && refused.contains(" and 2 more"), refused);
  }

  // ---------------------------------------------------------------- counts

  @Test
  void countsAreComparedBeforeAnythingIsMade() throws IOException {
    write(DENSE, tensors -> tensors);
    Path config = directory.resolve("config.json");
    String text = Files.readString(config);
    Files.writeString(
        config, text.replace("\"num_hidden_layers\" : 2", "\"num_hidden_layers\" : 9000"));
    assertTrue(refusal().contains("num_hidden_layers is 9000"), this::refusal);
    assertTrue(refusal().contains("the weights hold 2 layers"), this::refusal);
    Files.writeString(config, text.replace("\"vocab_size\" : 31", "\"vocab_size\" : 2000000000"));
    assertTrue(
        refusal().contains("[31, 16] where config.json calls for [2000000000, 16]"), this::refusal);
    Files.writeString(config, text.replace("\"head_dim\" : 4", "\"head_dim\" : 4000000"));
    assertTrue(
        refusal().contains("[16, 16] where config.json calls for [16000000, 16]"), this::refusal);
    // a number that is wrong because it was taken for one that is absent
    Files.writeString(config, text.replace("\"num_hidden_layers\"", "\"num_hiden_layers\""));
    assertTrue(
        refusal().contains("taken as transformers does: num_hidden_layers 32"), this::refusal);
    assertTrue(refusal().contains("'num_hiden_layers' (near num_hidden_layers)"), this::refusal);
    write(MIXTURE, tensors -> tensors);
    text = Files.readString(config);
    Files.writeString(config, text.replace("\"num_experts\" : 4", "\"num_experts\" : 30000"));
    assertTrue(refusal().contains("num_experts is 30000"), this::refusal);
    assertTrue(refusal().contains("hold 4 experts a layer"), this::refusal);
  }

  // ---------------------------------------------------------------- experts

  /// `[E, 2I, D]` and `[E, D, I]` out of an expert's three matrices.
  private static Map<String, Tensor> fused(Map<String, Tensor> tensors, String suffix) {
    Map<String, Tensor> fused = new LinkedHashMap<>();
    tensors.forEach(
        (name, tensor) -> {
          if (!name.contains(".experts.")) {
            fused.put(name, tensor);
          }
        });
    for (int layer = 0; layer < 2; layer++) {
      String experts = "model.layers." + layer + ".mlp.experts.";
      List<Tensor> gateAndUp = new ArrayList<>();
      List<Tensor> down = new ArrayList<>();
      for (int expert = 0; expert < 4; expert++) {
        gateAndUp.add(tensors.get(experts + expert + ".gate_proj.weight"));
        gateAndUp.add(tensors.get(experts + expert + ".up_proj.weight"));
        down.add(tensors.get(experts + expert + ".down_proj.weight"));
      }
      fused.put(
          experts + "gate_up_proj" + suffix, Tensor.concatenate(gateAndUp, 0).reshape(4, 48, 16));
      fused.put(experts + "down_proj" + suffix, Tensor.concatenate(down, 0).reshape(4, 16, 24));
    }
    return fused;
  }

  @Test
  void expertsAreOneTensorOrMany() throws IOException {
    assertEquals(List.of(), assertReads(write(MIXTURE, tensors -> tensors)));
    assertEquals(List.of(), assertReads(write(MIXTURE, tensors -> fused(tensors, ""))));
    assertEquals(List.of(), assertReads(write(MIXTURE, tensors -> fused(tensors, ".weight"))));
  }

  @Test
  void fusedExpertsOfAnotherShapeAreNotGuessedAt() throws IOException {
    write(
        MIXTURE,
        tensors -> {
          var changed = fused(tensors, "");
          changed.computeIfPresent(
              "model.layers.1.mlp.experts.gate_up_proj",
              (_, tensor) -> tensor.transpose(1, 2).contiguous());
          return changed;
        });
    String refused = refusal();
    assertTrue(refused.contains("'model.layers.1.mlp.experts.gate_up_proj'"), refused);
    assertTrue(refused.contains("[4, 16, 48] where config.json calls for [4, 48, 16]"), refused);
    assertTrue(refused.contains("[experts, 2 * width, hidden]"), refused);
    // both layouts at once: one of them is left
    write(
        MIXTURE,
        tensors -> {
          var both = fused(tensors, "");
          both.putAll(tensors);
          return both;
        });
    assertTrue(refusal().contains("experts.down_proj'"), this::refusal);
    // a dense model's names where experts are called for
    write(MIXTURE, names(name -> name.replaceAll("experts\\.(\\d)", "shared$1")));
    assertTrue(refusal().contains("mlp.shared0.down_proj.weight' [16, 24]"), this::refusal);
  }

  // ---------------------------------------------------------------- tied models

  @Test
  void aHeadOfItsOwnIsKeptAndTold() throws IOException {
    var untied = write(DENSE, tensors -> tensors);
    ModelConfig.of(DENSE.withTieWordEmbeddings(true)).write(directory, null);
    var notes = assertReads(untied);
    assertEquals(1, notes.size());
    assertTrue(
        notes.getFirst().contains("tie_word_embeddings is true, but 'lm_head.weight'"),
        notes::toString);
    var opened = ModelDirectory.open(directory, Precision.FLOAT32, Device.CPU, false);
    try (var decoder = opened.decoder()) {
      assertFalse(decoder.config().tieWordEmbeddings());
    }
  }

  @Test
  void anEqualHeadGoesSilently() throws IOException {
    var tied = DENSE.withTieWordEmbeddings(true);
    assertEquals(
        List.of(),
        assertReads(
            write(
                tied,
                tensors -> {
                  tensors.put("lm_head.weight", tensors.get("model.embed_tokens.weight"));
                  return tensors;
                })));
    assertEquals(
        List.of(),
        assertReads(
            write(
                tied,
                tensors -> {
                  tensors.put(
                      "lm_head.weight",
                      tensors.get("model.embed_tokens.weight").to(ElementType.FLOAT64));
                  return tensors;
                })));
    write(
        tied,
        tensors -> {
          tensors.put("lm_head.weight", Tensor.zeros(ElementType.FLOAT32, 30, 16));
          return tensors;
        });
    assertTrue(refusal().contains("[30, 16] where config.json calls for [31, 16]"), this::refusal);
  }

  @Test
  void theHeadAloneIsTheEmbeddingToo() throws IOException {
    var notes =
        assertReads(
            write(
                DENSE.withTieWordEmbeddings(true),
                names(name -> name.replace("model.embed_tokens", "lm_head"))));
    assertTrue(notes.getFirst().contains("it is the embedding too"), notes::toString);
    write(
        DENSE,
        tensors -> {
          tensors.remove("lm_head.weight");
          return tensors;
        });
    assertTrue(
        refusal().contains("hold no 'lm_head.weight', and config.json does not say that tie_word"),
        this::refusal);
  }

  // ---------------------------------------------------------------- frequencies, numbers

  @Test
  void storedFrequenciesAreComparedWithTheConfiguration() throws IOException {
    float[] own = new RopeScaling.None().inverseFrequencies(10_000, 4, 1);
    for (var type : List.of(ElementType.FLOAT32, ElementType.BFLOAT16, ElementType.FLOAT16)) {
      var expected =
          write(
              DENSE,
              tensors -> {
                tensors.put(
                    "model.layers.1.self_attn.rotary_emb.inv_freq", Tensor.of(own, 2).to(type));
                return tensors;
              });
      assertEquals(List.of(), assertReads(expected));
    }
    for (var other : List.of(Tensor.of(new float[] {1, 0.02f}, 2), Tensor.of(own, 1, 2))) {
      var expected =
          write(
              DENSE,
              tensors -> {
                tensors.put("model.rotary_emb.inv_freq", other);
                return tensors;
              });
      assertTrue(assertReads(expected).getFirst().contains("frequencies other than those of"));
      other.close();
    }
  }

  @ParameterizedTest
  @EnumSource(
      value = ElementType.class,
      names = {"FLOAT32", "BFLOAT16", "FLOAT16", "FLOAT64"})
  void everyFloatingPointTypeIsRead(ElementType type) throws IOException {
    Map<String, float[]> rounded = new LinkedHashMap<>();
    write(
        DENSE,
        tensors -> {
          tensors.replaceAll((_, tensor) -> tensor.to(type));
          return tensors;
        });
    var opened = ModelDirectory.open(directory, Precision.FLOAT32, Device.CPU, false);
    try (var decoder = opened.decoder();
        var files = SafetensorsDirectory.open(directory);
        var _ = Scope.withoutGradient()) {
      // by libtorch's own conversion
      for (Entry entry : files.entries()) {
        long[] shape = entry.shape().stream().mapToLong(Long::longValue).toArray();
        rounded.put(entry.name(), Tensor.of(entry.data(), type, shape).floats());
      }
      parameters(decoder)
          .forEach((name, values) -> assertArrayEquals(rounded.get(name), values, name));
    }
  }

  @Test
  void whatIsNoNumberIsNamedByItsPlace() throws IOException {
    for (var type : List.of(ElementType.FLOAT32, ElementType.BFLOAT16, ElementType.FLOAT64)) {
      for (float value :
          new float[] {Float.NaN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY}) {
        write(
            DENSE,
            tensors -> {
              var weight = tensors.get("model.layers.1.mlp.up_proj.weight");
              weight.narrow(0, 5, 1).narrow(1, 3, 1).fill(value);
              tensors.replaceAll((_, tensor) -> tensor.to(type));
              return tensors;
            });
        String refused = refusal();
        assertTrue(
            refused.contains("'model.layers.1.mlp.up_proj.weight'")
                && refused.contains("is NaN or infinite at [5, 3]"),
            refused);
      }
    }
    write(
        DENSE,
        tensors -> {
          tensors.put(
              "lm_head.weight", tensors.get("lm_head.weight").to(ElementType.FLOAT64).times(1e60));
          return tensors;
        });
    assertTrue(refusal().contains("too large for float32"), this::refusal);
    write(
        DENSE,
        tensors -> {
          tensors.put("lm_head.weight", tensors.get("lm_head.weight").to(ElementType.INT32));
          return tensors;
        });
    assertTrue(refusal().contains("the type I32 where a floating-point type"), this::refusal);
  }

  @Test
  void whatIsNoNumberIsNotSaved() {
    for (Gate gate : List.of(Gate.SDPA_HEADWISE, Gate.parse("value-headwise"))) {
      try (var decoder =
          Decoder.initialize(DENSE.with(List.of(gate)), Precision.FLOAT32, Device.CPU, 9)) {
        decoder
            .parameters()
            .get("model.layers.1.self_attn.q_proj.weight")
            .detach()
            .narrow(0, 0, 1)
            .narrow(1, 0, 1)
            .fill(Double.NaN);
        var e =
            assertThrows(
                IllegalStateException.class, () -> ModelDirectory.write(directory, decoder));
        assertTrue(e.getMessage().contains("q_proj.weight' is NaN or infinite at [0, 0]"));
        assertFalse(Files.exists(directory.resolve("model.safetensors")));
        assertFalse(Files.exists(directory.resolve("config.json")));
      }
    }
  }
}
