import dev.sluice.checkpoint.Conversion;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.operations.Precision;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;

/// The loss of a checkpoint with rounded weights and inputs, and how far its distributions are from
/// those of the checkpoint as it is. Arguments: the checkpoint, and a file of token ids.
public class Divergence {
  private static final int LENGTH = 128;
  private static final int MOST_WINDOWS = 300;

  public static void main(String[] arguments) throws Exception {
    long[] ids =
        Arrays.stream(Files.readString(Path.of(arguments[1])).strip().split("\\s+"))
            .mapToLong(Long::parseLong)
            .toArray();
    float[][] plain = null;
    for (String weights : new String[] {null, "q8_0", "q6_k", "q4_k", "q4_0"}) {
      for (var precision : new Precision[] {Precision.FLOAT32, Precision.INT8}) {
        if (weights == null && precision == Precision.INT8) {
          continue;
        }
        float[][] logs = logProbabilities(Path.of(arguments[0]), weights, precision, ids);
        plain = plain == null ? logs : plain;
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
            divergence += Math.exp(plain[at][id]) * (plain[at][id] - logs[at][id]);
          }
        }
        System.out.printf(
            "%s %s: %.5f nats a token, divergence %.6f, %d tokens%n",
            weights, precision, nats / count, divergence / count, count);
      }
    }
    System.exit(0);
  }

  private static float[][] logProbabilities(
      Path checkpoint, String weights, Precision precision, long[] ids) {
    int windows = Math.min(MOST_WINDOWS, ids.length / LENGTH);
    float[][] all = new float[windows * LENGTH][];
    try (var _ = Scope.withoutGradient();
        var model =
            ModelDirectory.openInPlace(
                    checkpoint, precision, weights, false, Conversion.Listener.NOBODY)
                .decoder()) {
      for (int window = 0; window < windows; window++) {
        try (var _ = Scope.open()) {
          long[] some = Arrays.copyOfRange(ids, window * LENGTH, (window + 1) * LENGTH);
          var hidden = model.hiddenStates(Tensor.of(some, 1, LENGTH), null, Probe.NONE);
          float[] logits = model.logits(hidden).floats();
          int vocabulary = logits.length / LENGTH;
          for (int at = 0; at < LENGTH; at++) {
            float[] row = Arrays.copyOfRange(logits, at * vocabulary, (at + 1) * vocabulary);
            double sum = 0;
            for (float logit : row) {
              sum += Math.exp(logit);
            }
            for (int id = 0; id < vocabulary; id++) {
              row[id] -= (float) Math.log(sum);
            }
            all[window * LENGTH + at] = row;
          }
        }
      }
    }
    return all;
  }
}
