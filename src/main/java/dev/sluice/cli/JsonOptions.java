package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import dev.sluice.generation.JsonRestriction;
import dev.sluice.generation.Restriction;
import dev.sluice.schema.JsonSchema;
import dev.sluice.schema.TokenMask;
import dev.sluice.schema.Vocabulary;
import java.nio.file.Path;
import java.util.OptionalInt;
import java.util.Set;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Option;

/// Whether a text is to be JSON, and of which kind.
final class JsonOptions {
  @Option(
      names = "--json-schema",
      paramLabel = "FILE",
      description =
          "Write a JSON value that this JSON Schema allows, and nothing else. Say in the prompt too"
              + " what is wanted: the schema gives shape, not meaning.")
  private @Nullable Path schema;

  @Option(names = "--json-object", description = "Write a JSON object, whatever its properties.")
  private boolean object;

  private @Nullable JsonSchema wanted;

  /// Whether the text is to be JSON.
  boolean areGiven() {
    return schema != null || object;
  }

  /// Reads the schema, before a model is loaded for it.
  void read() {
    if (schema != null && object) {
      throw new InvalidInputException(
          "--json-schema and --json-object are given, and only one of them can be followed; leave"
              + " one out");
    }
    if (schema != null) {
      wanted = JsonSchema.read(schema);
      wanted.notes().forEach(note -> Console.note(schema + " at " + note));
    } else if (object) {
      wanted = JsonSchema.anyObject();
    }
  }

  /// What restricts each text, a new one each time.
  ///
  /// @param stopIds tokens that end a text
  /// @param after the token after which the JSON begins; empty where a text begins with it
  Supplier<Restriction> restrictions(
      ModelOptions.Loaded loaded, Set<Integer> stopIds, OptionalInt after) {
    if (wanted == null) {
      return () -> Restriction.NONE;
    }
    var vocabulary = new Vocabulary(loaded.tokenizer().tokenBytes(), stopIds);
    var mask = new TokenMask(wanted, vocabulary);
    return () -> new JsonRestriction(mask, after);
  }
}
