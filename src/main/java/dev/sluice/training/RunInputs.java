package dev.sluice.training;

import dev.sluice.corpus.BatchReader;
import dev.sluice.corpus.Corpus;
import dev.sluice.corpus.HeldOutReader;
import dev.sluice.sink.SinkReport;
import dev.sluice.tokenizer.Tokenizer;
import java.util.List;
import java.util.stream.IntStream;

/// What a run reads.
///
/// @param sinkWindow held-out tokens to watch the model's attention on
record RunInputs(
    Corpus corpus,
    Tokenizer tokenizer,
    BatchReader batches,
    HeldOutReader.Sample heldOut,
    long[] sinkWindow) {
  static RunInputs of(RunConfig config, Corpus corpus, Tokenizer tokenizer) {
    var batch = config.batch();
    return new RunInputs(
        corpus,
        tokenizer,
        new BatchReader(corpus.train(), batch.batchSize(), batch.sequenceLength(), config.seed()),
        new HeldOutReader(corpus.heldOut(), batch.sequenceLength(), tokenizer)
            .sample(config.evaluation().heldOutWindows()),
        SinkReport.windows(corpus.heldOut(), batch.sequenceLength(), tokenizer, 1).getFirst());
  }

  String dataFingerprint() {
    return corpus.summary().dataFingerprint();
  }

  /// So many batches from one on.
  List<long[]> microBatches(long first, int count) {
    return IntStream.range(0, count).mapToObj(i -> batches.batch(first + i)).toList();
  }
}
