import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.generation.Choice;
import dev.sluice.generation.Generator;
import dev.sluice.generation.Sampler;
import dev.sluice.operations.Precision;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Random;
import java.util.Set;

/// Greedy tokens a second of one, four and eight texts as `generate` writes them. Arguments: a model,
/// a precision.
public class Texts {
  private static final int TOKENS = 64;

  public static void main(String[] arguments) {
    var precision = Precision.parseRunning(arguments[1]);
    try (var model = ModelDirectory.openInPlace(Path.of(arguments[0]), precision).decoder()) {
      int[] prompt = new Random(1).ints(8, 0, model.config().vocabSize()).toArray();
      for (int round = 0; round < 4; round++) { // the first is a warm-up
        for (int texts : new int[] {1, 4, 8}) {
          long[] times = new long[TOKENS];
          int[] count = {0};
          new Generator(model)
              .generate(
                  dev.sluice.generation.Prompt.of(prompt),
                  new Choice(Sampler.GREEDY),
                  TOKENS,
                  Set.of(),
                  texts,
                  (text, _, _) -> {
                    if (text == texts - 1) {
                      times[count[0]++] = System.nanoTime();
                    }
                    return true;
                  });
          double[] seconds = new double[TOKENS - 2];
          for (int i = 0; i < seconds.length; i++) {
            seconds[i] = (times[i + 2] - times[i + 1]) / 1e9;
          }
          Arrays.sort(seconds);
          System.out.printf(
              "%d texts: median %.1f tokens a second, best tenth %.1f%n",
              texts, texts / seconds[seconds.length / 2], texts / seconds[seconds.length / 10]);
        }
      }
    }
    System.exit(0);
  }
}
