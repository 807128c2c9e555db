import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.operations.Precision;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;

/// The loss of a checkpoint whose keys and values are kept in bfloat16, and how far its
/// distributions are from those with float32. Texts are read eight tokens at a time, so that all
/// but the first eight attend over what is kept. Arguments: the checkpoint, and a file of token ids.
public class Divergence {
  private static final int LENGTH = 128;
  private static final int PIECE = 8;
  private static final int MOST_WINDOWS = 300;

  public static void main(String[] arguments) throws Exception {
    long[] ids =
        Arrays.stream(Files.readString(Path.of(arguments[1])).strip().split("\\s+"))
            .mapToLong(Long::parseLong)
            .toArray();
    float[][] exact = null;
    for (var type : new ElementType[] {ElementType.FLOAT32, ElementType.BFLOAT16}) {
      float[][] logs = logProbabilities(Path.of(arguments[0]), type, ids);
      exact = exact == null ? logs : exact;
      int count = 0;
      double nats = 0;
      double divergence = 0;
      for (int at = 0; at < logs.length; at++) {
        if (at % LENGTH == LENGTH - 1) {
          continue;
        }
        count++;
        nats -= logs[at][(int) ids[at + 1]];
        for (int id = 0; id < logs[at].length; id++) {
          divergence += Math.exp(exact[at][id]) * (exact[at][id] - logs[at][id]);
        }
      }
      System.out.printf(
          "%s: %.5f nats a token, divergence %.7f, %d tokens%n",
          type, nats / count, divergence / count, count);
    }
    System.exit(0);
  }

  private static float[][] logProbabilities(Path checkpoint, ElementType type, long[] ids) {
    int windows = Math.min(MOST_WINDOWS, ids.length / LENGTH);
    float[][] all = new float[windows * LENGTH][];
    try (var _ = Scope.withoutGradient();
        var model = ModelDirectory.openInPlace(checkpoint, Precision.FLOAT32).decoder()) {
      model.keepKeysAndValuesIn(type);
      for (int window = 0; window < windows; window++) {
        try (var _ = Scope.open();
            var state = model.newState(1, LENGTH)) {
          var past = state.past(state.take());
          for (int first = 0; first < LENGTH; first += PIECE) {
            int from = window * LENGTH + first;
            long[] some = Arrays.copyOfRange(ids, from, from + PIECE);
            var hidden = model.hiddenStates(Tensor.of(some, 1, PIECE), past, Probe.NONE);
            float[] logits = model.logits(hidden).floats();
            int vocabulary = logits.length / PIECE;
            for (int at = 0; at < PIECE; at++) {
              all[from + at] = normalized(logits, at * vocabulary, vocabulary);
            }
          }
        }
      }
    }
    return all;
  }

  private static float[] normalized(float[] logits, int from, int count) {
    float[] row = Arrays.copyOfRange(logits, from, from + count);
    double sum = 0;
    for (float logit : row) {
      sum += Math.exp(logit);
    }
    for (int id = 0; id < count; id++) {
      row[id] -= (float) Math.log(sum);
    }
    return row;
  }
}
