package dev.sluice.tokenizer;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.fuzz.Mutations;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ObjectNode;

/// Whatever a `tokenizer.json` holds, it works or it is refused in a sentence. `-Dfuzz=20000` tries
/// more than the usual 300 of each run; a failure names the number of the input.
@EnabledOnOs(OS.LINUX)
class TokenizerFuzzTest {
  private static final int INPUTS = Integer.getInteger("fuzz", 300);
  private static final Path FOLDER = Path.of("src/test/resources/dev/sluice/tokenizer");
  private static final JsonMapper JSON = JsonMapper.shared();
  private static final Path NAME = Path.of("fuzzed", "tokenizer.json");

  /// A second for each request, so that the slow ones do not hold up the test.
  private static final LibraryProcess.Limits LIMITS = new LibraryProcess.Limits(1024, 1);

  private static final String[] STRINGS = {
    "(a+)+$",
    "(a|aa)+$",
    "(?:a?){25}a{25}",
    "(".repeat(300),
    "[",
    "\\p{L}+(?!\\S)",
    "a{1000}{1000}",
    "(?<=a+)b",
    "\\",
    "AAAA",
    "AAAAAA==",
    "BAAAAAAAAAA=",
    "////////",
    "BPE",
    "Unigram",
    "WordLevel",
    "WordPiece",
    "Sequence",
    "Replace",
    "Regex",
    "String",
    "Precompiled",
    "Split",
    "Metaspace",
    "ByteLevel",
    "Isolated",
    "MergedWithNext",
    "always",
    "never",
    "<unk>",
    "</s>",
    "##a",
    "a"
  };

  private static final Map<String, String> BESIDE =
      Map.of(
          "tokenizer_config.json",
          """
          {"eos_token": {"content": "</s>", "lstrip": false}, "bos_token": "<s>", "pad_token": null,
           "additional_special_tokens": ["<s>", {"content": "<x>"}], "model_max_length": 1e30,
           "chat_template": "{{ x }}", "added_tokens_decoder": {"0": {"content": "<unk>"}}}\
          """,
          "special_tokens_map.json",
          """
          {"eos_token": "</s>"}\
          """,
          "generation_config.json",
          """
          {"eos_token_id": [2, 1]}\
          """,
          "config.json",
          """
          {"eos_token_id": 2, "model_type": "qwen3"}\
          """);

  /// Parts that the small tokenizers do not have.
  private static final Map<String, List<String>> PARTS =
      Map.of(
          "normalizer",
          List.of(
              """
              {"type": "Precompiled", "precompiled_charsmap": "BAAAAAAAAAA="}\
              """,
              """
              {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "bb"}\
              """,
              """
              {"type": "Strip", "strip_left": true, "strip_right": true}\
              """,
              """
              {"type": "ByteLevel"}\
              """),
          "pre_tokenizer",
          List.of(
              """
              {"type": "Split", "pattern": {"Regex": "(a|aa)+$"}, "behavior": "MergedWithPrevious",
               "invert": true}\
              """,
              """
              {"type": "CharDelimiterSplit", "delimiter": "-"}\
              """,
              """
              {"type": "UnicodeScripts"}\
              """,
              """
              {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
               "use_regex": true}\
              """),
          "post_processor",
          List.of(
              """
              {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0],
               "trim_offsets": true, "add_prefix_space": false}\
              """,
              """
              {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}\
              """),
          "decoder",
          List.of(
              """
              {"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": true}\
              """,
              """
              {"type": "Strip", "content": " ", "start": 5, "stop": 5}\
              """,
              """
              {"type": "BPEDecoder", "suffix": "</w>"}\
              """,
              """
              {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "b"}\
              """));

  /// One process reads many files, as its start would take most of the time. Whoever collects a
  /// tokenizer ends its process, so all that share one are kept as long as it runs.
  private LibraryProcess process = LibraryProcess.start(LIMITS);

  private final List<HuggingFaceTokenizer> sharing = new ArrayList<>();
  private int ended;

  @Test
  void everyFileWorksOrIsRefusedInASentence() throws Exception {
    List<String> originals = new ArrayList<>();
    try (var files = Files.list(FOLDER)) {
      for (Path file : files.sorted().toList()) {
        originals.add(Files.readString(file));
      }
    }
    Map<String, Integer> counts = new TreeMap<>();
    for (int input = 0; input < INPUTS; input++) {
      String outcome;
      try {
        outcome = outcome(originals, new Mutations(input, STRINGS));
      } catch (Throwable e) {
        throw new AssertionError("input " + input + ": " + e, e);
      }
      counts.merge(outcome, 1, Integer::sum);
    }
    process.close();
    System.out.printf(
        "%d tokenizers: %s; the library's process ended %d times.%n", INPUTS, counts, ended);
    assertTrue(counts.size() > 1, counts.toString());
  }

  @Test
  void everyFileBesideWorksOrIsRefusedInASentence(@TempDir Path folder) throws Exception {
    Path path = folder.resolve("tokenizer.json");
    var file = TokenizerFile.of(path, Files.readAllBytes(FOLDER.resolve("fallback.json")));
    Map<String, Integer> counts = new TreeMap<>();
    for (int input = 0; input < INPUTS; input++) {
      var mutations = new Mutations(input, "<s>", "</s>", "<unk>", "eos_token", "content");
      for (var beside : BESIDE.entrySet()) {
        String text = mutations.json(beside.getValue());
        byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
        Files.write(
            folder.resolve(beside.getKey()),
            mutations.below(5) == 0 ? mutations.bytes(bytes) : bytes);
      }
      try {
        var end = EndToken.of(file, null);
        var _ = TokenizerFolder.of(file, end);
        assertTrue(end.isKnown() == end.missing().isEmpty() && end.id() < file.vocabularySize());
        counts.merge(end.isKnown() ? "found" : "none", 1, Integer::sum);
      } catch (InvalidInputException e) {
        requireSentence(e, folder.toString());
        counts.merge("refused", 1, Integer::sum);
      } catch (Throwable e) {
        throw new AssertionError("input " + input + ": " + e, e);
      }
    }
    assertTrue(counts.size() > 1, counts.toString());
  }

  private String outcome(List<String> originals, Mutations mutations) {
    byte[] bytes = mutated(mutations.oneOf(originals), mutations);
    TokenizerFile file;
    try {
      file = TokenizerFile.of(NAME, bytes);
    } catch (InvalidInputException e) {
      requireSentence(e);
      return "refused unseen";
    }
    HuggingFaceTokenizer tokenizer;
    try {
      tokenizer = HuggingFaceTokenizer.load(file, EndToken.of(file, null), LIMITS, running());
      sharing.add(tokenizer);
    } catch (InvalidInputException e) {
      requireSentence(e);
      return "refused by the library";
    }
    try {
      for (int i = 0; i < 3; i++) {
        String text = mutations.text();
        int[] ids = tokenizer.encode(text);
        assertTrue(
            Arrays.stream(ids).allMatch(id -> id >= 0 && id < tokenizer.vocabularySize()),
            "an id beyond the vocabulary");
        var _ = tokenizer.decode(ids);
        var _ = tokenizer.decode(new int[] {mutations.below(1000), -1, Integer.MAX_VALUE});
        if (tokenizer.knowsEndOfText()) {
          assertTrue(tokenizer.endOfText() < tokenizer.vocabularySize());
        }
      }
      return "worked";
    } catch (InvalidInputException e) {
      requireSentence(e);
      return "failed on a text";
    }
  }

  private byte[] mutated(String original, Mutations mutations) {
    String text = original;
    if (mutations.below(3) == 0) {
      String part = mutations.oneOf(List.copyOf(new TreeMap<>(PARTS).keySet()));
      var root = JSON.readTree(original);
      ((ObjectNode) root).set(part, JSON.readTree(mutations.oneOf(PARTS.get(part))));
      text = root.toString();
    }
    return switch (mutations.below(6)) {
      case 0 -> mutations.bytes(text.getBytes(StandardCharsets.UTF_8));
      case 1 -> text.getBytes(StandardCharsets.UTF_8);
      default -> mutations.json(text).getBytes(StandardCharsets.UTF_8);
    };
  }

  private LibraryProcess running() {
    boolean alive = process.isAlive();
    if (!alive || sharing.size() >= 100) {
      ended += alive ? 0 : 1;
      process.close();
      sharing.clear();
      process = LibraryProcess.start(LIMITS);
    }
    return process;
  }

  private static void requireSentence(InvalidInputException e) {
    requireSentence(e, NAME.toString());
  }

  private static void requireSentence(InvalidInputException e, String name) {
    String message = e.getMessage();
    assertEquals(1, message.lines().count(), message);
    assertTrue(message.contains(name), message);
    assertTrue(message.contains("; "), () -> "no way out: " + message);
    assertFalse(message.chars().anyMatch(Character::isISOControl), message);
  }
}
