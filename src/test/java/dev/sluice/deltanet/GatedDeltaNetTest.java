package dev.sluice.deltanet;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.sluice.operations.DeltaHeads;
import dev.sluice.operations.DeltaRates;
import dev.sluice.operations.Operations;
import dev.sluice.operations.ShortConvolution;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;

/// The operations in the order of a layer of Qwen3-Next, against what an implementation of the
/// reference's formulas gives in float64 for numbers that anybody can make again.
class GatedDeltaNetTest {
  private static final int HIDDEN = 12;
  private static final int TOKENS = 9;
  private static final double EPSILON = 1e-6;
  private static final DeltaHeads HEADS = new DeltaHeads(2, 4, 4, 4);

  private static final double[][] RIGHT = {
    {
      -2.586518470392128,
      -2.446812342020363,
      -1.418227638648069,
      -0.6333534050057749,
      0.5188068342035841,
      1.4647828101985538,
      2.2109918071479195,
      2.8245346043037447,
      2.7678405934158103,
      2.7955605586709287,
      1.8725680974089887,
      1.4274901430865121
    },
    {
      -0.1476805631940459,
      0.8620402721285947,
      0.051312938975725225,
      0.7875933268520826,
      0.03308221831082832,
      0.4864745277120592,
      -0.15111984892903824,
      0.06630081230599189,
      -0.3618910503218139,
      -0.30890829821034,
      -0.4434097082820241,
      -0.5001252033467882
    },
    {
      1.4330920550982436,
      1.9566416058263525,
      2.142717193625889,
      1.9087441379121846,
      1.7879571875420304,
      0.8526729002378012,
      0.6021729943778185,
      -0.731866135537718,
      -0.7638487808534773,
      -2.095520245519327,
      -1.5719515512540763,
      -2.5961006052066065
    },
    {
      4.988201137769719,
      2.789006693352451,
      1.0686358272651442,
      -1.619106909142257,
      -3.288445227361152,
      -5.309256698959004,
      -5.889344604698664,
      -6.411302672369933,
      -5.429730667119461,
      -4.358939493889563,
      -2.1528377165828454,
      -0.17587041845545268
    },
    {
      2.471777269931889,
      -0.23763262240433577,
      0.8588883829800463,
      -1.8786632873865354,
      -0.7292609486722181,
      -3.0197597687104683,
      -1.513965199083995,
      -3.055378207599704,
      -1.1348393518145699,
      -1.9257952069000825,
      0.16929647080291668,
      -0.148477672939783
    },
    {
      1.6968987019160011,
      0.6110710735606366,
      0.4692670353345478,
      -0.7905294875854684,
      -0.8651309713519479,
      -1.9262981287272312,
      -1.6274110867912643,
      -2.2261618685517557,
      -1.4314634590894928,
      -1.538038385985752,
      -0.37890659924818265,
      -0.2046308825553825
    },
    {
      -1.37156722599739,
      -0.318541030693041,
      -0.7106342163489112,
      0.5678564181559512,
      0.11474445786098902,
      1.371692772796845,
      0.6697803483715807,
      1.7022459327306088,
      0.662369131846286,
      1.4013096617446252,
      0.09089901212023893,
      0.6228060520819884
    },
    {
      -5.5173512572299845,
      -3.559430061656196,
      -5.277313825553348,
      -2.092433212875187,
      -2.8921213668716903,
      0.9551342245290196,
      0.42731646553170327,
      4.043926167701855,
      3.0138333185208905,
      5.598485180165827,
      3.5853756272640394,
      4.803038238977467
    },
    {
      -0.6884703050183397,
      -0.07814835027537342,
      0.28549461159303613,
      0.8830039935230413,
      1.08195172342608,
      1.4332910431019168,
      1.2960711403938188,
      1.2971586807629385,
      0.8180555670928856,
      0.5444857213463531,
      -0.11138193082134433,
      -0.4447261424546412
    }
  };

  private final Scope scope = Scope.withoutGradient();
  private final Tensor qkvz;
  private final Tensor ba;
  private final Tensor convolution;
  private final Tensor logA;
  private final Tensor bias;
  private final Tensor norm;
  private final Tensor out;
  private final Tensor x;

  GatedDeltaNetTest() {
    this.qkvz = made(0.1, 0.5, 48, HIDDEN);
    this.ba = made(0.2, 0.5, 8, HIDDEN);
    this.convolution = made(0.3, 0.5, HEADS.channels(), 4);
    this.logA = made(0.4, 1, 4);
    this.bias = made(0.5, 1, 4);
    this.norm = made(0.6, 0.2, 4).plus(1);
    this.out = made(0.7, 0.5, HIDDEN, 16);
    this.x = made(0.8, 1, TOKENS, HIDDEN);
  }

  private static Tensor made(double phase, double size, long... shape) {
    double[] values = new double[(int) Arrays.stream(shape).reduce(1, (a, b) -> a * b)];
    for (int i = 0; i < values.length; i++) {
      values[i] = size * Math.sin(0.37 * i + phase) + 0.3 * size * Math.cos(0.191 * i + 2 * phase);
    }
    return Tensor.of(values, shape);
  }

  /// The rows of a packed weight that belong together: `count` from `from` on of each of the key
  /// heads' pieces.
  private static Tensor unpacked(Tensor weight, int from, int count) {
    int piece = (int) weight.size(0) / HEADS.keyHeads();
    var parts = new ArrayList<Tensor>();
    for (int head = 0; head < HEADS.keyHeads(); head++) {
      parts.add(weight.narrow(0, (long) head * piece + from, count));
    }
    return Tensor.concatenate(parts, 0);
  }

  /// What carries a sequence from one call to the next.
  private static final class Carried {
    private Tensor history;
    private Tensor state;
  }

  private interface Layer {
    Tensor of(Tensor tokens, Carried carried);
  }

  private static Tensor asSequence(Tensor x) {
    return x.reshape(1, x.size(0), x.size(1));
  }

  private Tensor composed(Tensor tokens, Carried carried) {
    var mixed = asSequence(tokens.linear(mixedWeight()));
    var rates = logits(tokens).rates();
    var convolved = Operations.COMPOSED.shortConvolution(mixed, convolution, carried.history, null);
    var result =
        Operations.COMPOSED.deltaRule(
            convolved, rates.decaysBTN(), rates.ratesBTN(), carried.state, HEADS);
    carried.history = ShortConvolution.history(mixed, convolution, carried.history);
    carried.state = result.state();
    return projected(
        Operations.COMPOSED.gatedHeadNorm(result.yBTNV(), gate(tokens), norm, EPSILON));
  }

  private Tensor fused(Tensor tokens, Carried carried) {
    var mixed = asSequence(tokens.linear(mixedWeight())).to(ElementType.FLOAT32);
    var logits = logits(tokens);
    var weight = convolution.to(ElementType.FLOAT32);
    var convolved = Operations.FUSED.shortConvolution(mixed, weight, carried.history, null);
    Tensor y;
    if (tokens.size(0) == 1 && carried.state != null) {
      y = Operations.FUSED.deltaSteps(convolved, logits, List.of(carried.state), null, HEADS);
    } else {
      var rates = logits.rates();
      var decays = rates.decaysBTN().to(ElementType.FLOAT32);
      var learned = rates.ratesBTN().to(ElementType.FLOAT32);
      var result = Operations.FUSED.deltaRule(convolved, decays, learned, carried.state, HEADS);
      y = result.yBTNV();
      carried.state = result.state();
    }
    carried.history = ShortConvolution.history(mixed, weight, carried.history);
    var gated =
        Operations.FUSED.gatedHeadNorm(
            y, gate(tokens).to(ElementType.FLOAT32), norm.to(ElementType.FLOAT32), EPSILON);
    return projected(gated.to(ElementType.FLOAT64));
  }

  /// Of the queries of all heads, then the keys, then the values.
  private Tensor mixedWeight() {
    return Tensor.concatenate(
        List.of(unpacked(qkvz, 0, 4), unpacked(qkvz, 4, 4), unpacked(qkvz, 8, 8)), 0);
  }

  private DeltaRates.Logits logits(Tensor tokens) {
    var b = asSequence(tokens.linear(unpacked(ba, 0, 2)));
    var a = asSequence(tokens.linear(unpacked(ba, 2, 2)));
    return new DeltaRates.Logits(a, b, logA, bias);
  }

  private Tensor gate(Tensor tokens) {
    return tokens.linear(unpacked(qkvz, 16, 8)).reshape(1, tokens.size(0), 4, 4);
  }

  private Tensor projected(Tensor y) {
    return y.reshape(y.size(1), 16).linear(out);
  }

  private void assertRight(Layer layer, double tolerance, int... cuts) {
    var carried = new Carried();
    for (int i = 0; i + 1 < cuts.length; i++) {
      double[] y =
          layer.of(x.narrow(0, cuts[i], cuts[i + 1] - cuts[i]).contiguous(), carried).doubles();
      for (int at = 0; at < y.length; at++) {
        assertEquals(RIGHT[cuts[i] + at / HIDDEN][at % HIDDEN], y[at], tolerance);
      }
    }
  }

  /// In one pass, in two pieces, and some tokens at once and the rest one by one.
  @Test
  void theDefinitionIsTheReference() {
    try (scope) {
      assertRight(this::composed, 1e-12, 0, 9);
      assertRight(this::composed, 1e-12, 0, 2, 9);
      assertRight(this::composed, 1e-12, 0, 5, 6, 7, 8, 9);
    }
  }

  /// The same in float32.
  @Test
  void theFusedOperationsAreTheReference() {
    try (scope) {
      assertRight(this::fused, 2e-5, 0, 9);
      assertRight(this::fused, 2e-5, 0, 2, 9);
      assertRight(this::fused, 2e-5, 0, 5, 6, 7, 8, 9);
      assertRight(this::fused, 2e-5, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9);
    }
  }
}
