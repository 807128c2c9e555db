package dev.sluice.training;

import dev.sluice.corpus.BatchReader;
import dev.sluice.corpus.Corpus;
import dev.sluice.corpus.HeldOutReader;
import dev.sluice.corpus.WindowRule;
import dev.sluice.sink.SinkReport;
import dev.sluice.tokenizer.Tokenizer;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.stream.IntStream;

/// What a run reads.
///
/// @param sinkWindows held-out tokens to watch the model's attention on
record RunInputs(
    Corpus corpus,
    Tokenizer tokenizer,
    BatchReader batches,
    HeldOutReader.Sample heldOut,
    List<long[]> sinkWindows) {
  static RunInputs of(RunConfig config, Corpus corpus, Tokenizer tokenizer) {
    var batch = config.batch();
    int length = batch.sequenceLength();
    var rule = batch.windowRule();
    return new RunInputs(
        corpus,
        tokenizer,
        new BatchReader(
            corpus.train(),
            batch.batchSize(),
            length,
            config.seed(),
            rule,
            rule == WindowRule.STREAM ? 0 : tokenizer.endOfText()),
        new HeldOutReader(corpus.heldOut(), length, tokenizer, rule)
            .sample(config.evaluation().heldOutWindows()),
        SinkReport.windows(
            corpus.heldOut(), length, tokenizer, rule, SinkReport.RECOMMENDED_TOKENS));
  }

  String dataFingerprint() {
    return corpus.summary().dataFingerprint();
  }

  /// What is not read of the text, if anything.
  Optional<String> unread() {
    long tokens = batches.unread();
    return tokens == 0
        ? Optional.empty()
        : Optional.of(
            String.format(
                Locale.ROOT,
                "Sequences begin at documents, and %,d of %,d training tokens (%.1f %%) are beyond"
                    + " the first sequence of their document: they are not trained on.",
                tokens,
                corpus.train().length(),
                100.0 * tokens / corpus.train().length()));
  }

  /// That there are fewer held-out windows than are to be measured on, if so.
  Optional<String> fewerWindows(RunConfig config) {
    int there = heldOut.windows().size();
    return there >= config.evaluation().heldOutWindows()
        ? Optional.empty()
        : Optional.of(
            "The held-out text has only %d windows of %d tokens, not %d."
                .formatted(
                    there, config.batch().sequenceLength(), config.evaluation().heldOutWindows()));
  }

  /// So many batches from one on.
  List<long[]> microBatches(long first, int count) {
    return IntStream.range(0, count).mapToObj(i -> batches.batch(first + i)).toList();
  }
}
