import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.generation.Choice;
import dev.sluice.generation.Generator;
import dev.sluice.generation.JsonRestriction;
import dev.sluice.generation.LogitAdjustments;
import dev.sluice.generation.Prompt;
import dev.sluice.generation.Restriction;
import dev.sluice.generation.Sampler;
import dev.sluice.operations.Precision;
import dev.sluice.schema.JsonSchema;
import dev.sluice.schema.TokenMask;
import dev.sluice.schema.Vocabulary;
import dev.sluice.serving.ModelFiles;
import dev.sluice.tensor.Scope;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.OptionalInt;
import java.util.Set;

/// What a mask of JSON takes of each token of texts that a model makes up. Arguments: a model, and a schema or `object`.
public class Mask {
  public static void main(String[] a) throws Exception {
    var path = Path.of(a[0]);
    var files = ModelFiles.at(path, System.err::println);
    var tok = files.tokenizer(null, null);
    var stops = files.stopIds(tok);
    long t0 = System.nanoTime();
    var schema = a[1].equals("object") ? JsonSchema.anyObject() : JsonSchema.read(Path.of(a[1]));
    var mask = new TokenMask(schema, new Vocabulary(tok.tokenBytes(), stops));
    System.out.printf("vocabulary %.0f ms%n", (System.nanoTime() - t0) / 1e6);
    try (var _ = Scope.withoutGradient();
        var decoder = ModelDirectory.openInPlace(path, Precision.FLOAT32).decoder()) {
      var generator = new Generator(decoder);
      for (int seed = 1; seed <= 4; seed++) {
        for (boolean masked : new boolean[] {false, true}) {
          var times = new ArrayList<Double>();
          long[] last = {0};
          var steps = new ArrayList<Double>();
          var json = new JsonRestriction(mask, OptionalInt.empty());
          var r =
              !masked
                  ? Restriction.NONE
                  : new Restriction() {
                    double spent;
                    public void restrict(float[] logits) {
                      long b = System.nanoTime();
                      json.restrict(logits);
                      for (int id : stops) logits[id] = Float.NEGATIVE_INFINITY;
                      spent = System.nanoTime() - b;
                    }
                    public void chosen(int token) {
                      long b = System.nanoTime();
                      json.chosen(token);
                      times.add((spent + System.nanoTime() - b) / 1e6);
                    }
                  };
          generator.generate(
              Prompt.of(tok.encode("A person as JSON: ")),
              new Choice(new Sampler(1, 0, 1, 0, seed), LogitAdjustments.NONE, _ -> r),
              120, Set.of(), 1,
              new Generator.Listener() {
                public boolean onRead(int t, int total) { return true; }
                public boolean onToken(int s, int token, float[] l) {
                  long n = System.nanoTime();
                  if (last[0] != 0) steps.add((n - last[0]) / 1e6);
                  last[0] = n;
                  return true;
                }
              });
          System.out.printf("seed %d masked %s: token %.2f ms (first 30: %.2f)", seed, masked, mean(steps, 0), mean(steps.subList(0, Math.min(30, steps.size())), 0));
          if (masked) System.out.printf("; mask mean %.3f, first 30 %.3f, last 60 %.3f, max %.2f", mean(times, 0), mean(times.subList(0, 30), 0), mean(times.subList(60, times.size()), 0), Collections.max(times));
          System.out.println();
        }
      }
    }
    System.exit(0);
  }
  static double mean(List<Double> x, int from) { return x.stream().mapToDouble(d -> d).average().orElse(0); }
}
