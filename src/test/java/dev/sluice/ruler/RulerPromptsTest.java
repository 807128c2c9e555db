package dev.sluice.ruler;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.TestData;
import dev.sluice.corpus.Documents;
import dev.sluice.files.JsonFile;
import dev.sluice.tokenizer.Tokenizers;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import java.util.zip.GZIPInputStream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import tools.jackson.databind.node.ArrayNode;

class RulerPromptsTest {
  private static final String TEXT =
      IntStream.range(0, 900)
          .mapToObj(
              i ->
                  "The %s fisher saw boat %d near harbour walls. \"Bring lanterns,\" said Anne."
                      .formatted(i % 2 == 0 ? "young" : "patient", i))
          .collect(Collectors.joining("\n"));

  private static final String SQUAD =
      """
      {"version": "1", "data": [{"title": "t", "paragraphs": [%s]}]}
      """
          .formatted(
              IntStream.range(0, 40)
                  .mapToObj(
                      i ->
                          """
                          {"context": "Lamp %d was lit in year %d by Ida.", "qas": [{"id": "%d",
                           "question": "When was lamp %d lit?", "is_impossible": false,
                           "answers": [{"text": "%d", "answer_start": 0}, {"text": "year %d",
                           "answer_start": 0}]}, {"id": "n%d", "question": "Why?",
                           "is_impossible": true, "answers": []}]}\
                          """
                              .formatted(i, 1800 + i, i, i, 1800 + i, 1800 + i, i))
                  .collect(Collectors.joining(",")));

  private static final String HOTPOT =
      """
      [{"question": "Who lit it?", "answer": "Ida", "context": [["Lamp", ["Ida lit it.", " Yes."]],
      ["Sea", ["It is wide."]]]}, {"question": "What is wide?", "answer": "sea", "context":
      [["Sea", ["It is wide."]], ["Sky", ["It is blue."]]]}]
      """;

  @TempDir private Path folder;

  private RulerPrompts prompts(RulerMode mode, long seed) throws IOException {
    Path squad = Files.writeString(folder.resolve("squad.json"), SQUAD);
    Path hotpot = Files.writeString(folder.resolve("hotpot.json"), HOTPOT);
    return new RulerPrompts(
        mode,
        text -> text.length() / 4,
        Documents.of("lamps", List.of(TEXT)),
        List.of(squad, hotpot),
        seed);
  }

  @ParameterizedTest
  @EnumSource
  void everyTaskFitsInItsForm(RulerMode mode) throws IOException {
    var prompts = prompts(mode, 1);
    for (var task : RulerTask.values()) {
      var made = prompts.make(task, 4096, 2);
      assertEquals(2, made.samples().size(), task + " " + made.refusal());
      for (var sample : made.samples()) {
        boolean overshoots = mode == RulerMode.LM_EVAL && task == RulerTask.FWE;
        assertTrue(sample.length() <= 4096 + (overshoots ? 50 : 0), task.word());
        // Else the counting of the port's solved example would hide a prompt that is far too short.
        assertTrue(
            sample.length() > 4096 / 4 || task.word().startsWith("qa"),
            task.word()); // there are few documents
        assertEquals(outputs(task), sample.outputs().size(), task.word());
        assertTrue(sample.prompt().endsWith(sample.answerPrefix()));
        assertTrue(sample.prompt().startsWith(sample.input()));
        sample
            .outputs()
            .forEach(
                output -> assertTrue(StringMatch.contains(sample.input(), output), task.word()));
      }
      assertNotEquals(made.samples().get(0).prompt(), made.samples().get(1).prompt());
    }
  }

  private static int outputs(RulerTask task) {
    return switch (task) {
      case NIAH_MULTIVALUE, NIAH_MULTIQUERY -> 4;
      case VT -> 5;
      case CWE -> 10;
      case FWE -> 3;
      case QA_1 -> 2;
      default -> 1;
    };
  }

  @Test
  void aSampleDependsOnSeedTaskLengthAndNumberAlone() throws IOException {
    var few = prompts(RulerMode.NVIDIA, 5).make(RulerTask.VT, 2048, 1).samples();
    var many = prompts(RulerMode.NVIDIA, 5).make(RulerTask.VT, 2048, 3).samples();
    assertEquals(few.getFirst(), many.getFirst());
    var other = prompts(RulerMode.NVIDIA, 6).make(RulerTask.VT, 2048, 1).samples();
    assertNotEquals(few.getFirst().prompt(), other.getFirst().prompt());
  }

  @Test
  void oneNeedleIsAskedForInTheSingular() throws IOException {
    var one =
        prompts(RulerMode.NVIDIA, 1).make(RulerTask.NIAH_SINGLE_3, 4096, 1).samples().getFirst();
    assertTrue(one.input().startsWith("A special magic uuid is hidden within"), one.input());
    assertTrue(one.answerPrefix().startsWith(" The special magic uuid for "));
    assertTrue(one.answerPrefix().endsWith(" mentioned in the provided text is"));
    assertTrue(one.outputs().getFirst().matches("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab].*"));
    assertTrue(one.input().contains("One of the special magic uuids for "));
    var many =
        prompts(RulerMode.LM_EVAL, 1).make(RulerTask.NIAH_MULTIQUERY, 4096, 1).samples().getFirst();
    assertTrue(many.input().startsWith("Some special magic numbers are hidden within"));
    assertTrue(many.answerPrefix().matches("The special .*, and \\S+ mentioned .* text are"));
  }

  @Test
  void theSolvedChainIsRenamedAndStandsBefore() throws IOException {
    var samples = prompts(RulerMode.NVIDIA, 1).make(RulerTask.VT, 2048, 2).samples();
    for (var sample : samples) {
      String[] parts = sample.input().split("\n\nMemorize and track", -1);
      assertEquals(2, parts.length);
      assertFalse(sample.input().contains("12345"));
      assertTrue(
          parts[0].matches("(?s).* they are: ( ?[A-Z]{3}){5}"),
          parts[0].substring(parts[0].length() - 60));
      assertEquals(4, sample.input().split("= VAR [A-Z]{5} \n", -1).length - 1);
      assertTrue(sample.answerPrefix().endsWith("they are: "));
    }
    var port = prompts(RulerMode.LM_EVAL, 1).make(RulerTask.VT, 2048, 1).samples().getFirst();
    assertTrue(port.input().contains("\n\n\n\nMemorize"));
    assertTrue(port.answerPrefix().contains("assgined"));
    assertTrue(port.answerPrefix().endsWith("they are:"));
  }

  @Test
  void thePortShowsNoSolvedList() throws IOException {
    var own = prompts(RulerMode.NVIDIA, 1).make(RulerTask.CWE, 4096, 1).samples().getFirst();
    var port = prompts(RulerMode.LM_EVAL, 1).make(RulerTask.CWE, 4096, 1).samples().getFirst();
    assertEquals(2, own.input().split("Below is a numbered list", -1).length - 1);
    assertEquals(1, port.input().split("Below is a numbered list", -1).length - 1);
    assertTrue(port.prompt().contains("list?\n\nAnswer: "));
  }

  @ParameterizedTest
  @EnumSource
  void whatDoesNotFitIsSaid(RulerMode mode) throws IOException {
    for (var task : List.of(RulerTask.VT, RulerTask.CWE, RulerTask.FWE, RulerTask.QA_1)) {
      var made = prompts(mode, 1).make(task, 80, 2);
      assertEquals(List.of(), made.samples(), task.word());
      assertTrue(made.refusal().orElse("").contains("does not fit into 80"), task.word());
    }
  }

  @Test
  void fewerQuestionsThanSamplesAreSaid() throws IOException {
    var made = prompts(RulerMode.NVIDIA, 1).make(RulerTask.QA_2, 4096, 9);
    assertEquals(2, made.samples().size());
    assertTrue(made.refusal().orElse("").contains("no more questions"));
  }

  @Test
  void badQuestionFilesAreRefused() throws IOException {
    for (String text :
        List.of(
            "{}",
            "[]",
            "{\"data\": [{\"paragraphs\": [{\"context\": \"a\"}]}]}",
            "{\"data\": [{\"paragraphs\": [{\"context\": \"a\", \"qas\": [{\"question\": \"q\","
                + " \"answers\": []}]}]}]}",
            "[{\"question\": \"q\", \"answer\": \"a\", \"context\": [[\"t\"]]}]",
            "not json")) {
      Path file = Files.writeString(folder.resolve("bad.json"), text);
      var refusal = assertThrows(InvalidInputException.class, () -> Questions.read(file), text);
      assertTrue(refusal.getMessage().contains("bad.json"), refusal.getMessage());
    }
  }

  /// Lengths side by side, each with a tokenizer of its own, as one takes a text at a time.
  @Test
  @Tag("shared")
  void fitsWhereNvidiasFits() throws IOException {
    Path squad = folder.resolve("xquad.json");
    try (var in =
        new GZIPInputStream(
            Files.newInputStream(TestData.SHARED.resolve("data/eval/xquad.en.json.gz")))) {
      var all = JsonFile.mapper().build().readTree(in);
      var articles = (ArrayNode) all.path("data");
      while (articles.size() > 24) { // as the golden prompts were made
        articles.remove(articles.size() - 1);
      }
      Files.writeString(squad, all.toString());
    }
    Stream.of(512, 1024, 2048, 4096).parallel().forEach(length -> fits(length, squad));
  }

  private static void fits(int length, Path squad) {
    var golden = TestData.SHARED.resolve("golden");
    var tokenizer = Tokenizers.load(golden.resolve("lm-eval/model").toString(), null);
    var prompts =
        new RulerPrompts(
            RulerMode.NVIDIA,
            text -> tokenizer.encode(text).length,
            Documents.mobyDick(),
            List.of(squad),
            42);
    var fit =
        JsonFile.object(
            golden.resolve("ruler/fit-%d.json".formatted(length)), JsonFile.SMALL, "restore it");
    var theirs =
        PromptFiles.read(
                golden.resolve("ruler/nvidia/%d.jsonl".formatted(length)), RulerMode.NVIDIA, null)
            .samples();
    for (var task : RulerTask.values()) {
      if (task == RulerTask.QA_2) {
        continue;
      }
      String place = task.word() + "@" + length;
      var made = prompts.make(task, length, 2).samples();
      assertEquals(!fit.path(place).isString(), !made.isEmpty(), place);
      for (var own : made) {
        assertTrue(own.length() <= length, place);
        var same =
            theirs.stream()
                .filter(t -> t.task() == task && t.number() == own.number())
                .findFirst()
                .orElseThrow();
        assertEquals(form(same), form(own), place);
      }
    }
  }

  /// What does not change with the random words.
  private static String form(Sample sample) {
    String keys = "[\\p{Alnum}’'-]+(, (and )?[\\p{Alnum}’'-]+)*";
    String prefix =
        sample
            .answerPrefix()
            .replaceFirst(" for " + keys + " mentioned", " for KEY mentioned")
            .replaceFirst("value [0-9]{5}", "value VALUE");
    String[] lines = sample.input().split("\n", -1);
    boolean firstIsTemplate = sample.task() != RulerTask.FWE;
    return String.join(
        "|",
        prefix,
        firstIsTemplate ? lines[0] : lines[0].substring(0, 120),
        lines[lines.length - 1]
            .replaceFirst(" for " + keys + " mentioned", " for KEY mentioned")
            .replaceFirst("value [0-9]{5}", "value VALUE")
            .replaceFirst("(?<=^Question: )(?!Find|What are the|Do not).*", "QUESTION"),
        sample.task() == RulerTask.QA_1 || sample.task() == RulerTask.CWE
            ? "" // how many there are depends on the set, and words have other lengths
            : "outputs " + sample.outputs().size(),
        String.valueOf(Arrays.stream(lines).filter(line -> line.startsWith("VAR ")).count()));
  }
}
