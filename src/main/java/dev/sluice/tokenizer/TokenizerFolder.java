package dev.sluice.tokenizer;

import dev.sluice.files.JsonFile;
import dev.sluice.files.RegularFile;
import dev.sluice.files.WholeFile;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ObjectNode;

/// A tokenizer as the files that `transformers` reads: `AutoTokenizer` gives the same ids, and
/// `generate` stops at the end token.
///
/// @param files contents by name
record TokenizerFolder(Map<String, byte[]> files) {
  static final String TOKENIZER = "tokenizer.json";

  private static final String CONFIG = "tokenizer_config.json";
  static final String GENERATION = "generation_config.json";
  private static final String TEMPLATE = "chat_template.jinja";

  /// Names no model's own class, which would build another tokenizer from the vocabulary.
  private static final String CLASS = "PreTrainedTokenizerFast";

  /// What is kept of a `tokenizer_config.json` as it is: nothing of it changes ids.
  private static final List<String> KEPT =
      List.of("chat_template", "clean_up_tokenization_spaces", "model_max_length", "padding_side");

  /// Tokens with a part to play. `transformers` adds to the vocabulary what it does not find among
  /// the added tokens, so only these are kept.
  private static final List<String> TOKENS =
      List.of("bos_token", "pad_token", "unk_token", "cls_token", "sep_token", "mask_token");

  private static final List<String> MORE_TOKENS =
      List.of("extra_special_tokens", "additional_special_tokens");

  private static final JsonMapper JSON = JsonFile.mapper().build();

  /// The files for a tokenizer that was read from one.
  static TokenizerFolder of(TokenizerFile file, EndToken end) {
    ObjectNode before = file.beside(CONFIG);
    ObjectNode config = JSON.createObjectNode();
    config.put("tokenizer_class", CLASS);
    if (end.isKnown()) {
      config.put("eos_token", end.text());
    }
    for (String key : TOKENS) {
      String token = TokenizerFile.content(before.path(key));
      if (token != null && file.added().contains(token)) {
        config.put(key, token);
      }
    }
    Set<String> more = new LinkedHashSet<>();
    for (String key : MORE_TOKENS) {
      for (JsonNode value : before.path(key)) {
        String token = TokenizerFile.content(value);
        if (token != null && file.added().contains(token)) {
          more.add(token);
        }
      }
    }
    if (!more.isEmpty()) {
      config.set(MORE_TOKENS.getFirst(), JSON.valueToTree(more));
    }
    for (String key : KEPT) {
      if (before.has(key)) {
        config.set(key, before.get(key));
      }
    }
    String template = chatTemplate(file);
    if (template != null) {
      config.put("chat_template", template);
    }
    return of(file.bytes(), config, end);
  }

  /// The chat template, or null: that of a file of its own counts before the one in the
  /// configuration.
  static @Nullable String chatTemplate(TokenizerFile file) {
    Path template = file.path().resolveSibling(TEMPLATE);
    if (file.config() == null && Files.exists(template)) {
      byte[] text = RegularFile.read(template, JsonFile.SMALL, "mend or remove it");
      return new String(text, StandardCharsets.UTF_8);
    }
    JsonNode given = file.beside(CONFIG).path("chat_template");
    return given.isString() ? given.stringValue() : null;
  }

  /// The files for bytes.
  static TokenizerFolder bytes(byte[] tokenizer) {
    ObjectNode config = JSON.createObjectNode();
    config.put("tokenizer_class", CLASS);
    config.put("eos_token", ByteTokenizer.END.text());
    return of(tokenizer, config, ByteTokenizer.END);
  }

  private static TokenizerFolder of(byte[] tokenizer, ObjectNode config, EndToken end) {
    Map<String, byte[]> files = new LinkedHashMap<>();
    files.put(TOKENIZER, tokenizer);
    files.put(CONFIG, text(config));
    if (end.isKnown()) {
      files.put(GENERATION, text(JSON.createObjectNode().put("eos_token_id", end.id())));
    }
    return new TokenizerFolder(files);
  }

  /// The content of `tokenizer.json`.
  byte[] tokenizer() {
    return Objects.requireNonNull(files.get(TOKENIZER));
  }

  private static byte[] text(JsonNode node) {
    return (node.toPrettyString() + "\n").getBytes(StandardCharsets.UTF_8);
  }

  /// Writes the files into a directory that is there.
  void write(Path directory) throws IOException {
    for (var file : files.entrySet()) {
      WholeFile.write(directory.resolve(file.getKey()), out -> out.write(file.getValue()));
    }
  }
}
