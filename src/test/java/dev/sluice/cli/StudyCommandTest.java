package dev.sluice.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.files.DirectoryLock;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

/// `study` and `study report`, and what others did to their directories.
class StudyCommandTest {
  private static final String PLAIN = "trials/plain-seed1";
  private static final String GATED = "trials/gated-seed1";

  @TempDir static Path directory;
  static Path file;
  static Path study;
  static int copies;

  @BeforeAll
  static void run() throws IOException {
    Path data = Cli.text(directory.resolve("log.txt"));
    file =
        Files.writeString(
            directory.resolve("mine.toml"),
            """
            data = "%s"
            hidden_size = 16
            intermediate_size = 24
            layers = 1
            attention_heads = 2
            key_value_heads = 1
            head_dim = 8
            sequence_length = 32
            batch_size = 2
            steps = 2
            warmup_steps = 1
            evaluate_every = 2
            save_every = 2
            held_out_windows = 2
            device = "cpu"
            seeds = 1
            [[variant]]
            name = "plain"
            gate = "none"
            [[variant]]
            name = "gated"
            gate = "sdpa-headwise"
            """
                .formatted(data));
    study = directory.resolve("study");
    Cli.run("study", file, "--output", study).succeeded();
  }

  private static Path copy() throws IOException {
    return Cli.copy(study, directory.resolve("copy-" + copies++), "checkpoints");
  }

  private static String report(Path place) {
    return Cli.run("study", "report", place).refusal();
  }

  private static void assertContains(String text, String... parts) {
    for (String part : parts) {
      assertTrue(text.contains(part), text);
    }
  }

  // ---------------------------------------------------------------- the made task

  @Test
  void withoutDataItIsTheMadeTask() throws IOException {
    Path place = directory.resolve("made");
    var answer =
        Cli.run("study", "--steps", 2, "--seeds", 2, "--held-out-windows", 4, "--output", place);
    answer.succeeded();
    String config = Files.readString(place.resolve("trials/none-seed2/config.toml"));
    assertContains(config, "'bigram-backcopy'", "'documents'", "qk_norm = false");
    assertContains(answer.err(), "made text", "no model can have a loss below");
    String said = answer.out().replaceAll("\\s+", " ");
    assertContains(
        said, "Inside the models over 2 seeds", "made, not language", "+11.9 % parameters");
    String page = Files.readString(place.resolve("report.html"));
    assertTrue(
        page.indexOf("What the gate changes") < page.indexOf("The numbers"),
        "pictures come before tables");
    String other =
        Cli.run("study", "--data", "moby-dick", "--steps", 2, "--output", place).refusal();
    assertContains(other, "differs in", "data", "windows");
    measuredAsTrained(place.resolve("trials/none-seed1"));
  }

  /// `inspect` and `generate` begin windows and prompts as the training began its sequences.
  private static void measuredAsTrained(Path trial) throws IOException {
    Path page = directory.resolve("inspected");
    var inspected = Cli.run("inspect", trial, "--windows", 32, "--output", page);
    inspected.succeeded();
    assertContains(inspected.out() + inspected.err(), "begin at documents");
    String ofStudy = Files.readString(trial.resolve("sinks.json"));
    String attention = "\"mean_excluding\":";
    int at = ofStudy.indexOf(attention);
    String measured = ofStudy.substring(at, ofStudy.indexOf(',', at));
    assertContains(Files.readString(page.resolve("inspect.json")).replaceAll("\\s", ""), measured);
    Path book = directory.resolve("one-document.txt");
    Files.writeString(book, "word ".repeat(500));
    var other = Cli.run("inspect", trial, "--data", book, "--output", directory.resolve("other"));
    other.succeeded();
    assertContains(other.out() + other.err(), "fewer than two documents");
    var text = Cli.run("generate", trial, "--prompt", "the", "--max-tokens", 2);
    text.succeeded();
    assertContains(text.err(), "begin with a start token", "4 of prompt");
    assertContains(refusal("--sequence-length", 40_000), "sequences of 40000", "at most 30000");
  }

  // ---------------------------------------------------------------- flags

  private static String refusal(Object... arguments) {
    List<Object> all = new ArrayList<>(List.of("study", "--output", directory.resolve("never")));
    all.addAll(List.of(arguments));
    return Cli.run(all.toArray()).refusal();
  }

  @Test
  void flagsThatCannotBe() {
    assertContains(refusal("--seeds", Integer.MAX_VALUE), "--seeds", "10000", "2147483647");
    assertContains(refusal("--seeds", 0), "--seeds must be 1 to 10000, not 0");
    assertContains(refusal("--seeds", "9".repeat(50)), "--seeds");
    assertContains(refusal("--seed", Long.MAX_VALUE), "no 5 seeds");
    for (String grid :
        new String[] {"", "=", "=3", "layers", "layers=", "layers=1,", "layers=,1"}) {
      assertContains(refusal("--grid", grid), "--grid");
    }
    assertContains(refusal("--grid", "layers=1", "--grid", "layers=2"), "layers twice");
    assertContains(refusal("--grid", "layerz=1,2"), "'layerz', which is no setting");
    assertContains(refusal("--grid", "layers=1,1"), "different values");
    assertContains(refusal("--grid", "layers=1,01"), "written differently");
    assertContains(refusal("--grid", "learning_rate=1e-3,NaN"), "learning_rate");
    for (String shard :
        new String[] {"", "0/0", "2/1", "1/9999999", "-1/2", "1/2/3", "a/b", "1 / 2", "١/٢"}) {
      assertContains(refusal("--shard", shard), "shard");
    }
    assertContains(refusal("--match", "price"), "'price'");
    assertContains(refusal("--gates", "none"), "at least two");
    assertContains(refusal("--gates", "none,none"), "two variants are called 'none'");
    assertContains(refusal("--gates", "none,,x"), "name is empty");
    assertContains(refusal("--table", 7), "no table 7");
    assertContains(refusal(file, "--table", 1), "give one of them");
    assertFalse(Files.exists(directory.resolve("never")));
    assertContains(Cli.run("study", "--output", file).refusal(), "not a directory");
  }

  @Test
  void aShardWithoutTrialsSaysSo() {
    var answer =
        Cli.run("study", file, "--shard", "3/3", "--output", directory.resolve("shard"))
            .succeeded();
    assertContains(answer.err(), "Shard 3/3 has no trial: there are only 2");
  }

  // ---------------------------------------------------------------- directories

  @Test
  void whatIsNoTrialIsNotReported() throws IOException {
    for (String text :
        new String[] {
          "",
          "{}",
          "[1]",
          "null",
          "{\"variant\":",
          "[".repeat(5000),
          "{\"variant\":1,\"variant\":2}"
        }) {
      Path place = copy();
      Files.writeString(place.resolve(GATED).resolve("trial.json"), text);
      assertContains(report(place), GATED + "/trial.json", "to run the trial again");
    }
    String whole = Files.readString(study.resolve(GATED).resolve("trial.json"));
    String[][] changes = {
      {"\"variant\":\"gated\"", "\"variant\":\"plain\""},
      {"\"variant\":\"gated\"", "\"variant\":null"},
      {"\"variant\":\"gated\"", "\"variant\":3"},
      {"\"seed\":1", "\"seed\":2"},
      {"\"seed\":1", "\"seed\":1.5"},
      {"\"seed\":1", "\"seed\":\"1\""},
      {"\"seed\":1", "\"seed\":" + "9".repeat(50)},
      {"\"diverged\":false", "\"diverged\":\"no\""},
      {"\"diverged\":false", "\"diverged\":null"},
      {"\"diverged\":false,", ""},
      {"\"steps\":2", "\"steps\":-2"},
      {"\"steps\":2", "\"steps\":[]"},
      {"\"point\":{}", "\"point\":null"},
      {"\"point\":{}", "\"point\":{\"layers\":\"1\"}"},
      {"\"held_out_loss\":", "\"held_out_loss\":\"NaN\",\"x\":"},
      {"\"held_out_loss\":", "\"held_out_loss\":1e999,\"x\":"},
      {"\"bits_per_byte\":", "\"bits_per_byte\":\"Infinity\",\"x\":"},
      {"\"bits_per_byte\":", "\"bits_per_bite\":"},
      {"\"mean_gate\":", "\"mean_gate\":\"NaN\",\"x\":"},
      {"\"tokens_per_second\":", "\"tokens_per_second\":\"fast\",\"x\":"}
    };
    for (String[] change : changes) {
      assertTrue(whole.contains(change[0]), whole);
      Path place = copy();
      Files.writeString(
          place.resolve(GATED).resolve("trial.json"), whole.replace(change[0], change[1]));
      assertContains(report(place), GATED + "/trial.json");
    }
  }

  @Test
  void whatWasMeasuredOfAnotherTrialIsNotShown() throws IOException {
    for (String text : new String[] {"", "{}", "[1]", "{\"windows\":8}"}) {
      Path place = copy();
      Files.writeString(place.resolve(GATED).resolve("sinks.json"), text);
      assertContains(report(place), GATED + "/sinks.json");
    }
    Path place = copy();
    Files.delete(place.resolve(GATED).resolve("sinks.json"));
    assertContains(report(place), GATED + "/sinks.json does not exist");
    Files.copy(
        place.resolve(PLAIN).resolve("sinks.json"), place.resolve(GATED).resolve("sinks.json"));
    assertContains(report(place), GATED + "/sinks.json is not of gated, seed 1");
    String whole = Files.readString(study.resolve(GATED).resolve("sinks.json"));
    String[][] changes = {
      {"\"layers\":[{\"layer\":0,\"mean\":", "\"layers\":[],\"x\":[{\"layer\":0,\"mean\":"},
      {"\"cells\":[[", "\"cells\":[[0,"},
      {"\"histogram\":[", "\"histogram\":[0,"},
      {"\"residuals\":[", "\"residuals\":[null,"},
      {"\"heads_excluding\":[", "\"heads_excluding\":[0,"},
      {"\"uniform_floor\":", "\"floor\":"}
    };
    for (String[] change : changes) {
      assertTrue(whole.contains(change[0]), whole);
      Path changed = copy();
      Files.writeString(
          changed.resolve(GATED).resolve("sinks.json"), whole.replace(change[0], change[1]));
      assertContains(report(changed), GATED + "/sinks.json");
    }
  }

  @Test
  void aTrialThatWasCopiedIsNotGoneOnWith() throws IOException {
    Path place = Cli.copy(study, directory.resolve("copied"));
    Files.writeString(
        place.resolve("study.toml"),
        Files.readString(place.resolve("study.toml")).replace("seeds = 1", "seeds = 2"));
    Cli.copy(place.resolve(GATED), place.resolve("trials/gated-seed2"), "trial.json");
    String refused = Cli.run("study", file, "--seeds", 2, "--output", place).err();
    assertContains(refused, "gated-seed2/config.toml is not of gated, seed 2");
  }

  @Test
  void anotherStudyIsRefused() throws IOException {
    String refused = Cli.run("study", file, "--steps", 3, "--output", study).refusal();
    assertContains(refused, "differs in steps", "--output");
    assertContains(
        Cli.run("study", file, "--seeds", 3, "--match", "flops", "--output", study).refusal(),
        "differs in match, seeds");
    assertContains(report(directory.resolve("nothing")), "holds no study");
    Path place = copy();
    for (String text : new String[] {"", "steps = ", "seeds = {}", "variant = 3"}) {
      Files.writeString(place.resolve("study.toml"), text);
      assertContains(report(place), "study.toml");
    }
    Files.delete(place.resolve("study.toml"));
    assertContains(report(place), "holds no study");
  }

  /// A report that is a link is replaced by the report, and what it led to stays.
  @Test
  void linksAreReplaced() throws IOException {
    Path place = copy();
    Path precious = Files.writeString(directory.resolve("precious"), "mine");
    Files.deleteIfExists(place.resolve("report.html"));
    Files.createSymbolicLink(place.resolve("report.html"), precious);
    Cli.run("study", "report", place).succeeded();
    assertEquals("mine", Files.readString(precious));
    assertFalse(Files.isSymbolicLink(place.resolve("report.html")));
  }

  // ---------------------------------------------------------------- two at once

  @Test
  void aStudyInUseIsLeftAlone() throws IOException {
    Path place = directory.resolve("in-use");
    Path partial = Files.createDirectory(place).resolve(".study.toml.0123456789abcdef.partial");
    Files.createFile(partial);
    Files.createFile(place.resolve(".study-123.partial"));
    try (var _ = Cli.ofAnother(() -> DirectoryLock.own(place, "another study"))) {
      assertContains(Cli.run("study", file, "--output", place).refusal(), "in use by");
      assertContains(
          Cli.run("study", file, "--shard", "1/2", "--output", place).refusal(), "in use by");
      assertTrue(Files.exists(partial));
    }
    try (var _ = Cli.ofAnother(() -> DirectoryLock.read(place, "a shard"));
        var _ = Cli.ofAnother(() -> DirectoryLock.ownPart(place, "shard-1-of-2", "a shard"))) {
      assertContains(Cli.run("study", file, "--output", place).refusal(), "in use by");
      assertContains(
          Cli.run("study", file, "--shard", "1/2", "--output", place).refusal(), "in use by");
      Cli.run("study", file, "--shard", "2/2", "--output", place).succeeded();
      Cli.run("study", "report", place).succeeded();
    }
    Cli.run("study", file, "--output", place).succeeded();
    try (Stream<Path> left = Files.list(place)) {
      assertEquals(
          List.of(),
          left.filter(one -> one.toString().endsWith(".partial")).toList(),
          "what dead writers left");
    }
  }

  /// Shards of different counts may meet in a trial; what is a link is not written through.
  @Test
  void aTrialInUseIsLeftAlone() throws IOException {
    Path place = Files.createDirectory(directory.resolve("met"));
    Path trial = Files.createDirectories(place.resolve(GATED));
    try (var _ = Cli.ofAnother(() -> DirectoryLock.own(trial, "another shard"))) {
      String answer = Cli.run("study", file, "--shard", "2/2", "--output", place).err();
      assertContains(answer, GATED + " is in use by");
    }
    Path elsewhere = Files.createDirectory(directory.resolve("elsewhere"));
    for (String link : new String[] {GATED, "trials", "corpus"}) {
      Path linked = directory.resolve("linked-" + link.replace('/', '-'));
      Files.createDirectories(linked.resolve(link).getParent());
      Files.createSymbolicLink(linked.resolve(link), elsewhere);
      var answer = Cli.run("study", file, "--shard", "2/2", "--output", linked);
      assertEquals(Main.BAD_INPUT, answer.code(), answer::toString);
      assertContains(answer.err(), link + " is a link");
      assertEquals(0, elsewhere.toFile().list().length);
    }
  }

  /// A real process: its lock is told of by name, and ends with it, however it ends.
  @Test
  @EnabledOnOs(OS.LINUX)
  void aKilledStudyHoldsNothing() throws Exception {
    Path place = directory.resolve("killed");
    Path errors = directory.resolve("errors.txt");
    var first =
        SluiceProcess.start(errors, "", "study", file, "--steps", 100_000, "--output", place);
    try {
      ProcessTest.signalAfterAStep("CONT", first, place.resolve(PLAIN), errors);
      String refused = Cli.run("study", file, "--steps", 100_000, "--output", place).refusal();
      assertContains(refused, "in use by sluice study", "process " + first.pid());
      assertContains(Cli.run("study", "report", place).refusal(), "no trial", "is done yet");
    } finally {
      first.destroyForcibly();
    }
    assertTrue(first.waitFor(60, TimeUnit.SECONDS));
    String other = Cli.run("study", file, "--output", place).refusal();
    assertContains(other, "differs in steps");
  }
}
