package dev.sluice.tokenizer;

import dev.sluice.InvalidInputException;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import org.jspecify.annotations.Nullable;

/// Tokenizers by the name a user gives them.
public final class Tokenizers {
  private static final String BYTES = "bytes";
  private static final String FILE_NAME = "tokenizer.json";

  private Tokenizers() {}

  /// The `tokenizer.json` behind a name that [#load] knows, or null for bytes.
  public static @Nullable Path file(String spec) {
    if (spec.equals(BYTES)) {
      return null;
    }
    Path path = Path.of(spec);
    return Files.isDirectory(path) ? path.resolve(FILE_NAME) : path;
  }

  /// `bytes`, the path of a `tokenizer.json`, or a folder that has one, such as a checkpoint.
  public static Tokenizer load(String spec) {
    if (spec.equals(BYTES)) {
      return new ByteTokenizer();
    }
    Path path;
    try {
      path = Path.of(spec);
    } catch (InvalidPathException _) {
      throw notFound(spec);
    }
    if (Files.isDirectory(path)) {
      path = path.resolve(FILE_NAME);
    }
    if (spec.isBlank() || !Files.isRegularFile(path)) {
      throw notFound(spec);
    }
    return HuggingFaceTokenizer.load(path);
  }

  private static InvalidInputException notFound(String spec) {
    return new InvalidInputException(
        "There is no tokenizer at '%s'; give '%s', a %s or a folder that has one."
            .formatted(spec, BYTES, FILE_NAME));
  }
}
