package dev.sluice.evaluation;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.TestData;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.corpus.Rows;
import dev.sluice.decoder.Decoder;
import dev.sluice.evaluation.LikelihoodScorer.Likelihood;
import dev.sluice.evaluation.RequestEncoder.StartToken;
import dev.sluice.operations.Precision;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.Device;
import dev.sluice.tokenizer.Tokenizer;
import dev.sluice.tokenizer.Tokenizers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ObjectNode;

/// Against what lm-evaluation-harness 0.4.13 answers with transformers, in float32.
@Tag("shared")
class LmEvalTest {
  private static final Path GOLDEN = TestData.SHARED.resolve("golden/lm-eval");

  private static Decoder decoder;
  private static Tokenizer tokenizer;
  private static RequestEncoder encoder;

  @BeforeAll
  static void load() {
    Path model = GOLDEN.resolve("model");
    decoder = ModelDirectory.open(model, Precision.FLOAT32, Device.CPU, false).decoder();
    tokenizer = Tokenizers.load(model.toString());
    encoder =
        new RequestEncoder(
            tokenizer, decoder.config().maxPositionEmbeddings(), StartToken.TOKENIZER);
  }

  @AfterAll
  static void close() {
    decoder.close();
  }

  private static JsonNode read(String name) throws Exception {
    return JsonMapper.shared().readTree(Files.readString(GOLDEN.resolve(name)));
  }

  private static void assertLikelihood(double expected, double actual, String what) {
    assertEquals(expected, actual, Math.max(1e-3, 1e-5 * Math.abs(expected)), what);
  }

  @Test
  void requestsMadeToGoWrong() throws Exception {
    List<TokenRequest> requests = new ArrayList<>();
    var expected = read("edges.json").path("loglikelihood");
    for (var each : expected) {
      String context = each.path("context").asString();
      var request = encoder.pair(context, each.path("continuation").asString(), "an edge");
      requests.add(request);
      int given = each.path("context_tokens").asInt();
      assertEquals(
          each.path("context_cut_to").asInt(given),
          request.inputs().length + 1 - request.targets().length,
          context);
      assertEquals(given, request.cut() + request.inputs().length + 1 - request.targets().length);
      assertEquals(
          each.path("continuation_token_ids").valueStream().map(JsonNode::asInt).toList(),
          java.util.Arrays.stream(request.targets()).boxed().toList());
    }
    List<Likelihood> one = new LikelihoodScorer(decoder, 1).score(requests);
    for (int i = 0; i < one.size(); i++) {
      var each = expected.get(i);
      String what = each.path("context").asString() + "|" + each.path("continuation").asString();
      assertLikelihood(each.path("loglikelihood").asDouble(), one.get(i).logLikelihood(), what);
      assertEquals(each.path("is_greedy").asBoolean(), one.get(i).greedy(), what);
    }
    assertEquals(one, new LikelihoodScorer(decoder, 8).score(requests));
    assertEquals(one, new LikelihoodScorer(decoder, 64).score(requests));
    // As large models do, which share all they can.
    var sharing = new LikelihoodScorer(decoder, 1, Probe.NONE, 1).score(requests);
    for (int i = 0; i < one.size(); i++) {
      assertLikelihood(one.get(i).logLikelihood(), sharing.get(i).logLikelihood(), "" + i);
    }
    assertEquals(sharing, new LikelihoodScorer(decoder, 8, Probe.NONE, 1).score(requests));
    assertEquals(sharing, new LikelihoodScorer(decoder, 64, Probe.NONE, 1).score(requests));
  }

  @Test
  void rollingWindows() throws Exception {
    for (var each : read("edges.json").path("loglikelihood_rolling")) {
      var windows = encoder.rolling(each.path("text").asString());
      assertEquals(
          each.path("tokens").asInt(), windows.stream().mapToInt(w -> w.targets().length).sum());
      double sum =
          new LikelihoodScorer(decoder, 8)
              .score(windows).stream().mapToDouble(Likelihood::logLikelihood).sum();
      assertLikelihood(each.path("loglikelihood").asDouble(), sum, each.toString());
      assertTrue(sum < 0);
    }
  }

  // ---------------------------------------------------------------- tasks

  @TempDir private static Path directory;

  /// The rows of a set, with the columns that the task's definition names.
  private static ObjectNode columns(String task, JsonNode row) {
    var out = JsonMapper.shared().createObjectNode();
    String query = row.path("query").asString("");
    switch (task.replaceAll("_.*", "")) {
      case "lambada" ->
          out.put(
              "text", row.path("context").asString() + " " + row.path("continuation").asString());
      case "piqa" -> {
        out.put("goal", query.substring("Question: ".length(), query.length() - 1));
        out.put("sol1", row.path("choices").path(0).asString());
        out.put("sol2", row.path("choices").path(1).asString());
        out.set("label", row.path("gold"));
      }
      case "arc" -> {
        out.put("question", query.substring("Question: ".length()));
        var choices = out.putObject("choices");
        choices.set("text", row.path("choices"));
        var labels = choices.putArray("label");
        for (int i = 0; i < row.path("choices").size(); i++) {
          labels.add(String.valueOf((char) ('A' + i)));
        }
        out.put("answerKey", String.valueOf((char) ('A' + row.path("gold").asInt())));
      }
      case "winogrande" -> {
        String first = row.path("context_options").path(0).asString();
        String second = row.path("context_options").path(1).asString();
        int shared = 0;
        while (shared < Math.min(first.length(), second.length())
            && first.charAt(shared) == second.charAt(shared)) {
          shared++;
        }
        String rest = row.path("continuation").asString();
        out.put("sentence", first.substring(0, shared) + "_ " + rest);
        out.put("option1", first.substring(shared));
        out.put("option2", second.substring(shared));
        out.put("answer", String.valueOf(1 + row.path("gold").asInt()));
      }
      case "boolq" -> {
        String[] parts = query.split("\nQuestion: ", 2);
        out.put("passage", parts[0].substring("Passage: ".length()));
        out.put("question", parts[1].replaceFirst("\\?$", ""));
        out.put("label", row.path("gold").asInt());
      }
      default -> {
        return (ObjectNode) row;
      }
    }
    return out;
  }

  private static List<ObjectNode> set(String task) {
    String file =
        switch (task.replaceAll("_.*", "")) {
          case "lambada" -> "lambada_openai";
          case "arc" -> "arc_easy";
          default -> task.replaceAll("_.*", "");
        };
    return Rows.read(TestData.SHARED.resolve("data/eval/" + file + ".jsonl.gz"), 0).stream()
        .map(row -> columns(task, row))
        .toList();
  }

  private static Path written(String name, List<ObjectNode> rows) throws Exception {
    return Files.write(directory.resolve(name), rows.stream().map(ObjectNode::toString).toList());
  }

  @ParameterizedTest
  @CsvSource({
    "lambada_local, lambada, perplexity+acc, 0, ",
    "piqa_local, piqa, acc+acc_norm+acc_bytes, 0, ",
    "arc_easy_local, arc-easy, acc+acc_norm+acc_bytes+acc_mutual_info, 0, ",
    "winogrande_local, winogrande, acc, 0, ",
    "boolq_local, boolq, acc+acc_norm+acc_bytes+brier_score, 0, ",
    "wikitext_local, wikitext, word_perplexity+byte_perplexity+bits_per_byte, 0, ",
    "piqa_2shot_local, piqa, acc+acc_norm+acc_bytes, 2, random",
    "arc_3shot_first_local, arc-easy, acc+acc_norm+acc_bytes, 3, first",
    "blimp_adjunct_island_local, blimp, acc+acc_norm+acc_bytes, 0, ",
    "blimp_determiner_noun_agreement_1_local, blimp, acc+acc_norm+acc_bytes, 0, ",
  })
  void tasks(String golden, String shipped, String metrics, int examples, String sampler)
      throws Exception {
    var expected = read(golden + ".json").path("rows");
    List<ObjectNode> rows = new ArrayList<>();
    if (golden.startsWith("wikitext")) {
      for (var row : expected) {
        rows.add(JsonMapper.shared().createObjectNode().put("page", row.path("page").asString()));
      }
    } else {
      var all = set(golden);
      for (var row : expected) {
        rows.add(all.get(row.path("row").asInt()));
      }
    }
    // The shipped definition with the metrics and examples of the harness's file.
    String name = shipped + ".toml";
    String definition;
    try (var in = EvaluationTask.class.getResourceAsStream(name)) {
      definition = new String(in.readAllBytes(), UTF_8).replaceAll("(?m)^metrics.*$", "");
    }
    definition +=
        "metrics = ["
            + "\""
            + metrics.replace("+", "\", \"")
            + "\"]\n"
            + (examples > 0
                ? "examples = %d\nsampler = \"%s\"\n".formatted(examples, sampler)
                : "");
    var task =
        EvaluationTask.named(Files.writeString(directory.resolve(name), definition).toString());
    Path pool = null;
    if (examples > 0) {
      var all = set(golden);
      pool = written(golden + ".examples.jsonl", all.subList(all.size() - 8, all.size()));
    }
    var data = TaskData.read(task, written(golden + ".jsonl", rows), pool, 0);
    var answers = answers(data, 8, Map.of());
    assertEquals(answers, answers(data, 1, Map.of()));
    assertEquals(answers, answers(data, 64, Map.of()));
    // Answers of an earlier run are taken, and change no others.
    var some = new HashMap<>(answers);
    some.keySet().removeIf(i -> i % 3 == 1);
    var rest = answers(data, 8, some);
    some.keySet().forEach(i -> assertTrue(!rest.containsKey(i)));
    rest.forEach((i, each) -> assertEquals(answers.get(i), each));

    for (int i = 0; i < rows.size(); i++) {
      assertRow(expected.get(i), data, i, answers.get(i));
    }
    var results = read("results.json").path("results").path(golden);
    for (var metric : task.metrics()) {
      List<Metric.Share> shares = new ArrayList<>();
      for (int i = 0; i < rows.size(); i++) {
        shares.add(metric.of(task.kind(), data.documents().get(i), answers.get(i)));
      }
      var value = metric.of(shares);
      double wanted = results.path(metric.word() + ",none").asDouble();
      assertEquals(wanted, value.value(), 1e-5 * wanted, golden + " " + metric);
      var error = results.path(metric.word() + "_stderr,none");
      assertEquals(error.isNumber(), value.standardError().isPresent(), golden + " " + metric);
      if (error.isNumber()) {
        assertEquals(
            error.asDouble(),
            value.standardError().getAsDouble(),
            (metric == Metric.PERPLEXITY ? 1e-4 : 1e-9) * error.asDouble(),
            golden + " " + metric);
      }
    }
  }

  private static Map<Integer, List<Response>> answers(
      TaskData data, int batchSize, Map<Integer, List<Response>> known) {
    Map<Integer, List<Response>> answers = new TreeMap<>();
    new TaskRun(decoder, tokenizer, encoder, Set.of(), batchSize, true)
        .answer(
            data,
            known,
            (i, responses) -> assertEquals(null, answers.put(i, responses)),
            (_, _) -> {});
    return answers;
  }

  private static void assertRow(
      JsonNode expected, TaskData data, int document, List<Response> responses) {
    var questions = data.documents().get(document).questions();
    String what = data.source() + " " + document;
    var requests = expected.path("requests");
    if (requests.isMissingNode() || questions.getFirst() instanceof TaskDocument.Question.Whole) {
      assertLikelihood(
          expected.path("loglikelihood").asDouble(), responses.getFirst().logLikelihood(), what);
      var size = (TaskDocument.Expected.Size) data.documents().get(document).expected();
      assertEquals(expected.path("words").asLong(), size.words());
      assertEquals(expected.path("bytes").asLong(), size.bytes());
      return;
    }
    assertEquals(requests.size(), questions.size(), what);
    for (int i = 0; i < questions.size(); i++) {
      var request = requests.get(i);
      var pair = (TaskDocument.Question.Pair) questions.get(i);
      String context =
          request.has("context")
              ? request.path("context").asString()
              : expected.path("context").asString();
      assertEquals(context, pair.context(), what);
      assertEquals(request.path("continuation").asString(), pair.continuation(), what);
      var encoded = encoder.pair(pair.context(), pair.continuation(), what);
      assertEquals(
          request.path("context_tokens").asInt(),
          encoded.cut() + encoded.inputs().length + 1 - encoded.targets().length);
      assertLikelihood(
          request.path("loglikelihood").asDouble(), responses.get(i).logLikelihood(), what);
      assertEquals(request.path("is_greedy").asBoolean(), responses.get(i).greedy(), what);
    }
    for (var metric : data.task().metrics()) {
      if (expected.has(metric.word())) {
        assertEquals(
            expected.path(metric.word()).asDouble(),
            metric.of(data.task().kind(), data.documents().get(document), responses).value(),
            what + " " + metric);
      }
    }
  }
}
