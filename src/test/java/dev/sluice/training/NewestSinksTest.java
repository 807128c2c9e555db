package dev.sluice.training;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.tokenizer.Tokenizers;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class NewestSinksTest {
  @TempDir private Path directory;

  /// What is kept is the newest, agrees with the record, and is forgotten when the run goes back
  /// behind it.
  @Test
  void theNewestEvaluationIsKept() throws Exception {
    var corpus = Runs.corpus(directory.resolve("corpus"));
    var bytes = Tokenizers.load("bytes");
    var config = Runs.config();
    Path run = directory.resolve("run");
    Runs.run(config, run, Runs.Fault.NONE, new Runs.Heard(), () -> false).start(corpus, bytes);
    var newest = NewestSinks.read(run).orElseThrow();
    assertEquals(8, newest.step());
    assertEquals(
        Runs.curve(run, "first_token_attention").get(8),
        newest.sinks().scalars().get("first_token_attention"));
    assertEquals(2, newest.sinks().attentionMap().layers().size());
    assertFalse(newest.sinks().gateStatistics().gates().isEmpty());

    Runs.run(config, run, Runs.Fault.NONE, new Runs.Heard(), () -> true)
        .resume(corpus, bytes, "step-00000004");
    assertTrue(NewestSinks.read(run).isEmpty());
    Runs.run(config, run, Runs.Fault.NONE, new Runs.Heard(), () -> false).resume(corpus, bytes);
    assertEquals(newest, NewestSinks.read(run).orElseThrow());
    // A run that has nothing left to do keeps what it has.
    Runs.run(config, run, Runs.Fault.NONE, new Runs.Heard(), () -> false).resume(corpus, bytes);
    assertEquals(newest, NewestSinks.read(run).orElseThrow());

    Files.writeString(NewestSinks.file(run), "{\"step\":");
    Runs.run(config, run, Runs.Fault.NONE, new Runs.Heard(), () -> false).resume(corpus, bytes);
    assertTrue(NewestSinks.read(run).isEmpty());
  }
}
