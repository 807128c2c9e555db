package dev.sluice.study;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.training.RunConfig;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class StudyFileTest {
  private static final String PLAIN = "[[variant]]\nname = \"plain\"\ngate = \"none\"\n";
  private static final String GATED = "[[variant]]\nname = \"gated\"\ngate = \"sdpa-headwise\"\n";
  private static final String TWO = PLAIN + GATED;

  @TempDir private Path directory;

  private Study read(String text) throws IOException {
    Path file = Files.writeString(directory.resolve("mine.toml"), text);
    return StudyFile.read(file, RunConfig.DEFAULTS, Map.of());
  }

  /// One sentence that names the file, and what is wrong.
  private void assertRefused(String text, String... words) throws IOException {
    var e = assertThrows(InvalidInputException.class, () -> read(text), text);
    String message = e.getMessage();
    assertTrue(message.contains("mine.toml"), message);
    assertEquals(1, message.lines().count(), message);
    assertTrue(message.length() <= 1250, message);
    assertTrue(message.codePoints().noneMatch(Character::isISOControl), message);
    assertFalse(message.contains("Exception") || message.contains("jackson"), message);
    for (String word : words) {
      assertTrue(message.contains(word), message);
    }
  }

  @Test
  void everyKindOfValue() throws IOException {
    var study =
        read(
            """
            seeds = 3
            seed = -5
            match = "none"
            [grid]
            learning_rate = [1e-3, 3, "0.5"]
            sandwich_norm = [true, false]
            [[variant]]
            name = "plain"
            gate = "none"
            [[variant]]
            name = "甲, gated & more"
            gate = "sdpa-headwise"
            layers = 3
            weight_decay = 0.25
            exclusive_attention = true
            key_value_heads = "2"
            published_perplexity = 7
            """);
    assertEquals(List.of(-5L, -4L, -3L), study.seeds());
    assertEquals(List.of("0.001", "3", "0.5"), study.grid().get("learning_rate"));
    assertEquals(List.of("true", "false"), study.grid().get("sandwich_norm"));
    var gated = study.variants().getLast();
    assertEquals(
        new TreeMap<>(
            Map.of(
                "gate", "sdpa-headwise",
                "layers", "3",
                "weight_decay", "0.25",
                "exclusive_attention", "true",
                "key_value_heads", "2")),
        gated.settings());
    assertEquals(7, gated.published());
    StudyFile.write(study, directory);
    Path written = directory.resolve(StudyFile.NAME);
    var again = StudyFile.read(written, RunConfig.DEFAULTS, Map.of());
    assertEquals(study, again);
    assertEquals(List.of(), study.differences(again));
    String text = Files.readString(written);
    StudyFile.write(again, directory);
    assertEquals(text, Files.readString(written));
  }

  @Test
  void countsOfSeeds() throws IOException {
    for (String seeds :
        List.of(
            "0",
            "-1",
            "1.5",
            "\"2\"",
            "true",
            "[2]",
            "{}",
            "inf",
            "nan",
            "1979-05-27",
            "2147483648",
            "9".repeat(50))) {
      assertRefused("seeds = " + seeds + "\n" + TWO, "seeds must be how many there are");
    }
    assertRefused("seeds = 10001\n" + TWO, "1 to 10000 seeds, not 10001");
    assertRefused("seed = 9223372036854775807\n" + TWO, "no 2 seeds from 9223372036854775807");
    assertEquals(2, read(TWO).seeds().size());
  }

  @Test
  void wordsOfMatching() throws IOException {
    for (String match :
        List.of("[]", "3", "{}", "true", "inf", "[\"none\"]", "1979-05-27T07:32:00Z")) {
      assertRefused("match = " + match + "\n" + TWO, "match");
    }
    assertRefused("match = \"price\"\n" + TWO, "'price'");
  }

  @Test
  void shapesOfGrids() throws IOException {
    for (String grid :
        List.of("grid = 3", "grid = []", "grid = \"a\"", "grid = true", "grid = [{a = 1}]")) {
      assertRefused(grid + "\n" + TWO, "grid must be a table");
    }
    for (String values : List.of("[]", "3", "\"a\"", "{}", "true")) {
      assertRefused(
          TWO + "[grid]\nlearning_rate = " + values + "\n", "learning_rate", "a list of values");
    }
    for (String value : List.of("[1e-3]", "{}", "{a = 1}", "[]")) {
      assertRefused(TWO + "[grid]\nlearning_rate = [1e-3, " + value + "]\n", "one value");
    }
    assertRefused(TWO + "[grid]\nlearning_rate = [1e-3, 0.001]\n", "different values");
    assertRefused(TWO + "[grid]\nlearning_rate = [\"1e-3\", 0.001]\n", "written differently");
    assertRefused(TWO + "[grid]\nlearning_rate = [1e-3, true]\n", "'true'");
    assertRefused(TWO + "[grid]\nlayers = [1, 2.5]\n", "2.5");
    assertRefused(
        TWO + "[grid]\nlearning_speed = [1, 2]\n", "'learning_speed', which is no setting");
    assertRefused(TWO + "[grid]\nseed = [1, 2]\n", "seed");
    assertRefused(TWO + "[grid]\ngate = [\"none\"]\n", "'plain' sets gate, which the grid varies");
    assertRefused(
        TWO + "[grid]\nlayers = " + range(101) + "\nsteps = " + range(101) + "\n", "40804 trials");
    assertRefused(
        TWO
            + "[grid]\nlayers = %1$s\nsteps = %1$s\nbatch_size = %1$s\nbeta1 = %1$s\nbeta2 = %1$s\n"
                .formatted(range(3000)),
        "trials, more than");
  }

  private static String range(int count) {
    return IntStream.rangeClosed(1, count).boxed().toList().toString();
  }

  @Test
  void kindsOfVariants() throws IOException {
    for (String variant : List.of("variant = 3", "variant = \"a\"", "variant = {name = \"a\"}")) {
      assertRefused(variant, "variant must be a list of tables");
    }
    assertRefused("variant = [1, 2]", "a variant must be a table");
    assertRefused("variant = []", "at least two variants, not 0");
    assertRefused("", "names no variants");
    assertRefused("steps = 3", "names no variants");
    assertRefused(PLAIN, "at least two variants, not 1");
    assertRefused(PLAIN + PLAIN, "two variants are called 'plain'");
    assertRefused(PLAIN + "[[variant]]\ngate = \"none\"\n", "has no name");
    for (String name : List.of("3", "[]", "{}", "true", "nan", "1979-05-27")) {
      boolean isText = name.startsWith("1979"); // a date is read as text
      if (!isText) {
        assertRefused(PLAIN + "[[variant]]\nname = " + name + "\n", "name must be text in quotes");
      }
    }
    for (String name : List.of("", "  ")) {
      assertRefused(PLAIN + "[[variant]]\nname = \"" + name + "\"\n", "name is empty");
    }
    for (String name : List.of("a\\u001bb", "a\\nb", "a\\tb", "\\u202eb", "a\\u0007")) {
      assertRefused(PLAIN + "[[variant]]\nname = \"" + name + "\"\n", "cannot be seen");
    }
    assertRefused(PLAIN + "[[variant]]\nname = \"" + "n".repeat(100_000) + "\"\n", "100000");
    assertEquals(
        160,
        read(PLAIN + "[[variant]]\nname = \"" + "n".repeat(160) + "\"\n")
            .variants()
            .getLast()
            .name()
            .length());
  }

  @Test
  void settingsOfVariants() throws IOException {
    for (String value : List.of("{}", "[]", "[\"none\"]", "{a = 1}")) {
      assertRefused(
          PLAIN + "[[variant]]\nname = \"b\"\ngate = " + value + "\n",
          "gate of 'b' must be one value");
    }
    assertRefused(
        PLAIN + "[[variant]]\nname = \"b\"\nstepz = 3\n",
        "the variant 'b' sets 'stepz'",
        "known are");
    assertRefused(PLAIN + "[[variant]]\nname = \"b\"\ngate = \"sideways\"\n", "b: ", "sideways");
    assertRefused(PLAIN + "[[variant]]\nname = \"b\"\nlayers = true\n", "b: ", "layers");
    assertRefused(PLAIN + "[[variant]]\nname = \"b\"\nlayers = " + "9".repeat(50) + "\n", "layers");
    assertRefused(PLAIN + "[[variant]]\nname = \"b\"\nseed = 3\n", "sets seed");
    for (String setting :
        List.of("data", "text_field", "tokenizer", "held_out_share", "held_out_windows")) {
      assertRefused(
          PLAIN + "[[variant]]\nname = \"b\"\n" + setting + " = \"7\"\n",
          "sets " + setting,
          "share");
    }
    assertRefused(
        PLAIN + "[[variant]]\nname = \"b\"\nmatch_parameters = true\n", "match_parameters");
    for (String number :
        List.of("\"7\"", "true", "[]", "{}", "0", "-3", "1", "nan", "inf", "1e400")) {
      assertRefused(
          PLAIN + "[[variant]]\nname = \"b\"\npublished_perplexity = " + number + "\n",
          "perplexity");
    }
  }

  /// Names that become one directory's name, and directories that no file system would take.
  @Test
  void directoriesOfTrials() throws IOException {
    assertRefused(
        "[[variant]]\nname = \"a b\"\n[[variant]]\nname = \"a_b\"\n", "'a b' and 'a_b'", "a_b");
    assertRefused("[[variant]]\nname = \"甲\"\n[[variant]]\nname = \"乙\"\n", "'甲' and '乙'");
    assertRefused(
        TWO + "[grid]\nsample_prompt = [\"" + "p".repeat(300) + "\"]\n", "too long for the name");
  }

  /// What depends on the vocabulary cannot be matched before there is one.
  @Test
  void variantsThatCannotBeMatched() throws IOException {
    String untied = PLAIN + "[[variant]]\nname = \"b\"\ntie_word_embeddings = false\n";
    read(untied); // bytes have 256
    assertRefused("tokenizer = \"my.json\"\n" + untied, "tie_word_embeddings", "match = \"none\"");
    read("match = \"none\"\ntokenizer = \"my.json\"\n" + untied);
    assertRefused(PLAIN + "[[variant]]\nname = \"b\"\nvocab_size = 300\n", "vocab_size");
  }

  @Test
  void filesThatAreNoToml() throws IOException {
    assertRefused("a = " + "[".repeat(3000) + "]".repeat(3000) + "\n" + TWO);
    assertRefused("seeds = = 3\n" + TWO, "line 1");
    assertRefused("gate = {}\n" + TWO, "gate must be text");
    var e =
        assertThrows(
            InvalidInputException.class,
            () -> StudyFile.read(directory, RunConfig.DEFAULTS, Map.of()));
    assertTrue(e.getMessage().contains("is a directory"), e.getMessage());
  }

  /// Written beside and renamed: a link in the way is replaced, and what it led to stays.
  @Test
  void linksAreNotFollowed() throws IOException {
    Path precious = Files.writeString(directory.resolve("precious"), "mine");
    Path there = Files.createDirectory(directory.resolve("study"));
    Files.createSymbolicLink(there.resolve(StudyFile.NAME), precious);
    StudyFile.write(read(TWO), there);
    assertEquals("mine", Files.readString(precious));
    assertFalse(Files.isSymbolicLink(there.resolve(StudyFile.NAME)));
  }

  /// Layers are a setting of a variant like any other, if there are sinks to measure.
  @Test
  void variantsMayDifferInTheirLayers() throws Exception {
    String hybrid = "[[variant]]\nname = \"hybrid\"\nlayers_pattern = \"gdn,gdn,gdn,attention\"\n";
    String gated = hybrid.replace("hybrid", "gated hybrid") + "gate = \"sdpa-headwise\"\n";
    var study = read(PLAIN + hybrid + gated);
    var arms = study.arms();
    long baseline = study.config(arms.getFirst()).decoder(256).parameterCount();
    for (int arm = 1; arm < arms.size(); arm++) {
      var decoder = study.config(arms.get(arm)).decoder(256);
      if (arm >= arms.size() - 2) {
        assertEquals(1, decoder.layers().stream().filter(l -> l.attention().isPresent()).count());
      }
      // a step of the width changes 3 × 128 numbers in each of four blocks
      assertEquals(baseline, decoder.parameterCount(), 3 * 128 * 4, arms.get(arm).name());
    }
    assertRefused(
        PLAIN + "[[variant]]\nname = \"linear\"\nlayers_pattern = \"gdn\"\ngate = \"none\"\n",
        "leaves no layer with attention");
  }
}
