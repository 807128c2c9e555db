package dev.sluice.checkpoint;

import dev.sluice.TestData;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.MultiTokenPrediction;
import dev.sluice.operations.Precision;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ObjectNode;

/// Small random models under the names and in the packing of a published family.
public final class TinyCheckpoints {
  private static final String LAYERS = "model.layers.";

  private TinyCheckpoints() {}

  /// The `config.json` of a model that tests have, to be changed.
  public static ObjectNode config(String golden) {
    Path file = TestData.GOLDEN.resolve(golden).resolve(ModelConfig.FILE);
    return (ObjectNode) JsonMapper.shared().readTree(file.toFile());
  }

  /// One in which every row of a matrix is 256 numbers, as long as the longest blocks: a layer of
  /// Gated DeltaNet and one of attention.
  ///
  /// @param golden a hybrid, dense or a mixture
  public static ObjectNode wholeBlocks(String golden) {
    var config = config(golden);
    config.put("vocab_size", 50).put("max_position_embeddings", 512).put("initializer_range", 0.1);
    config.put("hidden_size", 256).put("num_attention_heads", 8).put("head_dim", 32);
    config.put("linear_num_key_heads", 4).put("linear_num_value_heads", 8);
    config.put("linear_key_head_dim", 16).put("linear_value_head_dim", 32);
    config.put("num_hidden_layers", 2);
    config.putArray("layer_types").add("linear_attention").add("full_attention");
    if (config.has("num_experts")) {
      config.put("num_experts", 4).put("num_experts_per_tok", 2);
      config.put("moe_intermediate_size", 256).put("shared_expert_intermediate_size", 256);
    } else {
      config.put("intermediate_size", 256);
    }
    return config;
  }

  /// The weights of such a model by their names in a file; the caller's scope holds them. Norms and
  /// biases are random too.
  ///
  /// @param together whether the experts of a layer are one tensor
  /// @param drafts whether there is a head that drafts tokens
  static Map<String, Tensor> weights(ModelConfig model, boolean together, boolean drafts) {
    int layers = model.decoder().layers().size();
    var whole = // with the head's block as one more layer
        drafts ? model.with(MultiTokenPrediction.withBlock(model.decoder())) : model;
    Map<String, Tensor> weights = new LinkedHashMap<>();
    Random random = new Random(7);
    var decoder = Decoder.initialize(whole.decoder(), Precision.FLOAT32, Device.CPU, 3);
    try (decoder) {
      var packed = ModelDirectory.packed(decoder.parameters(), whole, together(whole, together));
      packed.forEach(
          (name, tensor) ->
              weights.put(
                  name.replace(LAYERS + layers + ".", "mtp.layers.0."), moved(tensor, random)));
    }
    if (drafts) {
      MultiTokenPrediction.parameters(model.decoder())
          .forEach(
              (name, spec) -> {
                if (!name.startsWith(LAYERS)) {
                  weights.put(
                      name, moved(Tensor.of(drawn(spec.elements(), random), spec.shape()), random));
                }
              });
    }
    return weights;
  }

  /// The names of tensors that hold all experts of a layer.
  private static Set<String> together(ModelConfig model, boolean wanted) {
    Set<String> names = new HashSet<>();
    for (int layer = 0; wanted && layer < model.decoder().layers().size(); layer++) {
      for (String part : new String[] {"gate_up_proj", "down_proj"}) {
        names.add(LAYERS + layer + ".mlp.experts." + part);
      }
    }
    return names;
  }

  private static float[] drawn(long count, Random random) {
    float[] numbers = new float[Math.toIntExact(count)];
    for (int i = 0; i < numbers.length; i++) {
      numbers[i] = 0.1f * (float) random.nextGaussian();
    }
    return numbers;
  }

  /// A copy, of a vector with something added to each number.
  private static Tensor moved(Tensor tensor, Random random) {
    float[] numbers = tensor.floats();
    if (tensor.shape().length == 1) {
      float[] added = drawn(numbers.length, random);
      for (int i = 0; i < numbers.length; i++) {
        numbers[i] += 2 * added[i];
      }
    }
    return Tensor.of(numbers, tensor.shape());
  }

  /// Writes a model into an existing directory.
  public static Path write(Path directory, ObjectNode config, boolean together, boolean drafts)
      throws IOException {
    Files.writeString(directory.resolve(ModelConfig.FILE), config.toString());
    try (var _ = Scope.withoutGradient()) {
      SafetensorsWriter.write(
          directory.resolve(SafetensorsDirectory.SINGLE),
          Map.of("format", "pt"),
          ModelDirectory.entries("", weights(ModelConfig.read(directory), together, drafts)));
    }
    return directory;
  }
}
