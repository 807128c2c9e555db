import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.operations.Precision;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Random;

/// Tokens a second of one text after so many others, with keys and values in float32 and in
/// bfloat16, in turn. Arguments: the model, then numbers of tokens before.
public class Depth {
  private static final int PIECE = 512;
  private static final int TOKENS = 24;

  public static void main(String[] arguments) {
    try (var model =
        ModelDirectory.openInPlace(Path.of(arguments[0]), Precision.FLOAT32).decoder()) {
      for (int i = 1; i < arguments.length; i++) {
        for (int time = 0; time < 2; time++) {
          for (var type : new ElementType[] {ElementType.FLOAT32, ElementType.BFLOAT16}) {
            model.keepKeysAndValuesIn(type);
            write(model, Integer.parseInt(arguments[i]), type);
          }
        }
      }
    }
    System.exit(0);
  }

  private static void write(dev.sluice.decoder.Decoder model, int depth, ElementType type) {
    try (var _ = Scope.withoutGradient();
        var state = model.newState(1, depth + TOKENS)) {
      long[] ids = new Random(1).longs(depth + TOKENS, 0, model.config().vocabSize()).toArray();
      var past = state.past(state.take());
      for (int from = 0; from < depth; from += PIECE) {
        int to = Math.min(depth, from + PIECE);
        pass(model, Arrays.copyOfRange(ids, from, to), past);
      }
      double[] seconds = new double[TOKENS];
      for (int i = 0; i < TOKENS; i++) {
        long began = System.nanoTime();
        pass(model, new long[] {ids[depth + i]}, past);
        seconds[i] = (System.nanoTime() - began) / 1e9;
      }
      Arrays.sort(seconds);
      System.out.printf(
          "%d tokens before, %s: median %.1f tokens/s, best tenth %.1f%n",
          depth, type, 1 / seconds[TOKENS / 2], 1 / seconds[TOKENS / 10]);
    }
  }

  private static void pass(
      dev.sluice.decoder.Decoder model, long[] ids, dev.sluice.state.Past past) {
    try (var _ = Scope.open()) {
      var hidden = model.hiddenStates(Tensor.of(ids, 1, ids.length), past, Probe.NONE);
      model.logits(hidden.narrow(1, ids.length - 1, 1)).floats();
    }
  }
}
