package dev.sluice;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

/// `docs/gpu-check.sh`, which whoever has a card runs, without one and in no time: what it starts
/// is a pretended Sluice, whose results are right or spoiled.
@EnabledOnOs(OS.LINUX)
class CardCheckTest {
  private static final Path SCRIPT = Path.of("docs/gpu-check.sh");

  /// Those that read what the pretended Sluice writes.
  private static final List<String> JUDGED =
      List.of(
          "there", "parity", "resume", "guard", "study", "inspect", "generate", "memory", "decode");

  @TempDir private Path folder;

  @TempDir private Path said;

  private record Ended(int code, String output, String errors) {}

  @Test
  void shellReadsIt() throws Exception {
    assertEquals(new Ended(0, "", ""), ended(Map.of(), "-n", SCRIPT));
  }

  @Test
  void stagesAreThoseOfThePage() throws Exception {
    var page = new ArrayList<String>();
    String stages =
        Files.readString(Path.of("docs/gpu.md"))
            .split("\n## Stages\n", -1)[1]
            .split("\n## ", -1)[0];
    for (var row : Pattern.compile("(?m)^\\| (`[^|]*) \\|").matcher(stages).results().toList()) {
      for (String name : row.group(1).split(", ", -1)) {
        page.add(name.replace("`", ""));
      }
    }
    assertEquals(
        new Ended(
            2,
            "",
            "gpu-check: there is no stage 'nonsense'; there are: %s\n"
                .formatted(String.join(" ", page))),
        ended(Map.of(), SCRIPT, "there", "nonsense"));
    String script = Files.readString(SCRIPT);
    for (String stage : page) {
      assertTrue(script.contains("\nstage_" + stage + "() {"), stage);
    }
  }

  @Test
  void helpNamesWhatItReads() throws Exception {
    var ended = ended(Map.of(), SCRIPT, "--help");
    assertEquals(2, ended.code);
    for (String name : List.of("SLUICE", "DEVICE", "OUT", "MAVEN")) {
      assertTrue(ended.errors.contains("\n" + name + " "), ended.errors);
    }
  }

  @Test
  void aFolderOfOtherThingsIsLeftAlone() throws Exception {
    Path other = Files.createDirectories(folder.resolve("guard-found"));
    var ended = ended(Map.of("OUT", folder.toString()), SCRIPT, "guard");
    assertEquals(2, ended.code);
    assertTrue(ended.errors.contains("holds other things"), ended.errors);
    assertTrue(Files.isDirectory(other));
  }

  @Test
  void rightResultsPass() throws Exception {
    var ended = judged("", JUDGED);
    assertEquals(0, ended.code, ended.output);
    assertEach(": passed in ", JUDGED, ended);
  }

  /// Also those of `train`, which ends at the first; to pass it starts Sluice twenty times.
  @Test
  void spoiledResultsFail() throws Exception {
    var stages = new ArrayList<>(JUDGED);
    stages.add("train");
    var ended = judged("yes", stages);
    assertEquals(1, ended.code, ended.output);
    assertEach(": failed after ", stages, ended);
    for (String why :
        List.of(
            "there.json is not of cuda ",
            "sluice parity ended with 1 ",
            "parts/metrics.jsonl has 19 finite losses of 20 steps ",
            "other steps were passed over than on the CPU: 19, and there 18 ",
            "there are 3 trials in ",
            "the loss of two windows differs from the CPU's by 1.0e-02, more than 0.002 ",
            "the likeliest 40 tokens are the CPU's up to token 31 only ",
            "with recompute none rows of 1024 tokens take 1 MB and as many tokens in rows of 2048 2"
                + " MB",
            "there is no speed in ",
            "plain in float32: losses of 20 steps differ from the CPU's by 1.0e-01, more than"
                + " 0.002")) {
      assertTrue(ended.output.contains(why), ended.output);
    }
  }

  private static void assertEach(String what, List<String> stages, Ended ended) {
    var lines = ended.output.lines().filter(line -> line.matches("[a-z]+: .*")).toList();
    assertEquals(stages.size(), lines.size(), ended.output);
    for (int i = 0; i < lines.size(); i++) {
      assertTrue(lines.get(i).startsWith(stages.get(i) + what), ended.output);
    }
  }

  private Ended judged(String spoiled, List<String> stages) throws Exception {
    Path sluice = folder.resolve("pretended sluice");
    try (InputStream text =
        Objects.requireNonNull(CardCheckTest.class.getResourceAsStream("pretended-sluice.sh"))) {
      Files.copy(text, sluice);
    }
    assertTrue(sluice.toFile().setExecutable(true));
    Path out = folder.resolve("runs and numbers");
    var words = new ArrayList<Object>(List.of(SCRIPT));
    words.addAll(stages);
    var ended =
        ended(
            Map.of("SLUICE", sluice.toString(), "OUT", out.toString(), "SPOILED", spoiled),
            words.toArray());
    assertEquals("", ended.errors);
    assertEquals(ended.output, Files.readString(out.resolve("results.txt")));
    return ended;
  }

  private Ended ended(Map<String, String> environment, Object... words)
      throws IOException, InterruptedException {
    var command = new ArrayList<String>(List.of("bash"));
    for (Object word : words) {
      command.add(word.toString());
    }
    Path errors = said.resolve("errors");
    var builder = new ProcessBuilder(command).redirectError(errors.toFile());
    builder.environment().keySet().removeAll(List.of("SLUICE", "DEVICE", "OUT", "MAVEN"));
    builder.environment().putAll(environment);
    var process = builder.start();
    process.getOutputStream().close();
    String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    int code = process.waitFor();
    return new Ended(code, output, Files.readString(errors));
  }
}
