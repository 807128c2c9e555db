package dev.sluice.tokenizer;

import dev.sluice.InvalidInputException;
import dev.sluice.gguf.GgufFile;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;

/// Tokenizers by the name a user gives them.
public final class Tokenizers {
  private static final String BYTES = "bytes";

  private Tokenizers() {}

  /// `bytes`, the path of a `tokenizer.json`, a folder that has one, such as a checkpoint, or a
  /// GGUF file, whose metadata hold one.
  public static Tokenizer load(String spec) {
    return load(spec, null);
  }

  /// The same with the token that ends documents.
  ///
  /// @param endToken as the vocabulary has it; null or empty for the one that the files beside
  ///   `tokenizer.json` name
  public static Tokenizer load(String spec, @Nullable String endToken) {
    var tokenizer = at(spec, file -> EndToken.of(file, endToken));
    if (tokenizer instanceof ByteTokenizer && endToken != null && !endToken.isEmpty()) {
      throw new InvalidInputException(
          "%s cannot end documents of bytes, which end with the byte 0; leave --eos-token out"
              .formatted(TokenizerFile.quoted(endToken)));
    }
    return tokenizer;
  }

  /// The same with the end token of before, so that what was begun goes on as it was, whatever the
  /// files beside `tokenizer.json` say now. If that file itself changed, so does the fingerprint.
  ///
  /// @param fingerprint [Tokenizer#fingerprint] of before
  public static Tokenizer restore(String spec, String fingerprint) {
    return at(spec, file -> EndToken.recorded(file, fingerprint));
  }

  /// The tokenizer of a GGUF file that is open.
  ///
  /// @param endToken as for [#load(String, String)]
  /// @param meanwhile is done while the library reads the vocabulary
  public static Tokenizer load(GgufFile file, @Nullable String endToken, Runnable meanwhile) {
    return load(file, read -> EndToken.of(read, endToken), meanwhile);
  }

  private static Tokenizer load(
      GgufFile file, Function<TokenizerFile, EndToken> ending, Runnable meanwhile) {
    return HuggingFaceTokenizer.load(
        library -> GgufTokenizer.read(file, library),
        read -> {
          var end = ending.apply(read);
          meanwhile.run();
          return end;
        });
  }

  private static Tokenizer at(String spec, Function<TokenizerFile, EndToken> ending) {
    if (spec.equals(BYTES)) {
      return new ByteTokenizer();
    }
    Path named;
    try {
      named = Path.of(spec);
    } catch (InvalidPathException _) {
      throw notFound(spec);
    }
    Path path = Files.isDirectory(named) ? named.resolve(TokenizerFolder.TOKENIZER) : named;
    if (spec.isBlank() || !Files.isRegularFile(path)) {
      throw notFound(spec);
    }
    if (GgufFile.isNamed(path)) {
      try (var file = GgufFile.open(path)) {
        return load(file, ending, () -> {});
      }
    }
    byte[] file = TokenizerFile.bytes(path);
    return ByteTokenizer.is(file)
        ? new ByteTokenizer()
        : HuggingFaceTokenizer.load(library -> TokenizerFile.of(path, file, library), ending);
  }

  private static InvalidInputException notFound(String spec) {
    return new InvalidInputException(
        "There is no tokenizer at '%s'; give '%s', a %s or a folder that has one."
            .formatted(spec, BYTES, TokenizerFolder.TOKENIZER));
  }
}
