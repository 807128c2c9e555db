package dev.sluice.tokenizer;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/// A tokenizer as files for others, and back.
class TokenizerFolderTest {
  private static final Path FILES = Path.of("src/test/resources/dev/sluice/tokenizer");

  private static final String NASTY =
      "The ferry\u2019s 12345 lanterns; Cafe\u0301 na\u00EFve 鯨🐋 two  spaces</s>\0\r\n <0x41>";

  @TempDir private Path from;
  @TempDir private Path to;

  @BeforeEach
  void copy() throws Exception {
    Files.copy(FILES.resolve("fallback.json"), from.resolve("tokenizer.json"));
  }

  private JsonNode written(String name) throws Exception {
    return JsonMapper.shared().readTree(Files.readAllBytes(to.resolve(name)));
  }

  @Test
  void whatIsWrittenIsReadBackAsTheSame() throws Exception {
    var tokenizer = Tokenizers.load(from.toString(), "<s>");
    byte[] before = Files.readAllBytes(from.resolve("tokenizer.json"));
    Files.delete(from.resolve("tokenizer.json")); // while a run trains
    tokenizer.write(to);
    assertArrayEquals(before, Files.readAllBytes(to.resolve("tokenizer.json")));
    assertEquals(
        JsonMapper.shared()
            .readTree(
                """
                {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<s>"}\
                """),
        written("tokenizer_config.json"));
    assertEquals(
        JsonMapper.shared().readTree("{\"eos_token_id\": 1}"), written("generation_config.json"));
    var again = Tokenizers.load(to.toString());
    assertEquals(tokenizer.fingerprint(), again.fingerprint());
    assertEquals(tokenizer.endOfText(), again.endOfText());
    assertArrayEquals(tokenizer.encode(NASTY), again.encode(NASTY));
    again.write(to);
    assertEquals(again.fingerprint(), Tokenizers.load(to.toString()).fingerprint());
  }

  /// `transformers` would add tokens that it does not find, or build another class, or prepend.
  @Test
  void ofAConfigurationStaysWhatChangesNoId() throws Exception {
    Files.writeString(
        from.resolve("tokenizer_config.json"),
        """
        {"tokenizer_class": "LlamaTokenizer", "add_bos_token": true, "eos_token": "</s>",
         "bos_token": {"content": "<s>", "lstrip": false}, "pad_token": "<pad>",
         "unk_token": "<unk>", "model_max_length": 2048, "chat_template": "{{ x }}",
         "added_tokens_decoder": {"500": {"content": "<more>"}}, "split_special_tokens": true,
         "additional_special_tokens": ["</s>", "<more>", {"content": "<s>"}],
         "clean_up_tokenization_spaces": false, "padding_side": "left"}\
        """);
    Tokenizers.load(from.toString()).write(to);
    assertEquals(
        JsonMapper.shared()
            .readTree(
                """
                {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>",
                 "bos_token": "<s>", "unk_token": "<unk>", "extra_special_tokens": ["</s>", "<s>"],
                 "chat_template": "{{ x }}", "clean_up_tokenization_spaces": false,
                 "model_max_length": 2048, "padding_side": "left"}\
                """),
        written("tokenizer_config.json"));
  }

  @Test
  void aTemplateInAFileOfItsOwnCounts() throws Exception {
    Files.writeString(from.resolve("tokenizer_config.json"), "{\"chat_template\": \"old\"}");
    Files.writeString(from.resolve("chat_template.jinja"), "{{ new }}\n");
    Tokenizers.load(from.toString()).write(to);
    assertEquals("{{ new }}\n", written("tokenizer_config.json").path("chat_template").asString());
  }

  @Test
  void withoutAnEndTokenNoneIsWritten() throws Exception {
    Files.copy(
        FILES.resolve("wordpiece.json"),
        from.resolve("tokenizer.json"),
        java.nio.file.StandardCopyOption.REPLACE_EXISTING);
    Tokenizers.load(from.toString()).write(to);
    assertFalse(written("tokenizer_config.json").has("eos_token"));
    assertFalse(Files.exists(to.resolve("generation_config.json")));
  }

  /// Through the library the files give what this class gives by itself.
  @ParameterizedTest
  @ValueSource(strings = {NASTY, "", "\0\0a\0", "<|endoftext|><0x00>\\0", "\u007F\u0080\uFFFD"})
  void bytesAreATokenizerForOthersToo(String text) throws Exception {
    var bytes = new ByteTokenizer();
    bytes.write(to);
    assertInstanceOf(ByteTokenizer.class, Tokenizers.load(to.toString()));
    assertEquals("\0", written("tokenizer_config.json").path("eos_token").asString());
    assertEquals(0, written("generation_config.json").path("eos_token_id").asInt(-1));
    byte[] file = Files.readAllBytes(to.resolve("tokenizer.json"));
    try (var library =
        HuggingFaceTokenizer.load(
            _ -> TokenizerFile.of(to.resolve("tokenizer.json"), file),
            read -> EndToken.of(read, null))) {
      assertEquals(256, library.vocabularySize());
      assertEquals(0, library.endOfText());
      int[] ids = library.encode(text);
      assertArrayEquals(bytes.encode(text), ids);
      assertEquals(bytes.decode(ids), library.decode(ids));
      assertEquals(
          text.replace("\0", "").getBytes(StandardCharsets.UTF_8).length,
          library.bytesOf(ids, 0, ids.length));
    }
  }
}
