package dev.sluice.evaluation;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.evaluation.TaskDocument.Expected;
import dev.sluice.evaluation.TaskDocument.Question;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

class TaskDataTest {
  private static final String COLOURS =
      """
      kind = "multiple-choice"
      context = "Q: {ask}\\nA:"
      choices = "{of.text}"
      labels = "{of.label}"
      target = "{key}"
      """;

  private static final String ROW =
      """
      {"ask": "sky?", "of": {"text": ["red", "blue"], "label": ["x", "y"]}, "key": "y"}
      {"ask": "grass?", "of": {"text": ["green", "pink", "blue"], "label": ["x", "y", "z"]}, "key": "x"}
      """;

  @TempDir Path directory;

  private EvaluationTask task(String definition) throws IOException {
    return EvaluationTask.named(
        Files.writeString(directory.resolve("mine.toml"), definition).toString());
  }

  private TaskData data(String definition, String rows) throws IOException {
    return TaskData.read(
        task(definition), Files.writeString(directory.resolve("rows.jsonl"), rows), null, 0);
  }

  private String refusal(String definition, String rows) {
    return assertThrows(InvalidInputException.class, () -> data(definition, rows)).getMessage();
  }

  @Test
  void shippedTasksAreWhole() {
    for (String name : EvaluationTask.SHIPPED) {
      var task = EvaluationTask.named(name);
      assertEquals(name, task.name());
      assertFalse(task.metrics().isEmpty());
    }
    assertTrue(
        assertThrows(InvalidInputException.class, () -> EvaluationTask.named("pika"))
            .getMessage()
            .contains("piqa"));
  }

  @Test
  void choicesOfARow() throws IOException {
    var data = data(COLOURS, ROW);
    var second = data.documents().get(1);
    assertEquals(
        List.of(
            new Question.Pair("Q: grass?\nA:", " green"),
            new Question.Pair("Q: grass?\nA:", " pink"),
            new Question.Pair("Q: grass?\nA:", " blue")),
        second.questions());
    assertEquals(
        new Expected.Choice(0, List.of("green", "pink", "blue"), false), second.expected());
    assertEquals(1, ((Expected.Choice) data.documents().get(0).expected()).target());
  }

  /// As pandas writes a column of whole numbers in which one once was missing.
  @Test
  void targetsMayHaveAFractionOfZero() throws IOException {
    String numbered = "kind = 'multiple-choice'\ncontext = '{q}'\nchoices = ['a', 'b', 'c']\n";
    String rows =
        """
        {"q": "one", "key": 1.0}
        {"q": "two", "key": "2.00"}
        """;
    for (String labels : List.of("", "labels = ['0', '1', '2']\n")) {
      var documents = data(numbered + labels + "target = '{key}'\n", rows).documents();
      assertEquals(1, ((Expected.Choice) documents.get(0).expected()).target());
      assertEquals(2, ((Expected.Choice) documents.get(1).expected()).target());
    }
    String half = refusal(numbered + "target = '{key}'\n", "{\"q\": \"one\", \"key\": 1.5}\n");
    assertTrue(half.contains("the target '1.5'"), half);
  }

  @Test
  void unconditionalQuestionsFollow() throws IOException {
    var data = data(COLOURS + "metrics = [\"acc\", \"acc_mutual_info\"]\n", ROW);
    assertEquals(new Question.Pair("", " blue"), data.documents().getFirst().questions().getLast());
    assertEquals(4, data.documents().getFirst().questions().size());
  }

  @Test
  void changesOfFields() throws IOException {
    var pair =
        data(
                "kind = 'continuation'\ncontext = '{{{t|without-last-word}}}'\n"
                    + "continuation = ' {t|last-word|lower}'\n",
                "{\"t\": \"one  two ThrEE\"}")
            .documents()
            .getFirst()
            .questions()
            .getFirst();
    assertEquals(new Question.Pair("{one  two}", " three"), pair);
  }

  @Test
  void wordsAndBytesAreThoseOfTheTextAsItWas() throws IOException {
    var document =
        data(
                "kind = 'text'\ntext = '{page}'\ncleaning = 'wikitext'\n",
                "{\"page\": \" a @-@ b , é ( c ) \\n\"}")
            .documents()
            .getFirst();
    assertEquals(new Question.Whole(" a-b, é (c)\n"), document.questions().getFirst());
    assertEquals(new Expected.Size(10, 21), document.expected());
  }

  // ---------------------------------------------------------------- examples

  @Test
  void examplesLeaveTheQuestionOut() throws IOException {
    var rows = new StringBuilder();
    for (int i = 0; i < 6; i++) {
      rows.append("{\"q\": \"q%d\", \"a\": \"a%d\"}\n".formatted(i, i));
    }
    String task = "kind = 'continuation'\ncontext = '{q}'\ncontinuation = ' {a}'\nexamples = 2\n";
    var first = data(task + "sampler = 'first'\n", rows.toString());
    assertEquals(
        new Question.Pair("q1 a1\n\nq2 a2\n\nq0", " a0"),
        first.documents().getFirst().questions().getFirst());
    assertEquals(
        new Question.Pair("q0 a0\n\nq1 a1\n\nq5", " a5"),
        first.documents().getLast().questions().getFirst());
    var drawn = data(task, rows.toString());
    for (var document : drawn.documents()) {
      var pair = (Question.Pair) document.questions().getFirst();
      String[] parts = pair.context().split("\n\n");
      assertEquals(3, parts.length);
      assertFalse(parts[0].equals(parts[1]));
      assertFalse(parts[0].startsWith(parts[2]) || parts[1].startsWith(parts[2]), pair::context);
    }
    // As Python draws three of six with the seed 1234, the question dropped.
    var six = IntStream.range(0, 6).boxed().toList();
    var three = new ArrayList<>(new PythonRandom(1234).sample(six, 3));
    three.remove(Integer.valueOf(0));
    assertEquals(
        "q%d a%d\n\nq%d a%d\n\nq0"
            .formatted(three.get(0), three.get(0), three.get(1), three.get(1)),
        ((Question.Pair) drawn.documents().getFirst().questions().getFirst()).context());
    assertTrue(refusal(task.replace("2", "6"), rows.toString()).contains("takes 6 examples"));
    assertTrue(
        refusal(task, "{\"q\": \"q\", \"a\": \"a\"}\n".repeat(4))
            .contains("the same as a question"));
  }

  // ---------------------------------------------------------------- bad input

  @ParameterizedTest
  @CsvSource(
      delimiter = '¦',
      quoteCharacter = '~',
      value = {
        "kind = 'text' ¦ lacks the key 'text'",
        "kind = 'texts' ¦ has the kind 'texts'",
        "kind = 'text'\\n"
            + "text = '{t}'\\n"
            + "choices = ['a', 'b'] ¦ has the key 'choices', which a task of the kind text does not"
            + " have",
        "kind = 'text'\\ntext = '{t}'\\nmetrics = ['acc'] ¦ has the metric 'acc'",
        "kind = 'text'\\ntext = '{t' ¦ a brace without its partner",
        "kind = 'text'\\ntext = '{t|upper}' ¦ asks for 'upper'",
        "kind = 'text'\\ntext = 3 ¦ 'text' must be a text",
        "kind = 'text'\\ntext = '{t}'\\ncleaning = 'bleach' ¦ has the cleaning 'bleach'",
        "kind = 'continuation'\\n"
            + "context = 'a'\\n"
            + "continuation = 'b'\\n"
            + "examples = -1 ¦ 'examples' must be a whole number from 0",
        "kind = 'continuation'\\n"
            + "context = 'a'\\n"
            + "continuation = 'b'\\n"
            + "sampler = 'last' ¦ has the sampler 'last'",
        "kind = 'answer'\\n"
            + "context = 'a'\\n"
            + "answer = 'b'\\n"
            + "extract = '(' ¦ is not a regular expression",
        "kind = 'multiple-choice'\\n"
            + "context = ''\\n"
            + "choices = ['a']\\n"
            + "target = 0 ¦ needs two texts or more",
      })
  void tasksThatAreNone(String definition, String why) {
    String message = refusal(definition.replace("\\n", "\n"), ROW);
    assertTrue(message.contains(why), message);
  }

  private static List<List<String>> wrongRows() {
    return List.of(
        List.of("{\"ask\": \"a\"}", "row 0 of rows.jsonl has no field 'of.text' but ask"),
        List.of(
            "{\"ask\": \"a\", \"of\": {\"text\": [], \"label\": []}, \"key\": \"x\"}",
            "has no choice"),
        List.of(
            "{\"ask\": \"a\", \"of\": {\"text\": [\"b\", \"\"], \"label\": [\"x\", \"y\"]},"
                + " \"key\": \"x\"}",
            "has nothing in its choice 1"),
        List.of(
            "{\"ask\": \"a\", \"of\": {\"text\": [\"b\", \"c\"], \"label\": [\"x\", \"y\"]},"
                + " \"key\": \"z\"}",
            "has the target 'z', which is none of its labels [x, y]"),
        List.of(
            "{\"ask\": [1], \"of\": {\"text\": [\"b\", \"c\"], \"label\": [\"x\", \"y\"]}, \"key\":"
                + " \"x\"}",
            "has a list in the field 'ask'"),
        List.of("{\"ask\": \"a\", \"of\": {\"text\": \"b\"}}", "has no list in '{of.text}'"),
        List.of("[1, 2]", "line 1 holds no JSON object"),
        List.of("{\"ask\": ", "the object in line 1 is not valid JSON"),
        List.of("", "has no rows"));
  }

  @ParameterizedTest
  @MethodSource("wrongRows")
  void rowsThatAreNone(List<String> wrong) {
    String message = refusal(COLOURS, wrong.getFirst());
    assertTrue(message.contains(wrong.getLast()), message);
  }

  // ---------------------------------------------------------------- metrics

  private static Response scored(double logLikelihood) {
    return new Response(logLikelihood, false, 1, 0, null);
  }

  @Test
  void metricsOfChoices() throws IOException {
    var task = task(COLOURS);
    var choices = new Expected.Choice(1, List.of("aa", "ééé", "d"), true);
    var document = new TaskDocument(0, "", List.of(), choices);
    var responses =
        List.of(
            scored(-4),
            scored(-5),
            scored(-4), // sums
            scored(-4),
            scored(-7),
            scored(-5)); // without context
    double[] expected = {0, 1, 1, 1};
    var metrics = List.of(Metric.ACC, Metric.ACC_NORM, Metric.ACC_BYTES, Metric.ACC_MUTUAL_INFO);
    for (int i = 0; i < expected.length; i++) {
      assertEquals(
          expected[i], metrics.get(i).of(task.kind(), document, responses).value(), "" + i);
    }
    double e = Math.exp(-1);
    double[] p = {1 / (2 + e), e / (2 + e)};
    assertEquals(
        2 * p[0] * p[0] + (1 - p[1]) * (1 - p[1]),
        Metric.BRIER_SCORE.of(task.kind(), document, responses).value(),
        1e-12);
    // −5 / 6 bytes is more than −4 / 4 would be, and the first of equal ones wins.
    var equal = new TaskDocument(0, "", List.of(), new Expected.Choice(0, choices.choices(), true));
    assertEquals(1, Metric.ACC.of(task.kind(), equal, responses).value());
  }

  @Test
  void metricsOfRows() {
    var shares = List.of(new Metric.Share(-6, 2), new Metric.Share(-4, 6), new Metric.Share(-2, 2));
    assertEquals(Math.exp(12 / 10.0), Metric.WORD_PERPLEXITY.of(shares).value(), 1e-12);
    assertEquals(1.2 / Math.log(2), Metric.BITS_PER_BYTE.of(shares).value(), 1e-12);
    assertEquals(Math.exp(4), Metric.PERPLEXITY.of(shares).value(), 1e-12);
    var accuracy = Metric.ACC.of(List.of(new Metric.Share(1, 1), new Metric.Share(0, 1)));
    assertEquals(0.5, accuracy.value());
    assertEquals(0.5, accuracy.standardError().orElseThrow(), 1e-12);
  }

  @Test
  void answersThatWereWritten() throws IOException {
    var task =
        task(
            "kind = 'answer'\ncontext = '{q}'\nanswer = '{a}'\nextract = '#### (-?[0-9.,]+)'\n"
                + "extract_last = '(-?[0-9,]{2,})|([0-9])'\n"
                + "ignore = [',', '(?s).*#### ', '\\.$']\n");
    var document = new TaskDocument(0, "", List.of(), new Expected.Written("so\nit is #### 1,234"));
    record Case(String text, double first, double last) {}
    for (var each :
        List.of(
            new Case("it is\n#### 1234. And 7", 1, 0),
            new Case("#### 12 then 1,234", 0, 1),
            new Case("1234", 0, 1),
            new Case("none", 0, 0))) {
      var responses = List.of(new Response(0, false, 1, 0, each.text()));
      assertEquals(each.first(), Metric.EXACT_MATCH.of(task.kind(), document, responses).value());
      assertEquals(
          each.last(), Metric.EXACT_MATCH_LAST.of(task.kind(), document, responses).value());
    }
  }

  @Test
  void differencesOfPairs() {
    List<Metric.Share> first = new ArrayList<>();
    List<Metric.Share> second = new ArrayList<>();
    for (int i = 0; i < 40; i++) {
      first.add(new Metric.Share(i % 2, 1));
      second.add(new Metric.Share(i % 2 == 1 || i < 16 ? 1 : 0, 1));
    }
    var difference = PairedDifference.of(Metric.ACC, first, second);
    assertEquals(0.2, difference.difference(), 1e-12);
    assertEquals(2 * Math.pow(0.5, 8), difference.pValue(), 1e-12);
    assertEquals(0.06287962651425208, difference.low(), 1e-12);
    assertEquals(0.3180727544381289, difference.high(), 1e-12);
    assertTrue(difference.isShown());
    // The same distance in every row: rows differ much, their differences do not.
    List<Metric.Share> better =
        first.stream().map(s -> new Metric.Share(s.value() + 1, 1)).toList();
    var perplexity = PairedDifference.of(Metric.PERPLEXITY, first, better);
    assertEquals(Math.exp(-1.5) - Math.exp(-0.5), perplexity.difference(), 1e-12);
    assertTrue(perplexity.high() < 0 && perplexity.isShown());
    assertTrue(Double.isNaN(perplexity.pValue()));
  }

  /// What McNemar's exact test does not show is not shown, whatever the interval: 2 rows, 4 of 64
  /// that differ (p 0.125), 5 (p 0.0625, an interval without zero), 6 (p 0.03125).
  @Test
  void accuraciesAreJudgedByTheirExactTest() {
    int[][] cases = {{2, 2}, {64, 4}, {64, 5}, {64, 6}, {5, 5}, {6, 6}};
    boolean[] shown = {false, false, false, true, false, true};
    for (int i = 0; i < cases.length; i++) {
      int rows = cases[i][0];
      int better = cases[i][1];
      var difference =
          PairedDifference.of(
              Metric.ACC,
              IntStream.range(0, rows).mapToObj(_ -> new Metric.Share(0, 1)).toList(),
              IntStream.range(0, rows)
                  .mapToObj(row -> new Metric.Share(row < better ? 1 : 0, 1))
                  .toList());
      assertEquals(2 * Math.pow(0.5, better), difference.pValue(), 1e-12);
      assertEquals(shown[i], difference.isShown(), rows + " rows");
      assertEquals(rows >= 6, difference.isTested());
      assertTrue(difference.high() - difference.low() > 0.1, "it collapsed");
    }
    assertTrue(
        PairedDifference.of(
                    Metric.ACC, List.of(new Metric.Share(0, 1)), List.of(new Metric.Share(1, 1)))
                .low()
            < 0);
  }

  /// Of few rows the interval is Student's: of a mean that of the rows' differences
  /// (`scipy.stats.t.interval`), of a rate the jackknife's, by hand.
  @Test
  void fewRowsHaveStudentsInterval() {
    double[] brier = {0.3, 0.1, 0.4, 0.2, 0.35, 0.25, 0.3};
    var zero = shares(new double[7], 1, 1, 1, 1, 1, 1, 1);
    var seven = PairedDifference.of(Metric.BRIER_SCORE, zero, shares(brier, 1, 1, 1, 1, 1, 1, 1));
    assertEquals(0.1794961482469971, seven.low(), 1e-12);
    assertEquals(0.3633609946101458, seven.high(), 1e-12);
    assertTrue(seven.isShown());
    // Two texts that a bootstrap calls better beyond doubt: its ends are the texts themselves.
    var two =
        PairedDifference.of(
            Metric.BITS_PER_BYTE,
            shares(new double[] {-200, -90}, 100, 50),
            shares(new double[] {-190, -80}, 100, 50));
    assertEquals(-20 / Math.log(2) / 150, two.difference(), 1e-12);
    assertEquals(-1.1089182668551496, two.low(), 1e-9);
    assertTrue(two.high() > 0);
    assertFalse(two.isTested() || two.isShown());
    // Beyond doubt by their interval, and still too few.
    double[] alike = {-1, -1, -1, -1, -1.01};
    var five =
        PairedDifference.of(
            Metric.BRIER_SCORE, shares(new double[5], 1, 1, 1, 1, 1), shares(alike, 1, 1, 1, 1, 1));
    assertTrue(five.high() < 0);
    assertFalse(five.isTested() || five.isShown());
    var one =
        PairedDifference.of(Metric.BRIER_SCORE, shares(alike, 1).subList(0, 1), zero.subList(0, 1));
    assertTrue(Double.isNaN(one.low()));
  }

  private static List<Metric.Share> shares(double[] values, double... weights) {
    return IntStream.range(0, weights.length)
        .mapToObj(i -> new Metric.Share(values[i], weights[i]))
        .toList();
  }
}
