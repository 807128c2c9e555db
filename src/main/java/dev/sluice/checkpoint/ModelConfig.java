package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.files.JsonFile;
import dev.sluice.gate.Gate;
import dev.sluice.tensor.ElementType;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.Set;
import java.util.TreeSet;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.SerializationFeature;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ObjectNode;

/// A model's `config.json`, read and written as one of [Families] does.
///
/// A configuration knows its family, which says where the weights stand.
public final class ModelConfig {
  /// The file's name.
  public static final String FILE = "config.json";

  private static final JsonMapper JSON =
      JsonMapper.builder().enable(SerializationFeature.INDENT_OUTPUT).build();

  private final DecoderConfig decoder;
  private final Family family;
  private final GatePacking packing;
  private final List<String> notes;

  /// @param decoder the model
  /// @param family that reads and writes it
  /// @param packing where the SDPA gate's rows stand
  /// @param notes what whoever uses the model has to know of how the file was read, in sentences
  ModelConfig(DecoderConfig decoder, Family family, GatePacking packing, List<String> notes) {
    this.decoder = decoder;
    this.family = family;
    this.packing = packing;
    this.notes = List.copyOf(notes);
  }

  /// One that leaves nothing to be told.
  ModelConfig(DecoderConfig decoder, Family family, GatePacking packing) {
    this(decoder, family, packing, List.of());
  }

  /// The model.
  public DecoderConfig decoder() {
    return decoder;
  }

  /// What whoever uses the model has to know of how the file was read, in sentences.
  public List<String> notes() {
    return notes;
  }

  Family family() {
    return family;
  }

  /// Where the SDPA gate's rows stand.
  GatePacking packing() {
    return packing;
  }

  @Override
  public boolean equals(@Nullable Object other) {
    return other instanceof ModelConfig that
        && decoder.equals(that.decoder)
        && family.equals(that.family)
        && packing == that.packing
        && notes.equals(that.notes);
  }

  @Override
  public int hashCode() {
    return Objects.hash(decoder, packing, notes);
  }

  /// How Sluice writes a model: as the first family does that can say all that it is.
  public static ModelConfig of(DecoderConfig decoder) {
    var family = Families.writing(decoder);
    return new ModelConfig(decoder, family, family.packing(decoder));
  }

  /// The same family's configuration of another model.
  ModelConfig with(DecoderConfig changed) {
    return new ModelConfig(changed, family, packing, notes);
  }

  /// The same model with the gate stored elsewhere.
  ///
  /// @throws InvalidInputException if its family cannot have it there
  ModelConfig packed(GatePacking wanted) {
    String type = json().path("model_type").asString();
    if (!family.packings().contains(wanted)) {
      throw new InvalidInputException(
          "model_type %s stores its gates as %s, not as %s; ask for that, or for no packing"
              .formatted(type, GatePacking.words(family.packings()), wanted.word()));
    }
    return new ModelConfig(decoder, family, wanted, notes);
  }

  /// The gate whose rows are packed among those of the queries, or null.
  @Nullable Gate packedGate() {
    return packing == GatePacking.SEPARATE
        ? null
        : decoder
            .firstAttention()
            .map(attention -> Qwen3.paperGate(attention.gates()))
            .orElse(null);
  }

  // ---------------------------------------------------------------- reading

  /// Reads `config.json` of a model directory, or the metadata of a GGUF file.
  public static ModelConfig read(Path directory) {
    Path gguf = GgufModel.at(directory);
    if (gguf != null) {
      try (var model = GgufModel.open(gguf)) {
        return model.config();
      }
    }
    Path file = directory.resolve(FILE);
    var json =
        JsonFile.object(file, JsonFile.SMALL, "name a checkpoint whose " + FILE + " is whole");
    try {
      var config = ConfigReader.read(json);
      return new ModelConfig(
          config.decoder,
          config.family,
          config.packing,
          config.notes.stream().map(note -> Printable.line(file + ": " + note)).toList());
    } catch (InvalidInputException e) {
      throw new InvalidInputException(file + ": " + e.getMessage(), e);
    }
  }

  // ---------------------------------------------------------------- writing

  /// Writes `config.json` into a directory.
  ///
  /// @param endToken the id of the token that ends a text; null where nobody knows it
  public void write(Path directory, @Nullable Integer endToken) throws IOException {
    ObjectNode json = json();
    if (endToken != null) {
      json.put("eos_token_id", endToken);
    }
    write(directory, json);
  }

  /// Writes `config.json` into a directory, with all that another one says and that has no effect
  /// on the model, such as tokens by their numbers.
  ///
  /// @param type of the stored weights
  void write(Path directory, ElementType type, ObjectNode other) throws IOException {
    ObjectNode json = json();
    json.put(json.has("dtype") ? "dtype" : "torch_dtype", type.name().toLowerCase(Locale.ROOT));
    for (JsonNode part : List.of(other.path("text_config"), other)) {
      for (var field : part.properties()) {
        if (ConfigNames.isHarmless(field.getKey()) && !json.has(field.getKey())) {
          json.set(field.getKey(), field.getValue());
        }
      }
    }
    write(directory, json);
  }

  private static void write(Path directory, ObjectNode json) throws IOException {
    Files.writeString(
        directory.resolve(FILE), JSON.writeValueAsString(json).replace("\r\n", "\n") + "\n");
  }

  /// How another model's `config.json` would differ from this one's: `hidden_size 64, now 128`.
  public List<String> differences(ModelConfig now) {
    var differences = new ArrayList<String>();
    ObjectNode here = json();
    ObjectNode there = now.json();
    Set<String> names = new TreeSet<>(here.propertyNames());
    names.addAll(there.propertyNames());
    for (String name : names) {
      if (!here.path(name).equals(there.path(name))) {
        differences.add("%s %s, now %s".formatted(name, here.path(name), there.path(name)));
      }
    }
    return differences;
  }

  /// All that the file says.
  ObjectNode json() {
    ObjectNode json = JSON.createObjectNode();
    family.write(this, json);
    return json;
  }
}
