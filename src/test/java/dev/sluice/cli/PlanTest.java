package dev.sluice.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.math.BigInteger;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;

/// `plan` gives right numbers or refuses, whatever the settings are.
class PlanTest {
  private static final Map<String, Integer> SIZES = new LinkedHashMap<>();

  static {
    SIZES.put("--vocab-size", 152_064);
    SIZES.put("--hidden-size", 2048);
    SIZES.put("--intermediate-size", 6144);
    SIZES.put("--layers", 28);
    SIZES.put("--attention-heads", 16);
    SIZES.put("--key-value-heads", 8);
    SIZES.put("--head-dim", 128);
  }

  /// Counted by hand: Gated DeltaNet takes the place of attention in three of four blocks.
  @Test
  void aPatternOfLayersIsCounted() {
    String plain = plan("--model", "tiny", "--gates", "none");
    String hybrid =
        plan("--model", "tiny", "--gates", "none", "--layers-pattern", "gdn,gdn,gdn,attention");
    long attention = 2 * 128 * 128 + 2 * 64 * 128 + 2 * 32;
    long channels = 2 * 2 * 32 + 4 * 32;
    long net = channels * 128 + 128 * 128 + 2 * 4 * 128 + channels * 4 + 4 + 4 + 32 + 128 * 128;
    assertTrue(plain.contains("759,168"), plain);
    assertTrue(
        hybrid.contains("%,d".formatted(759_168 + 3 * (net - attention))), hybrid + " " + net);
    String refused = Cli.run("plan", "--layers-pattern", "gnd,attention").refusal();
    assertTrue(refused.contains("'gnd'; use attention, sliding, gdn"), refused);
    refused = Cli.run("plan", "--layers-pattern", "gdn", "--gates", "sdpa-headwise").refusal();
    assertTrue(refused.contains("add attention to layers_pattern"), refused);
  }

  private static String plan(Object... arguments) {
    var all = new ArrayList<Object>(List.of("plan"));
    all.addAll(List.of(arguments));
    return Cli.run(all.toArray()).succeeded().out();
  }

  @Test
  void sizesThatDoNotFitIntoAnIntegerAreCountedOrRefused() {
    var random = new Random(17);
    int[] large = {Integer.MAX_VALUE, Integer.MAX_VALUE - 1, 1 << 24, 1 << 20, 65_536, 3, 2, 1};
    int counted = 0;
    for (int trial = 0; trial < 120; trial++) {
      Map<String, Integer> sizes = new LinkedHashMap<>(SIZES);
      List<Object> arguments = new ArrayList<>(List.of("plan", "--gates", "none"));
      for (String flag : SIZES.keySet()) {
        if (random.nextInt(3) == 0) {
          sizes.put(flag, large[random.nextInt(large.length)]);
          arguments.add(flag);
          arguments.add(sizes.get(flag));
        }
      }
      var answer = Cli.run(arguments.toArray());
      if (answer.code() == Main.BAD_INPUT) {
        answer.refusal();
        continue;
      }
      answer.succeeded();
      String row =
          answer.out().lines().filter(line -> line.startsWith("none ")).findFirst().orElseThrow();
      String count = row.split(" +")[1].replace(",", "");
      assertEquals(parameters(sizes), new BigInteger(count), arguments::toString);
      counted++;
    }
    assertTrue(counted > 10, "only " + counted + " were counted");
  }

  /// By hand, without limits: a tied dense model.
  private static BigInteger parameters(Map<String, Integer> sizes) {
    BigInteger hidden = of(sizes, "--hidden-size");
    BigInteger head = of(sizes, "--head-dim");
    BigInteger two = BigInteger.TWO;
    BigInteger heads = of(sizes, "--attention-heads").add(of(sizes, "--key-value-heads"));
    BigInteger layer =
        two.multiply(heads)
            .multiply(head)
            .multiply(hidden)
            .add(two.multiply(head))
            .add(BigInteger.valueOf(3).multiply(hidden).multiply(of(sizes, "--intermediate-size")))
            .add(two.multiply(hidden));
    return of(sizes, "--vocab-size")
        .multiply(hidden)
        .add(of(sizes, "--layers").multiply(layer))
        .add(hidden);
  }

  private static BigInteger of(Map<String, Integer> sizes, String flag) {
    return BigInteger.valueOf(sizes.getOrDefault(flag, 0));
  }

  @Test
  void everyOtherFlagAtItsLargestIsPlannedOrRefused() {
    int largest = Integer.MAX_VALUE;
    for (String flag :
        List.of(
            "--experts",
            "--experts-per-token",
            "--residual-clip",
            "--gated-norm-rank",
            "--sequence-length",
            "--gpus",
            "--global-batch",
            "--gpus-per-node",
            "--gpu-memory",
            "--gpu-flops",
            "--gpu-share",
            "--node-bandwidth",
            "--network-bandwidth")) {
      for (String model : List.of("paper-dense-28", "paper-moe-15b")) {
        for (Object[] more : new Object[][] {{}, {"--gpus", largest, "--global-batch", largest}}) {
          List<Object> arguments =
              new ArrayList<>(List.of("plan", "--model", model, flag, largest));
          if (!List.of(more).contains(flag)) {
            arguments.addAll(List.of(more));
          }
          var answer = Cli.run(arguments.toArray());
          if (answer.code() == Main.BAD_INPUT) {
            answer.refusal();
          } else {
            answer.succeeded();
            assertFalse(
                answer.out().contains("NaN") || answer.out().contains("∞"), answer::toString);
            // only what a variant adds may be less than nothing, and here none does
            assertFalse(answer.out().matches("(?s).* -\\d.*"), answer::toString);
          }
        }
      }
    }
  }

  @Test
  void manyGpusShareWhatThereIs() {
    var answer =
        Cli.run("plan", "--gpus", 2_000_000_000, "--global-batch", 2_000_000_000, "--gates", "none")
            .succeeded();
    assertTrue(answer.out().contains("2,000,000,000 GPUs"), answer::toString);
  }

  @Test
  void numbersThatAreNoneAreRefused() {
    for (String flag :
        List.of(
            "--gpu-memory",
            "--gpu-flops",
            "--gpu-share",
            "--node-bandwidth",
            "--network-bandwidth")) {
      for (String value : List.of("NaN", "Infinity", "1e300", "-1", "0", "1e-300")) {
        String refused = Cli.run("plan", "--gpus", 8, flag, value).refusal();
        assertTrue(
            refused.contains(flag)
                && refused.contains(
                    value.equals("0") || value.equals("-1") ? value : value.substring(0, 2)),
            refused);
      }
    }
  }
}
