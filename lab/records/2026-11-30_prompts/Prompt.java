import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.operations.Precision;
import dev.sluice.probe.Probe;
import dev.sluice.state.SequenceState;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.nio.file.Path;
import java.util.Random;

/// Tokens a second of a prompt, pass after pass of one process. Arguments: a model, a precision, tokens.
public class Prompt {
  public static void main(String[] arguments) {
    var precision = Precision.parseRunning(arguments[1]);
    int tokens = Integer.parseInt(arguments[2]);
    try (var _ = Scope.withoutGradient();
        var model = ModelDirectory.openInPlace(Path.of(arguments[0]), precision).decoder()) {
      long[] ids = new Random(1).longs(tokens, 0, model.config().vocabSize()).toArray();
      for (int i = 0; i < 7; i++) {
        try (var _ = Scope.open();
            var state = new SequenceState(1, tokens)) {
          long began = System.nanoTime();
          var past = state.past(state.take());
          var hidden = model.hiddenStates(Tensor.of(ids, 1, tokens), past, Probe.NONE);
          model.logits(hidden.narrow(1, tokens - 1, 1)).floats();
          System.out.printf("%.1f%n", tokens / ((System.nanoTime() - began) / 1e9));
        }
      }
    }
    System.exit(0);
  }
}
