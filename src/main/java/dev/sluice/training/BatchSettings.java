package dev.sluice.training;

import dev.sluice.corpus.WindowRule;
import dev.sluice.settings.Setting;
import dev.sluice.settings.Settings;
import dev.sluice.tokenizer.Tokenizer;
import java.util.OptionalInt;

/// The tokens of a step, and what ranks share of the work.
public record BatchSettings(
    @Setting(initial = "512", least = 2, help = "Tokens per sequence.") int sequenceLength,
    @Setting(
            initial = "stream",
            help =
                "Where sequences begin: stream (one after the other through the text), or documents"
                    + " (each with the token that ends documents, as its start token, and the"
                    + " beginning of one).")
        String windows,
    @Setting(initial = "8", least = 1, help = "Sequences per micro-batch, of all ranks together.")
        int batchSize,
    @Setting(initial = "1", least = 1, help = "Micro-batches per step.") int gradientAccumulation,
    @Setting(
            initial = "false",
            help =
                "Lets a token see its own document alone, from the end-of-text token before it on,"
                    + " in training and on held-out text; else the whole sequence before it.")
        boolean documentMask,
    @Setting(
            initial = "0",
            least = 0,
            most = 2,
            use = "0, 1 or 2",
            help =
                "What ranks share besides the batch: 0 nothing, 1 the optimizer's state, 2"
                    + " gradients too.")
        int zero) {
  /// What a step's batches may hold; they are read at once.
  private static final long MOST_IDS_OF_A_STEP = 1L << 28;

  public BatchSettings {
    var _ = WindowRule.parse(windows);
    double ids = (double) batchSize * gradientAccumulation * (sequenceLength + 1.0);
    Settings.require(
        ids <= MOST_IDS_OF_A_STEP,
        "batch_size × gradient_accumulation × sequence_length",
        "%d × %d × %d".formatted(batchSize, gradientAccumulation, sequenceLength),
        "a step may have " + MOST_IDS_OF_A_STEP + " tokens");
  }

  public WindowRule windowRule() {
    return WindowRule.parse(windows);
  }

  /// The token between documents, where a token is to see its own document alone; else empty.
  public OptionalInt separator(Tokenizer tokenizer) {
    return documentMask ? OptionalInt.of(tokenizer.endOfText()) : OptionalInt.empty();
  }

  /// Of a step.
  public long tokens() {
    return (long) batchSize * sequenceLength * gradientAccumulation;
  }
}
