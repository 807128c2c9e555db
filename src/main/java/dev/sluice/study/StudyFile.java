package dev.sluice.study;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.files.TomlFile;
import dev.sluice.files.WholeFile;
import dev.sluice.training.RunConfig;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
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
  private static final int SHOWN = 60;

  private static final TomlMapper TOML = TomlMapper.builder().build();

  private final Path file;
  private final ObjectNode content;

  private StudyFile(Path file) {
    this.file = file;
    this.content = TomlFile.read(file);
  }

  /// Reads a study.
  ///
  /// @param defaults of the settings that the file leaves out
  /// @param flags settings that win over the file's
  public static Study read(Path file, RunConfig defaults, Map<String, String> flags) {
    return read(file, defaults, flags, null, null, Map.of());
  }

  /// Reads a study, of which flags decide more than settings.
  ///
  /// @param seeds how many in place of the file's, or null
  /// @param matching in place of the file's, or null
  /// @param points of the grid, beside the file's and in place of those of the same setting
  public static Study read(
      Path file,
      RunConfig defaults,
      Map<String, String> flags,
      @Nullable Integer seeds,
      @Nullable Matching matching,
      Map<String, List<String>> points) {
    return new StudyFile(file).study(defaults, flags, seeds, matching, points);
  }

  private Study study(
      RunConfig defaults,
      Map<String, String> flags,
      @Nullable Integer seedsGiven,
      @Nullable Matching matchingGiven,
      Map<String, List<String>> pointsGiven) {
    int seeds = seeds(content.remove("seeds"));
    var match = content.remove("match");
    var grid = new LinkedHashMap<>(grid(content.remove("grid")));
    var variants = variants(content.remove("variant"));
    var base = defaults.with(content, file, flags).pinned();
    var matching = match == null ? Matching.usual(base) : matching(match);
    grid.putAll(pointsGiven);
    try {
      return new Study(
          base,
          matchingGiven == null ? matching : matchingGiven,
          variants,
          grid,
          Study.seeds(base.seed(), seedsGiven == null ? seeds : seedsGiven));
    } catch (InvalidInputException e) {
      throw new InvalidInputException("%s: %s".formatted(file, e.getMessage()), e);
    }
  }

  private int seeds(@Nullable JsonNode node) {
    if (node == null) {
      return 2;
    }
    if (!node.isIntegralNumber() || !node.canConvertToInt() || node.intValue() < 1) {
      throw wrong("seeds", "how many there are, such as 5", node);
    }
    return node.intValue();
  }

  private Matching matching(JsonNode node) {
    if (!node.isString()) {
      throw wrong("match", "\"parameters\", \"flops\" or \"none\"", node);
    }
    try {
      return Matching.parse(node.stringValue());
    } catch (InvalidInputException e) {
      throw new InvalidInputException("%s: %s".formatted(file, e.getMessage()), e);
    }
  }

  private Map<String, List<String>> grid(@Nullable JsonNode node) {
    if (node == null) {
      return Map.of();
    }
    if (!(node instanceof ObjectNode settings)) {
      throw wrong("grid", "a table of settings, each with a list of values", node);
    }
    var points = new LinkedHashMap<String, List<String>>();
    settings
        .properties()
        .forEach(
            entry -> {
              if (!(entry.getValue() instanceof ArrayNode values) || values.isEmpty()) {
                throw wrong("the grid's " + entry.getKey(), "a list of values", entry.getValue());
              }
              points.put(
                  entry.getKey(),
                  values
                      .valueStream()
                      .map(value -> text("a value of the grid's " + entry.getKey(), value))
                      .toList());
            });
    return points;
  }

  private List<Variant> variants(@Nullable JsonNode node) {
    if (node == null) {
      throw new InvalidInputException(
          file + " names no variants; add a [[variant]] with a name and a gate for each");
    }
    if (!(node instanceof ArrayNode all)) {
      throw wrong("variant", "a list of tables, each written as [[variant]]", node);
    }
    List<Variant> variants = new ArrayList<>();
    for (JsonNode one : all) {
      if (!(one instanceof ObjectNode settings)) {
        throw wrong("a variant", "a table, written as [[variant]]", one);
      }
      variants.add(variant(settings));
    }
    return variants;
  }

  private Variant variant(ObjectNode node) {
    JsonNode name = node.path("name");
    if (!name.isString()) {
      throw name.isMissingNode()
          ? new InvalidInputException(file + ": a [[variant]] has no name; add name = \"…\"")
          : wrong("a variant's name", "text in quotes", name);
    }
    String whose = "'%s'".formatted(Printable.brief(name.stringValue(), SHOWN));
    var settings = new LinkedHashMap<String, String>();
    double published = 0;
    for (var entry : node.properties()) {
      JsonNode value = entry.getValue();
      switch (entry.getKey()) {
        case "name" -> {}
        case PUBLISHED -> {
          published = value.isNumber() ? Double.parseDouble(value.asString()) : 0;
          if (published == 0) { // which is how a variant says that there is none
            throw wrong(PUBLISHED + " of " + whose, "a number above 1", value);
          }
        }
        default -> settings.put(entry.getKey(), text(entry.getKey() + " of " + whose, value));
      }
    }
    try {
      return new Variant(name.stringValue(), settings, published);
    } catch (InvalidInputException e) {
      throw new InvalidInputException("%s: %s".formatted(file, e.getMessage()), e);
    }
  }

  /// A setting's value as a flag would give it.
  private String text(String what, JsonNode value) {
    if (value.isString()) {
      return value.stringValue();
    }
    if (value.isBoolean() || value.isNumber()) {
      return value.asString();
    }
    throw wrong(what, "one value: text in quotes, a number, true or false", value);
  }

  private InvalidInputException wrong(String what, String kind, JsonNode found) {
    return new InvalidInputException(
        "%s: %s must be %s, not %s"
            .formatted(
                file, Printable.brief(what, 2 * SHOWN), kind, Printable.brief(found, SHOWN)));
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
    WholeFile.write(directory.resolve(NAME), TOML.writeValueAsString(node));
  }
}
