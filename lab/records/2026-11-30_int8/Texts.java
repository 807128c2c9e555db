import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.operations.Precision;
import dev.sluice.probe.Probe;
import dev.sluice.state.SequenceState;
import dev.sluice.state.Slot;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Random;

/// Greedy tokens a second of one text and of several at once, and of a prompt. Arguments: a model, a
/// precision.
public class Texts {
  private static final int PROMPT = 8;
  private static final int TOKENS = 48;

  public static void main(String[] arguments) {
    var precision = Precision.parseRunning(arguments[1]);
    try (var _ = Scope.withoutGradient();
        var model = ModelDirectory.openInPlace(Path.of(arguments[0]), precision).decoder()) {
      for (int texts : new int[] {1, 1, 4, 4, 8, 8, 1, 4, 8}) { // the first of each is a warm-up
        write(model, texts);
      }
      for (int i = 0; i < 4; i++) {
        long[] ids = new Random(1).longs(512, 0, model.config().vocabSize()).toArray();
        try (var _ = Scope.open();
            var state = new SequenceState(1, ids.length)) {
          long began = System.nanoTime();
          var past = state.past(state.take());
          var hidden = model.hiddenStates(Tensor.of(ids, 1, ids.length), past, Probe.NONE);
          model.logits(hidden.narrow(1, ids.length - 1, 1)).floats();
          System.out.printf("prompt: %.1f%n", ids.length / ((System.nanoTime() - began) / 1e9));
        }
      }
    }
    System.exit(0);
  }

  private static void write(dev.sluice.decoder.Decoder model, int texts) {
    try (var _ = Scope.open();
        var state = new SequenceState(texts, PROMPT + TOKENS)) {
      var slots = new ArrayList<Slot>();
      long[] next = new long[texts];
      for (int i = 0; i < texts; i++) {
        slots.add(state.take());
        long[] ids = new Random(i).longs(PROMPT, 0, model.config().vocabSize()).toArray();
        model.hiddenStates(Tensor.of(ids, 1, PROMPT), state.past(slots.get(i)), Probe.NONE);
        next[i] = ids[0];
      }
      var past = state.past(slots);
      double[] seconds = new double[TOKENS];
      for (int token = 0; token < TOKENS; token++) {
        long began = System.nanoTime();
        try (var _ = Scope.open()) {
          var hidden = model.hiddenStates(Tensor.of(next, texts, 1), past, Probe.NONE);
          float[] logits = model.logits(hidden).floats();
          int vocabulary = logits.length / texts;
          for (int i = 0; i < texts; i++) {
            int best = i * vocabulary;
            for (int id = best; id < (i + 1) * vocabulary; id++) {
              best = logits[id] > logits[best] ? id : best;
            }
            next[i] = best - i * vocabulary;
          }
        }
        seconds[token] = (System.nanoTime() - began) / 1e9;
      }
      Arrays.sort(seconds);
      System.out.printf(
          "%d texts: %.1f tokens a second, the best tenth from %.1f on%n",
          texts, texts / seconds[TOKENS / 2], texts / seconds[TOKENS / 10]);
    }
  }
}
