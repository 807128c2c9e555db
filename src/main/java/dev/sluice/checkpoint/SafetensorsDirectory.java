package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.files.JsonFile;
import dev.sluice.files.Trees;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SequencedMap;
import java.util.Set;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.SerializationFeature;
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

  /// Every shard is a mapping of its own, of which a process may have some ten thousand.
  private static final int MOST_SHARDS = 10_000;

  /// The longest header of one file, and then some: an index repeats every name.
  private static final long MOST_INDEX = 1L << 28;

  private static final int LONGEST_FILE_NAME = 255;

  private static final String AGAIN = "fetch it again";

  private static final JsonMapper JSON =
      JsonMapper.builder().enable(SerializationFeature.INDENT_OUTPUT).build();

  private final Path path;
  private final List<SafetensorsFile> shards;
  private final SequencedMap<String, SafetensorsFile.Entry> entries;
  private final List<String> notes;

  private SafetensorsDirectory(
      Path path,
      List<SafetensorsFile> shards,
      SequencedMap<String, SafetensorsFile.Entry> entries,
      List<String> notes) {
    this.path = path;
    this.shards = shards;
    this.entries = entries;
    this.notes = notes;
  }

  public static SafetensorsDirectory open(Path directory) {
    if (!Files.isDirectory(directory)) {
      throw new InvalidInputException(
          directory
              + (Files.exists(directory) ? " is not a directory" : " does not exist")
              + "; name the directory that holds "
              + SINGLE);
    }
    if (Files.exists(directory.resolve(SINGLE), LinkOption.NOFOLLOW_LINKS)) {
      var file = SafetensorsFile.open(directory.resolve(SINGLE), takesFloat8(directory));
      SequencedMap<String, SafetensorsFile.Entry> entries = new LinkedHashMap<>();
      file.entries().forEach(entry -> entries.put(entry.name(), entry));
      boolean both = Files.exists(directory.resolve(INDEX), LinkOption.NOFOLLOW_LINKS);
      return new SafetensorsDirectory(
          directory,
          List.of(file),
          entries,
          both
              ? List.of(
                  "%s holds %s beside %s; the former is read".formatted(directory, SINGLE, INDEX))
              : List.of());
    }
    if (Files.exists(directory.resolve(INDEX), LinkOption.NOFOLLOW_LINKS)) {
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

  /// The files that [#open] reads weights from.
  public static List<Path> files(Path directory) {
    Path single = directory.resolve(SINGLE);
    return Files.exists(single, LinkOption.NOFOLLOW_LINKS)
        ? List.of(single)
        : index(directory.resolve(INDEX)).sequencedValues().stream()
            .distinct()
            .map(directory::resolve)
            .toList();
  }

  private static SafetensorsDirectory openShards(Path directory) {
    SequencedMap<String, String> shardByTensor = index(directory.resolve(INDEX));
    SequencedMap<String, SafetensorsFile> shards = new LinkedHashMap<>();
    boolean takesFloat8 = takesFloat8(directory);
    try {
      for (String name : shardByTensor.sequencedValues()) {
        if (!shards.containsKey(name)) {
          shards.put(name, openShard(directory, name, takesFloat8));
        }
      }
      SequencedMap<String, SafetensorsFile.Entry> entries = new LinkedHashMap<>();
      List<String> unlisted = new ArrayList<>();
      shards.forEach(
          (shardName, shard) -> {
            for (var entry : shard.entries()) {
              String listed = shardByTensor.get(entry.name());
              if (shardName.equals(listed)) {
                entries.put(entry.name(), entry);
              } else if (listed == null) {
                unlisted.add(entry.name());
              }
            }
          });
      shardByTensor.forEach(
          (tensor, shard) -> {
            if (!entries.containsKey(tensor)) {
              throw new InvalidInputException(
                  "%s holds no tensor %s though %s says so; fetch both again"
                      .formatted(directory.resolve(shard), Listing.quoted(tensor), INDEX));
            }
          });
      return new SafetensorsDirectory(
          directory,
          List.copyOf(shards.values()),
          entries,
          unlisted.isEmpty()
              ? List.of()
              : List.of(
                  "the shards in %s hold %s that %s does not list: not read"
                      .formatted(directory, Listing.of(unlisted), INDEX)));
    } catch (RuntimeException | Error e) {
      shards.values().forEach(SafetensorsFile::close);
      throw e;
    }
  }

  private static boolean takesFloat8(Path directory) {
    var quantization = Quantization.at(directory);
    return quantization != null && quantization.takesFloat8();
  }

  private static SafetensorsFile openShard(Path directory, String name, boolean takesFloat8) {
    Path file = directory.resolve(name);
    if (Files.notExists(file)) { // or a link that leads nowhere, as in a cache that was cut
      throw new InvalidInputException(
          "%s/%s is missing though %s lists it; fetch that shard"
              .formatted(directory, Printable.brief(name, 80), INDEX));
    }
    return SafetensorsFile.open(file, takesFloat8);
  }

  private static SequencedMap<String, String> index(Path file) {
    JsonNode map = JsonFile.object(file, MOST_INDEX, AGAIN).path("weight_map");
    if (!map.isObject()) {
      throw new InvalidInputException("%s has no object weight_map; %s".formatted(file, AGAIN));
    }
    SequencedMap<String, String> shardByTensor = new LinkedHashMap<>();
    for (var field : map.properties()) {
      JsonNode shard = field.getValue();
      if (!shard.isString() || !isFileName(shard.stringValue())) {
        throw new InvalidInputException(
            "%s places tensor %s in %s, which is not a file name; %s"
                .formatted(
                    file, Listing.quoted(field.getKey()), Printable.brief(shard, 80), AGAIN));
      }
      shardByTensor.put(field.getKey(), shard.stringValue());
    }
    long shards = shardByTensor.values().stream().distinct().count();
    if (shards > MOST_SHARDS) {
      throw new InvalidInputException(
          "%s names %d shards, more than the %d that can be open at once; save the model in larger shards"
              .formatted(file, shards, MOST_SHARDS));
    }
    return shardByTensor;
  }

  /// A name only: an index from elsewhere must not lead out of its directory.
  private static boolean isFileName(String name) {
    return !name.isBlank()
        && name.length() <= LONGEST_FILE_NAME
        && !name.equals(".")
        && !name.equals("..")
        && name.chars().noneMatch(c -> c == '/' || c == '\\')
        && Trees.isPossible(name);
  }

  /// Writes the index of shards, as `save_pretrained` does.
  ///
  /// @param parameters how many numbers the model has
  /// @param bytes of all tensors
  /// @param shardOf a shard's file name by tensor, in order
  static void writeIndex(Path directory, long parameters, long bytes, Map<String, String> shardOf)
      throws IOException {
    var json = JSON.createObjectNode();
    json.putObject("metadata").put("total_parameters", parameters).put("total_size", bytes);
    var map = json.putObject("weight_map");
    shardOf.forEach(map::put);
    Files.writeString(
        directory.resolve(INDEX), JSON.writeValueAsString(json).replace("\r\n", "\n") + "\n");
  }

  public Path path() {
    return path;
  }

  /// What was found and not read, in sentences for the user.
  public List<String> notes() {
    return notes;
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
          "%s holds no tensor %s among its %d; check that it belongs to this model"
              .formatted(path, Listing.quoted(name), entries.size()));
    }
    return entry;
  }

  /// Unmaps every file.
  @Override
  public void close() {
    shards.forEach(SafetensorsFile::close);
  }
}
