package dev.sluice.training;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.corpus.Corpus;
import dev.sluice.corpus.Documents;
import dev.sluice.tokenizer.Tokenizers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/// Which token separates the documents of a run.
class RunTokenizerTest {
  private static final Path FILE =
      Path.of("src/test/resources/dev/sluice/tokenizer/wordpiece.json");

  @TempDir private Path folder;

  @BeforeEach
  void copy() throws Exception {
    Files.copy(FILE, folder.resolve("tokenizer.json"));
  }

  private RunConfig config(String endToken) {
    return RunConfig.from(null, Map.of("tokenizer", folder.toString(), "eos_token", endToken));
  }

  @Test
  void nothingIsTrainedWithoutOne() {
    var tokenizer = RunCorpus.tokenizer(config(""), folder.resolve("corpus"), false);
    var e =
        assertThrows(
            InvalidInputException.class, () -> Trainable.require(config(""), tokenizer, 1));
    assertTrue(e.getMessage().contains("choose one with --eos-token TEXT"), e.getMessage());
    var chosen = RunCorpus.tokenizer(config("[SEP]"), folder.resolve("corpus"), false);
    assertEquals(3, chosen.endOfText());
    Trainable.require(config("[SEP]"), chosen, 1);
  }

  /// The corpus of a run that began before the end token could be chosen is separated by the id 0.
  @Test
  void aRunThatWasBegunGoesOnAsItWas() throws Exception {
    Path corpus = folder.resolve("corpus");
    var before = Tokenizers.load(folder.toString(), "[PAD]");
    var documents = Documents.of("x", List.of("a whale", "a ship"));
    var made = Corpus.prepare(documents, before, 0, corpus);
    assertEquals(0, made.train().at(made.train().length() - 1));
    Files.writeString(folder.resolve("tokenizer_config.json"), "{\"eos_token\": \"[SEP]\"}");
    assertEquals(3, RunCorpus.tokenizer(config(""), corpus, false).endOfText());
    var again = RunCorpus.tokenizer(config(""), corpus, true);
    assertEquals(0, again.endOfText());
    assertEquals(made.summary().tokenizerFingerprint(), again.fingerprint());
    assertEquals(2, RunCorpus.tokenizer(config("[CLS]"), corpus, true).endOfText());
  }
}
