package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SequencedMap;
import java.util.Set;
import tools.jackson.core.JacksonException;
import tools.jackson.core.StreamReadFeature;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/// All tensors of a model directory in Hugging Face's layout: one `model.safetensors`, or
/// `model.safetensors.index.json` and the shards that it lists. Where both exist the single file
/// counts, as it does for `transformers`. The index decides what belongs to the model: a tensor
/// that a shard holds and the index does not list is no part of it.
public final class SafetensorsDirectory implements AutoCloseable {
  /// The file of a model that was not split.
  public static final String SINGLE = "model.safetensors";

  /// The file that says which shard holds which tensor.
  public static final String INDEX = "model.safetensors.index.json";

  private static final JsonMapper JSON =
      JsonMapper.builder().enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION).build();

  private final Path path;
  private final List<SafetensorsFile> shards;
  private final SequencedMap<String, SafetensorsFile.Entry> entries;

  private SafetensorsDirectory(
      Path path,
      List<SafetensorsFile> shards,
      SequencedMap<String, SafetensorsFile.Entry> entries) {
    this.path = path;
    this.shards = shards;
    this.entries = entries;
  }

  public static SafetensorsDirectory open(Path directory) {
    if (!Files.isDirectory(directory)) {
      throw new InvalidInputException(
          directory
              + (Files.exists(directory) ? " is not a directory" : " does not exist")
              + "; name the directory that holds "
              + SINGLE);
    }
    if (Files.exists(directory.resolve(SINGLE))) {
      var file = SafetensorsFile.open(directory.resolve(SINGLE));
      SequencedMap<String, SafetensorsFile.Entry> entries = new LinkedHashMap<>();
      file.entries().forEach(entry -> entries.put(entry.name(), entry));
      return new SafetensorsDirectory(directory, List.of(file), entries);
    }
    if (Files.exists(directory.resolve(INDEX))) {
      return openShards(directory);
    }
    throw new InvalidInputException(
        directory
            + " holds neither "
            + SINGLE
            + " nor "
            + INDEX
            + (Files.exists(directory.resolve("pytorch_model.bin"))
                ? "; convert its pytorch_model.bin to safetensors first"
                : "; name a directory written by save_pretrained or by sluice"));
  }

  private static SafetensorsDirectory openShards(Path directory) {
    SequencedMap<String, String> shardByTensor = index(directory.resolve(INDEX));
    SequencedMap<String, SafetensorsFile> shards = new LinkedHashMap<>();
    try {
      for (String name : shardByTensor.sequencedValues()) {
        if (!shards.containsKey(name)) {
          shards.put(name, openShard(directory, name));
        }
      }
      SequencedMap<String, SafetensorsFile.Entry> entries = new LinkedHashMap<>();
      shards.forEach(
          (shardName, shard) -> {
            for (var entry : shard.entries()) {
              if (shardName.equals(shardByTensor.get(entry.name()))) {
                entries.put(entry.name(), entry);
              }
            }
          });
      shardByTensor.forEach(
          (tensor, shard) -> {
            if (!entries.containsKey(tensor)) {
              throw new InvalidInputException(
                  "%s holds no tensor '%s' though %s says so; fetch both again"
                      .formatted(directory.resolve(shard), tensor, INDEX));
            }
          });
      return new SafetensorsDirectory(directory, List.copyOf(shards.values()), entries);
    } catch (RuntimeException | Error e) {
      shards.values().forEach(SafetensorsFile::close);
      throw e;
    }
  }

  private static SafetensorsFile openShard(Path directory, String name) {
    Path file = directory.resolve(name);
    if (Files.notExists(file)) {
      throw new InvalidInputException(
          file + " is missing though " + INDEX + " lists it; fetch that shard");
    }
    return SafetensorsFile.open(file);
  }

  private static SequencedMap<String, String> index(Path file) {
    JsonNode map;
    try {
      map = JSON.readTree(file.toFile()).path("weight_map");
    } catch (JacksonException e) {
      throw new InvalidInputException(
          file + " is not valid JSON (" + e.getOriginalMessage() + "); fetch it again", e);
    }
    if (!map.isObject()) {
      throw new InvalidInputException(file + " has no object weight_map; fetch it again");
    }
    SequencedMap<String, String> shardByTensor = new LinkedHashMap<>();
    for (var field : map.properties()) {
      JsonNode shard = field.getValue();
      // A name only: an index from elsewhere must not lead out of its directory.
      if (!shard.isString()
          || shard.stringValue().isEmpty()
          || shard.stringValue().contains("/")
          || shard.stringValue().contains("\\")) {
        throw new InvalidInputException(
            "%s places tensor '%s' in %s, which is not a file name; fetch it again"
                .formatted(file, field.getKey(), shard));
      }
      shardByTensor.put(field.getKey(), shard.stringValue());
    }
    return shardByTensor;
  }

  public Path path() {
    return path;
  }

  /// The files in the order in which the index first names them.
  public List<SafetensorsFile> shards() {
    return shards;
  }

  /// The free text of the first file; every shard carries the same.
  public Map<String, String> metadata() {
    return shards.isEmpty() ? Map.of() : shards.getFirst().metadata();
  }

  /// All tensors of the model, shard by shard.
  public List<SafetensorsFile.Entry> entries() {
    return List.copyOf(entries.values());
  }

  /// The names of all tensors, shard by shard.
  public Set<String> names() {
    return Collections.unmodifiableSet(entries.keySet());
  }

  /// The tensor of that name; if there is none, an error that says so.
  public SafetensorsFile.Entry entry(String name) {
    SafetensorsFile.Entry entry = entries.get(name);
    if (entry == null) {
      throw new InvalidInputException(
          "%s holds no tensor '%s' among its %d; check that it belongs to this model"
              .formatted(path, name, entries.size()));
    }
    return entry;
  }

  /// Unmaps every file.
  @Override
  public void close() {
    shards.forEach(SafetensorsFile::close);
  }
}
