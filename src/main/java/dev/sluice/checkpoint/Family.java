package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.tensor.ParameterSpec;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.Set;
import tools.jackson.databind.node.ObjectNode;

/// A family of models as it is published: its `config.json` and where its tensors stand, both ways.
/// A new one is a class of this kind and a line in [Families].
interface Family {
  /// The words of `model_type` that it reads.
  Set<String> modelTypes();

  /// The names under `architectures` that mean a model of next tokens.
  Set<String> architectures();

  /// The keys that it reads besides [ConfigReader#COMMON].
  Set<String> keys();

  /// What a configuration says.
  ModelConfig read(ConfigReader config);

  /// Writes the configuration of a model that it [#writes].
  default void write(ModelConfig model, ObjectNode json) {
    throw new InvalidInputException(
        "models of the family %s are read, not written; no file would say what they are"
            .formatted(modelTypes().stream().sorted().findFirst().orElseThrow()));
  }

  /// Where it stores the gate of a model that is made here.
  default GatePacking packing(DecoderConfig decoder) {
    return GatePacking.SEPARATE;
  }

  /// Where it can store the gate: not everything else reads what Sluice does.
  default List<GatePacking> packings() {
    return List.of(GatePacking.values());
  }

  /// Whether a model can be written so that it reads as the same one.
  default boolean writes(DecoderConfig decoder) {
    try {
      var model = new ModelConfig(decoder, this, packing(decoder));
      return ConfigReader.read(model.json()).decoder().equals(decoder);
    } catch (InvalidInputException | IllegalStateException | NoSuchElementException _) {
      return false; // the model has not what the family always has, or has more
    }
  }

  /// Where a parameter may stand in the file: at the first of these places that is there, and at
  /// the first when it is written.
  default List<Placement> places(ModelConfig model, Parameter parameter) {
    return Placement.usual(model, parameter, parameter.name());
  }

  /// What the names of tensors start with that are no part of the model of next tokens.
  default Set<String> skipped() {
    return Set.of();
  }

  /// A parameter of a model.
  ///
  /// @param name as [DecoderConfig#parameters] has it
  /// @param layer its layer; −1 for one of no layer
  /// @param part its name within the layer, or all of it
  record Parameter(String name, ParameterSpec spec, int layer, String part) {
    private static final String LAYERS = "model.layers.";

    static Parameter of(String name, ParameterSpec spec) {
      if (!name.startsWith(LAYERS)) {
        return new Parameter(name, spec, -1, name);
      }
      int dot = name.indexOf('.', LAYERS.length());
      return new Parameter(
          name,
          spec,
          Integer.parseInt(name.substring(LAYERS.length(), dot)),
          name.substring(dot + 1));
    }

    /// The name with what stands first within the layer replaced.
    ///
    /// @param names ours and theirs; the first that fits is taken
    String renamed(List<List<String>> names) {
      for (var pair : names) {
        if (layer >= 0 && part.startsWith(pair.getFirst())) {
          return beside(pair.getLast() + part.substring(pair.getFirst().length()));
        }
      }
      return name;
    }

    /// The name of another tensor of the same layer.
    String beside(String other) {
      return name.substring(0, name.length() - part.length()) + other;
    }
  }
}
