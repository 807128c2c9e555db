package dev.sluice.study;

import dev.sluice.InvalidInputException;
import dev.sluice.files.TomlFile;
import dev.sluice.training.RunConfig;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.LongStream;
import tools.jackson.core.type.TypeReference;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.JsonNodeFactory;
import tools.jackson.databind.node.ObjectNode;
import tools.jackson.dataformat.toml.TomlMapper;

/// A study as a TOML file: the settings of a run, and beside them `seeds` (how many, from `seed`
/// on), `match`, a table `grid` of settings with several values, and a table `[[variant]]` for each
/// variant, the baseline first, with a `name`, settings, and the `published_perplexity` if there is
/// one.
public final class StudyFile {
  /// The file's name in a study's directory.
  public static final String NAME = "study.toml";

  private static final String PUBLISHED = "published_perplexity";

  private static final TomlMapper TOML = TomlMapper.builder().build();

  private StudyFile() {}

  /// Reads a study.
  ///
  /// @param defaults of the settings that the file leaves out
  /// @param flags settings that win over the file's
  public static Study read(Path file, RunConfig defaults, Map<String, String> flags) {
    ObjectNode node = TomlFile.read(file);
    JsonNode seeds = taken(node, "seeds");
    JsonNode match = taken(node, "match");
    JsonNode grid = taken(node, "grid");
    JsonNode variants = taken(node, "variant");
    var settings = TOML.convertValue(node, new TypeReference<LinkedHashMap<String, Object>>() {});
    var base = defaults.with(settings, file, flags);
    if (!seeds.isMissingNode() && !(seeds.isIntegralNumber() && seeds.asLong() > 0)) {
      throw new InvalidInputException(file + ": seeds must be how many there are, not " + seeds);
    }
    if (!variants.isArray()) {
      throw new InvalidInputException(
          file + " names no variants; add a [[variant]] with a name and a gate for each");
    }
    List<Variant> read = new ArrayList<>();
    for (JsonNode variant : variants) {
      read.add(variant(variant, file));
    }
    var points = new LinkedHashMap<String, List<String>>();
    for (var entry : grid.properties()) {
      if (!entry.getValue().isArray()) {
        throw new InvalidInputException(
            file + ": the grid's " + entry.getKey() + " must be a list of values");
      }
      points.put(entry.getKey(), entry.getValue().valueStream().map(JsonNode::asString).toList());
    }
    return new Study(
        base,
        match.isMissingNode() ? Matching.PARAMETERS : Matching.parse(match.asString()),
        read,
        points,
        seeds(base.seed(), seeds.isMissingNode() ? 2 : seeds.asLong()));
  }

  /// As many seeds from the first on.
  public static List<Long> seeds(long first, long count) {
    return LongStream.range(first, first + count).boxed().toList();
  }

  private static JsonNode taken(ObjectNode node, String name) {
    var value = node.path(name);
    node.remove(name);
    return value;
  }

  private static Variant variant(JsonNode node, Path file) {
    String name = node.path("name").asString("");
    if (name.isBlank()) {
      throw new InvalidInputException(file + ": a [[variant]] has no name; add name = \"…\"");
    }
    var settings = new LinkedHashMap<String, String>();
    for (var entry : node.properties()) {
      if (!entry.getKey().equals("name") && !entry.getKey().equals(PUBLISHED)) {
        settings.put(entry.getKey(), entry.getValue().asString());
      }
    }
    return new Variant(name, settings, node.path(PUBLISHED).asDouble(0));
  }

  /// Writes `study.toml` into a directory: whole or not at all.
  static void write(Study study, Path directory) throws IOException {
    ObjectNode node = TOML.valueToTree(study.base().settings());
    node.put("seeds", study.seeds().size());
    node.put("match", study.matching().word());
    ObjectNode grid = node.putObject("grid");
    study
        .grid()
        .forEach(
            (setting, values) -> {
              ArrayNode array = grid.putArray(setting);
              values.forEach(array::add);
            });
    ArrayNode variants = node.putArray("variant");
    for (Variant variant : study.variants()) {
      ObjectNode one = JsonNodeFactory.instance.objectNode().put("name", variant.name());
      variant.settings().forEach(one::put);
      if (variant.published() > 0) {
        one.put(PUBLISHED, variant.published());
      }
      variants.add(one);
    }
    Files.createDirectories(directory);
    // of a name of its own: shards may start at once
    Path partial = Files.createTempFile(directory, ".study-", ".partial");
    Files.writeString(partial, TOML.writeValueAsString(node));
    Files.move(partial, directory.resolve(NAME), StandardCopyOption.ATOMIC_MOVE);
  }
}
