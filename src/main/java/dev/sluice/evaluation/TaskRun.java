package dev.sluice.evaluation;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.Decoder;
import dev.sluice.evaluation.EvaluationTask.Kind;
import dev.sluice.evaluation.TaskDocument.Question;
import dev.sluice.generation.Generator;
import dev.sluice.generation.Sampler;
import dev.sluice.generation.TextStream;
import dev.sluice.tokenizer.Tokenizer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;

/// A model's answers to the questions of a task.
///
/// @param encoder of the model's tokenizer
/// @param stopIds the tokens that end what the model writes
/// @param batchSize the most sequences that go through the model at a time
/// @param cutLeft whether what does not fit into the model's context loses its start; else it is
///   refused
public record TaskRun(
    Decoder decoder,
    Tokenizer tokenizer,
    RequestEncoder encoder,
    Set<Integer> stopIds,
    int batchSize,
    boolean cutLeft) {
  /// Takes the answers of a document, as they come, in any order.
  @FunctionalInterface
  public interface Listener {
    /// @param document its place in the list
    void answered(int document, List<Response> responses);
  }

  /// Sees tokens go through the model.
  @FunctionalInterface
  public interface Progress {
    void tokens(long done, long all);
  }

  private static final int ROWS_TOLD = 10;

  /// A question as the model takes it.
  ///
  /// @param requests the windows of a text, one for anything else
  private record Asked(int document, int question, List<TokenRequest> requests) {}

  /// Answers the documents that have no answers yet. An answer does not depend on which others are
  /// there, nor on the batch size.
  ///
  /// @param known the answers of documents by their place, of an earlier run
  public void answer(
      TaskData data, Map<Integer, List<Response>> known, Listener listener, Progress progress) {
    if (data.task().kind() instanceof Kind.Answer kind) {
      write(data, kind, known, listener, progress);
    } else {
      score(data, known, listener, progress);
    }
  }

  // ---------------------------------------------------------------- scoring

  private void score(
      TaskData data, Map<Integer, List<Response>> known, Listener listener, Progress progress) {
    List<Asked> asked = new ArrayList<>();
    var documents = data.documents();
    for (int document = 0; document < documents.size(); document++) {
      var questions = documents.get(document).questions();
      String where = where(data, document);
      for (int question = 0; question < questions.size(); question++) {
        asked.add(
            new Asked(
                document,
                question,
                switch (questions.get(question)) {
                  case Question.Pair(String context, String continuation) ->
                      List.of(encoder.pair(context, continuation, where));
                  case Question.Whole(String text) -> encoder.rolling(text);
                  case Question.Open _ -> throw new IllegalStateException("nothing to score");
                }));
      }
    }
    if (!cutLeft) {
      refuseCut(data, asked);
    }
    List<TokenRequest> requests = new ArrayList<>();
    List<Asked> owners = new ArrayList<>();
    for (var each : asked) {
      for (var request : each.requests()) {
        requests.add(request);
        owners.add(each);
      }
    }
    long all = requests.stream().mapToLong(request -> request.inputs().length).sum();
    var tally = new Tally(data, asked, known, listener);
    long[] done = new long[1];
    new LikelihoodScorer(decoder, batchSize)
        .score(
            requests,
            i -> !known.containsKey(owners.get(i).document()),
            (i, likelihood, tokens) -> {
              done[0] += tokens;
              if (Double.isNaN(likelihood.logLikelihood())) {
                throw new InvalidInputException(
                    "the model's log-likelihood of %s is not a number; check the checkpoint, or run it in float32"
                        .formatted(where(data, owners.get(i).document())));
              }
              tally.add(owners.get(i), requests.get(i), likelihood);
              progress.tokens(done[0], Math.max(all, done[0]));
            });
    tally.finishEmpty();
  }

  private static String where(TaskData data, int document) {
    return "row %d of %s"
        .formatted(data.documents().get(document).row(), data.source().getFileName());
  }

  private void refuseCut(TaskData data, List<Asked> asked) {
    int[] rows =
        asked.stream()
            .filter(each -> each.requests().stream().anyMatch(request -> request.cut() > 0))
            .mapToInt(each -> data.documents().get(each.document()).row())
            .distinct()
            .toArray();
    if (rows.length > 0) {
      throw tooLong(data, rows);
    }
  }

  private InvalidInputException tooLong(TaskData data, int[] rows) {
    return new InvalidInputException(
        "%d of the %d rows of %s do not fit into a context of %d tokens (rows %s%s); shorten them, pass --truncate left, which leaves out their start, or a longer --context"
            .formatted(
                rows.length,
                data.documents().size(),
                data.source().getFileName(),
                encoder.longest(),
                Arrays.stream(rows)
                    .limit(ROWS_TOLD)
                    .mapToObj(String::valueOf)
                    .collect(Collectors.joining(", ")),
                rows.length > ROWS_TOLD ? ", …" : ""));
  }

  /// Puts the scores of requests together to the answers of documents.
  private static final class Tally {
    private final TaskData data;
    private final Listener listener;
    private final @Nullable Response[][] responses;
    private final int[][] open;
    private final int[] left;
    private final Map<Integer, List<Response>> known;

    Tally(TaskData data, List<Asked> asked, Map<Integer, List<Response>> known, Listener listener) {
      this.data = data;
      this.listener = listener;
      this.known = known;
      int n = data.documents().size();
      this.responses = new Response[n][];
      this.open = new int[n][];
      this.left = new int[n];
      for (int i = 0; i < n; i++) {
        int questions = data.documents().get(i).questions().size();
        responses[i] = new Response[questions];
        open[i] = new int[questions];
      }
      for (var each : asked) {
        open[each.document()][each.question()] = each.requests().size();
        left[each.document()] += each.requests().size();
      }
    }

    void add(Asked asked, TokenRequest request, LikelihoodScorer.Likelihood likelihood) {
      int document = asked.document();
      var before = responses[document][asked.question()];
      responses[document][asked.question()] =
          before == null
              ? new Response(
                  likelihood.logLikelihood(),
                  likelihood.greedy(),
                  request.targets().length,
                  request.cut(),
                  null)
              : new Response(
                  before.logLikelihood() + likelihood.logLikelihood(),
                  before.greedy() && likelihood.greedy(),
                  before.tokens() + request.targets().length,
                  before.cut() + request.cut(),
                  null);
      if (--left[document] == 0) {
        finish(document);
      }
    }

    private void finish(int document) {
      List<Response> all = new ArrayList<>();
      for (var response : responses[document]) {
        all.add(response == null ? new Response(0, true, 0, 0, null) : response);
      }
      listener.answered(document, all);
    }

    /// Documents without any token.
    void finishEmpty() {
      for (int i = 0; i < data.documents().size(); i++) {
        if (!known.containsKey(i) && Arrays.stream(open[i]).sum() == 0) {
          finish(i);
        }
      }
    }
  }

  // ---------------------------------------------------------------- writing

  private void write(
      TaskData data,
      Kind.Answer kind,
      Map<Integer, List<Response>> known,
      Listener listener,
      Progress progress) {
    int longest = encoder.longest() - kind.maxTokens();
    if (longest < 1) {
      throw new InvalidInputException(
          "the task %s lets the model write %d tokens, which leaves no room in a context of %d; lower max_tokens or pass a longer --context"
              .formatted(data.task().name(), kind.maxTokens(), encoder.longest()));
    }
    var documents = data.documents();
    List<int[]> prompts = new ArrayList<>();
    for (var document : documents) {
      prompts.add(encoder.encode(((Question.Open) document.questions().getFirst()).context()));
    }
    int[] tooLong =
        IntStream.range(0, prompts.size())
            .filter(i -> prompts.get(i).length > longest)
            .map(i -> documents.get(i).row())
            .toArray();
    if (tooLong.length > 0 && !cutLeft) {
      throw tooLong(data, tooLong);
    }
    for (int i = 0; i < documents.size(); i++) {
      if (!known.containsKey(i)) {
        int[] whole = prompts.get(i);
        int cut = Math.max(0, whole.length - longest);
        var written = written(Arrays.copyOfRange(whole, cut, whole.length), kind);
        listener.answered(
            i, List.of(new Response(0, false, written.tokens(), cut, written.text())));
      }
      progress.tokens(i + 1L, documents.size());
    }
  }

  private record Written(String text, int tokens) {}

  /// The likeliest continuation up to the first stop text.
  private Written written(int[] prompt, Kind.Answer kind) {
    var text = new StringBuilder();
    var stream = new TextStream(tokenizer::decode);
    var generation =
        new Generator(decoder)
            .generate(
                prompt,
                Sampler.GREEDY,
                kind.maxTokens(),
                stopIds,
                token -> {
                  text.append(stream.add(token));
                  return kind.stop().stream().noneMatch(stop -> text.indexOf(stop) >= 0);
                });
    text.append(stream.finish());
    String all = text.toString();
    for (String stop : kind.stop()) {
      int at = all.indexOf(stop);
      all = at < 0 ? all : all.substring(0, at);
    }
    return new Written(all, generation.tokens().size());
  }
}
