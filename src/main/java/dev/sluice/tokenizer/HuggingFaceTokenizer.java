package dev.sluice.tokenizer;

import ai.djl.huggingface.tokenizers.jni.LibUtils;
import ai.djl.huggingface.tokenizers.jni.TokenizersLibrary;
import dev.sluice.InvalidInputException;
import java.io.IOException;
import java.lang.ref.Cleaner;
import java.lang.ref.Reference;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/// A `tokenizer.json`, read by the Rust library that defines the format.
///
/// The native functions are called directly. DJL's own tokenizer class reports its use to a server
/// when it runs on EC2, and builds a Java object for the place of every token in the text, which
/// would dominate the preparation of a corpus.
public final class HuggingFaceTokenizer implements Tokenizer {
  private static final TokenizersLibrary NATIVE = loadNative();
  private static final Cleaner CLEANER = Cleaner.create();

  /// The first that exists separates documents.
  private static final List<String> END_OF_TEXT =
      List.of("<|endoftext|>", "</s>", "<eos>", "<|end_of_text|>");

  private final long handle;
  private final int vocabularySize;
  private final int endOfText;
  private final String fingerprint;
  private final Path file;

  private HuggingFaceTokenizer(
      long handle, Map<String, Integer> idOfToken, String fingerprint, Path file) {
    this.handle = handle;
    this.vocabularySize = idOfToken.values().stream().mapToInt(id -> id).max().orElseThrow() + 1;
    // A tokenizer made only for classification may know no separator; id 0 then serves as one.
    this.endOfText =
        END_OF_TEXT.stream()
            .filter(idOfToken::containsKey)
            .findFirst()
            .map(idOfToken::get)
            .orElse(0);
    this.fingerprint = fingerprint;
    this.file = file;
    CLEANER.register(this, () -> NATIVE.deleteTokenizer(handle));
  }

  /// Reads the file once: what is hashed is what is used.
  static HuggingFaceTokenizer load(Path file) {
    byte[] json;
    try {
      json = Files.readAllBytes(file);
    } catch (IOException e) {
      throw new InvalidInputException(
          "The tokenizer %s cannot be read (%s); check its permissions.".formatted(file, e), e);
    }
    Map<String, Integer> idOfToken;
    try {
      idOfToken = idOfToken(JsonMapper.shared().readTree(json));
    } catch (JacksonException e) {
      throw new InvalidInputException(corrupt(file, e.getOriginalMessage()), e);
    }
    if (idOfToken.isEmpty()) {
      throw new InvalidInputException(corrupt(file, "it lists no tokens"));
    }
    long handle;
    try {
      handle = NATIVE.createTokenizerFromString(new String(json, StandardCharsets.UTF_8));
    } catch (RuntimeException e) {
      throw new InvalidInputException(corrupt(file, String.valueOf(e.getMessage())), e);
    }
    NATIVE.disableTruncation(handle);
    NATIVE.disablePadding(handle);
    return new HuggingFaceTokenizer(handle, idOfToken, sha256(json), file);
  }

  @Override
  public int vocabularySize() {
    return vocabularySize;
  }

  @Override
  public int[] encode(String text) {
    try {
      long encoding = NATIVE.encode(handle, text, false);
      try {
        long[] wide = NATIVE.getTokenIds(encoding);
        int[] ids = new int[wide.length];
        for (int i = 0; i < wide.length; i++) {
          ids[i] = (int) wide[i];
        }
        return ids;
      } finally {
        NATIVE.deleteEncoding(encoding);
      }
    } finally {
      Reference.reachabilityFence(this);
    }
  }

  @Override
  public String decode(int[] ids) {
    long[] wide = new long[ids.length];
    for (int i = 0; i < ids.length; i++) {
      wide[i] = ids[i];
    }
    try {
      return NATIVE.decode(handle, wide, true);
    } finally {
      Reference.reachabilityFence(this);
    }
  }

  @Override
  public int endOfText() {
    return endOfText;
  }

  @Override
  public String fingerprint() {
    return fingerprint;
  }

  @Override
  public String describe() {
    return "%s (%d ids, sha256 %s)".formatted(file, vocabularySize, fingerprint.substring(0, 12));
  }

  /// Unigram models list their vocabulary as `[[token, score], …]`, all others as `{token: id}`;
  /// the added tokens stand beside it and may lie above it.
  private static Map<String, Integer> idOfToken(JsonNode root) {
    Map<String, Integer> idOfToken = new TreeMap<>();
    JsonNode vocabulary = root.path("model").path("vocab");
    if (vocabulary.isArray()) {
      for (int id = 0; id < vocabulary.size(); id++) {
        idOfToken.put(vocabulary.path(id).path(0).asString(""), id);
      }
    } else {
      vocabulary
          .properties()
          .forEach(entry -> idOfToken.put(entry.getKey(), entry.getValue().asInt(0)));
    }
    for (JsonNode added : root.path("added_tokens")) {
      idOfToken.put(added.path("content").asString(""), added.path("id").asInt(0));
    }
    return idOfToken;
  }

  /// The processor's build of the library lies in the jar. Without this choice DJL looks for CUDA
  /// and, where it finds it, downloads another build.
  private static TokenizersLibrary loadNative() {
    System.setProperty("RUST_FLAVOR", "cpu");
    LibUtils.checkStatus();
    return TokenizersLibrary.LIB;
  }

  private static String corrupt(Path file, String why) {
    return "%s is not a usable Hugging Face tokenizer (%s); fetch the model's tokenizer.json again."
        .formatted(file, why.lines().findFirst().orElse("no reason given"));
  }

  private static String sha256(byte[] content) {
    try {
      return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(content));
    } catch (NoSuchAlgorithmException e) {
      throw new AssertionError("every Java platform has SHA-256", e);
    }
  }
}
