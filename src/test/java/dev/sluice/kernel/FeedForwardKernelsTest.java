package dev.sluice.kernel;

import static dev.sluice.kernel.KernelNumbers.ALL;
import static dev.sluice.kernel.KernelNumbers.bytes;
import static dev.sluice.kernel.KernelNumbers.fill;
import static dev.sluice.kernel.KernelNumbers.gaussian;
import static dev.sluice.kernel.KernelNumbers.poisoned;
import static dev.sluice.kernel.KernelNumbers.sigmoid;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.sluice.kernel.KernelCase.Expected;
import dev.sluice.kernel.KernelCase.Output;
import java.lang.foreign.Arena;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;

/// SwiGLU.
class FeedForwardKernelsTest implements RangeKernelRules {
  private static final int[] ELEMENTS = {1, 7, 16, 63, 65, 257, 1023, 1024, 1025, 2100};

  private static final float[] EXTREME = {
    0f,
    -0f,
    Float.MIN_VALUE,
    1e-20f,
    17f,
    -17f,
    87f,
    -87f,
    88.8f,
    -88.8f,
    103f,
    -103f,
    105f,
    -105f,
    1e4f,
    -1e4f,
    1e30f,
    -1e30f,
    Float.MAX_VALUE,
    -Float.MAX_VALUE,
    Float.POSITIVE_INFINITY,
    Float.NEGATIVE_INFINITY,
    Float.NaN
  };

  @Override
  public List<KernelCase> cases(Arena arena) {
    var cases = new ArrayList<KernelCase>();
    for (boolean bfloat16 : new boolean[] {false, true}) {
      for (int elements : ELEMENTS) {
        add(cases, arena, bfloat16, elements);
      }
      // Factors so small that 16 of the smallest normal number cover a σ that is zero instead.
      var gate = fill(poisoned(arena, EXTREME.length, bfloat16), i -> EXTREME[i]);
      var up = fill(poisoned(arena, EXTREME.length, bfloat16), i -> i % 2 == 0 ? 0.125f : -0.125f);
      var dOut = fill(poisoned(arena, EXTREME.length, bfloat16), _ -> 0.125f);
      cases.add(forward("extreme", gate, up));
      cases.add(backward("extreme", dOut, gate, up));
      var random = new SplittableRandom(5);
      for (int spoiled = 0; spoiled < 3; spoiled++) {
        Floats[] inputs = {
          gaussian(arena, random, 65, bfloat16),
          gaussian(arena, random, 65, bfloat16),
          gaussian(arena, random, 65, bfloat16)
        };
        inputs[spoiled].set(17, Float.NaN);
        inputs[spoiled].set(64, Float.NaN);
        cases.add(forward("spoiled " + spoiled, inputs[0], inputs[1]));
        cases.add(backward("spoiled " + spoiled, inputs[2], inputs[0], inputs[1]));
      }
    }
    return cases;
  }

  /// A few, for other tests.
  static List<KernelCase> sample(Arena arena) {
    var cases = new ArrayList<KernelCase>();
    add(cases, arena, false, 2100);
    add(cases, arena, true, 1023);
    return cases;
  }

  private static void add(List<KernelCase> cases, Arena arena, boolean bfloat16, int elements) {
    var random = new SplittableRandom(elements);
    var gate = fill(poisoned(arena, elements, bfloat16), _ -> (float) (4 * random.nextGaussian()));
    var up = gaussian(arena, random, elements, bfloat16);
    var dOut = gaussian(arena, random, elements, bfloat16);
    String name = elements + " elements";
    cases.add(forward(name, gate, up));
    cases.add(backward(name, dOut, gate, up));
  }

  private static KernelCase forward(String name, Floats gate, Floats up) {
    int elements = (int) gate.length();
    boolean bfloat16 = gate.bfloat16();
    return new KernelCase(
        "swiGlu " + name + (bfloat16 ? " in bfloat16" : ""),
        elements,
        List.of(Output.written("out", bfloat16, elements, 1)),
        (kernels, outputs, from, to) -> kernels.swiGlu(gate, up, outputs.getFirst(), from, to),
        () -> List.of(product(gate, up)));
  }

  private static Expected product(Floats gate, Floats up) {
    var out = new Expected((int) gate.length());
    for (int i = 0; i < gate.length(); i++) {
      double z = gate.get(i);
      double value = z * sigmoid(z) * up.get(i);
      out.set(i, value, Math.abs(value));
    }
    return out;
  }

  private static KernelCase backward(String name, Floats dOut, Floats gate, Floats up) {
    int elements = (int) gate.length();
    boolean bfloat16 = gate.bfloat16();
    return new KernelCase(
        "swiGluBackward " + name + (bfloat16 ? " in bfloat16" : ""),
        elements,
        List.of(
            Output.written("out", bfloat16, elements, 1),
            Output.written("dGate", bfloat16, elements, 1),
            Output.written("dUp", bfloat16, elements, 1)),
        (kernels, outputs, from, to) ->
            kernels.swiGluBackward(
                dOut, gate, up, outputs.get(0), outputs.get(1), outputs.get(2), from, to),
        () -> {
          var dGate = new Expected(elements);
          var dUp = new Expected(elements);
          for (int i = 0; i < elements; i++) {
            double z = gate.get(i);
            double d = dOut.get(i);
            double slope = d * up.get(i) * sigmoid(z);
            double rest = z * sigmoid(-z);
            dGate.set(i, slope * (1 + rest), Math.abs(slope) * (1 + Math.abs(rest)));
            dUp.set(i, d * z * sigmoid(z), Math.abs(d * z * sigmoid(z)));
          }
          return List.of(product(gate, up), dGate, dUp);
        });
  }

  /// A gate far below zero is shut however large the other factor is.
  @Test
  void saturatedGates() {
    try (var arena = Arena.ofConfined()) {
      float largest = Float.MAX_VALUE;
      float[] gates = {-largest, -1e30f, -200, 200, 1e30f, largest};
      float[] ups = {2, -1e20f, largest, 2, 1e8f, -1};
      float[] expected = {-0f, 0f, -0f, 400, 1e38f, -largest};
      var gate = fill(poisoned(arena, 6, false), i -> gates[i]);
      var up = fill(poisoned(arena, 6, false), i -> ups[i]);
      for (var kernels : ALL) {
        var out = poisoned(arena, 6, false);
        kernels.swiGlu(gate, up, out, 0, 6);
        for (int i = 0; i < 6; i++) {
          assertEquals(
              expected[i],
              out.get(i),
              Math.ulp(expected[i]),
              kernels.getClass().getSimpleName() + " " + gates[i]);
        }
      }
    }
  }

  /// The backward pass multiplies by what the forward pass multiplied by.
  @Test
  void bothPassesGiveTheSameBits() {
    try (var arena = Arena.ofConfined()) {
      for (boolean bfloat16 : new boolean[] {false, true}) {
        var random = new SplittableRandom(7);
        var gate = fill(poisoned(arena, 2100, bfloat16), _ -> (float) (4 * random.nextGaussian()));
        var up = gaussian(arena, random, 2100, bfloat16);
        for (var kernels : ALL) {
          var once = poisoned(arena, 2100, bfloat16);
          var again = poisoned(arena, 2100, bfloat16);
          kernels.swiGlu(gate, up, once, 0, 2100);
          kernels.swiGluBackward(
              up,
              gate,
              up,
              again,
              poisoned(arena, 2100, bfloat16),
              poisoned(arena, 2100, bfloat16),
              0,
              2100);
          assertArrayEquals(bytes(once), bytes(again), kernels.getClass().getSimpleName());
        }
      }
    }
  }
}
