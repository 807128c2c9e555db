package dev.sluice.tensor;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import org.jspecify.annotations.Nullable;

/// What an operation gives, and the gradients of what it is given, to compare ways of computing it.
public record Differentiated(List<Part> parts) {
  /// A result, or the gradient of an input.
  ///
  /// @param type that the numbers were stored in
  /// @param values null where there is no gradient
  public record Part(String name, ElementType type, double @Nullable [] values) {
    double largest() {
      double largest = 0;
      for (double value : values == null ? new double[0] : values) {
        largest = Math.max(largest, Math.abs(value));
      }
      return largest;
    }
  }

  /// An operation with several inputs and results.
  @FunctionalInterface
  public interface Operation {
    List<Tensor> apply(List<Tensor> inputs);
  }

  /// Runs forwards and backwards from copies of the inputs, which require gradients where the
  /// inputs do.
  ///
  /// @param upstreams for each result ∂L/∂y, or null where the loss does not depend on it
  public static Differentiated of(
      Operation operation, List<Tensor> inputs, List<@Nullable Tensor> upstreams) {
    try (var _ = Scope.open()) {
      return differentiate(
          operation, inputs.stream().map(Differentiated::leaf).toList(), upstreams);
    }
  }

  /// The same with all numbers in float64.
  public static Differentiated exact(
      Operation operation, List<Tensor> inputs, List<@Nullable Tensor> upstreams) {
    try (var _ = Scope.open()) {
      var wide = new ArrayList<Tensor>();
      for (var input : inputs) {
        boolean number = input.type().isFloatingPoint();
        var copy = number ? input.detach().to(ElementType.FLOAT64) : input;
        wide.add(copy.detach().requireGradient(input.requiresGradient()));
      }
      return differentiate(operation, wide, upstreams);
    }
  }

  private static Tensor leaf(Tensor input) {
    return input.detach().requireGradient(input.requiresGradient());
  }

  private static Differentiated differentiate(
      Operation operation, List<Tensor> leaves, List<@Nullable Tensor> upstreams) {
    var results = operation.apply(leaves);
    Tensor loss = Tensor.zeros(ElementType.FLOAT64, 1).to(results.getFirst().device());
    for (int i = 0; i < results.size(); i++) {
      var upstream = upstreams.get(i);
      if (upstream != null) {
        var wide = results.get(i).to(ElementType.FLOAT64);
        loss = loss.plus(wide.times(upstream.to(ElementType.FLOAT64)).sum());
      }
    }
    if (loss.requiresGradient()) {
      loss.backward();
    }
    var parts = new ArrayList<Part>();
    for (int i = 0; i < results.size(); i++) {
      var result = results.get(i).detach();
      parts.add(new Part("result " + i, result.type(), result.doubles()));
    }
    for (int i = 0; i < leaves.size(); i++) {
      var gradient = leaves.get(i).gradient();
      parts.add(
          new Part(
              "gradient of input " + i,
              leaves.get(i).type(),
              gradient == null ? null : gradient.doubles()));
    }
    return new Differentiated(parts);
  }

  /// Within `relative` of the largest number of each part, and half a bfloat16 ulp of a number that
  /// is stored as bfloat16.
  public void assertClose(Differentiated exact, double relative, String what) {
    assertClose(exact, null, relative, what);
  }

  /// Within `relative` of the sum of each number's terms' magnitudes.
  public void assertClose(
      Differentiated exact, @Nullable Differentiated terms, double relative, String what) {
    assertEquals(exact.parts.size(), parts.size(), what);
    for (int k = 0; k < parts.size(); k++) {
      var part = parts.get(k);
      var right = exact.parts.get(k);
      String name = what + ": " + part.name;
      if (right.values == null || part.values == null) {
        assertEquals(right.values == null, part.values == null, name + " is there");
        continue;
      }
      assertEquals(right.values.length, part.values.length, name);
      double[] sizes = terms == null ? null : terms.parts.get(k).values;
      double largest = right.largest();
      double rounding = part.type == ElementType.BFLOAT16 ? 0x1p-8 : 0;
      for (int i = 0; i < right.values.length; i++) {
        double expected = right.values[i];
        double actual = part.values[i];
        double tolerance =
            relative * (sizes == null ? largest : sizes[i])
                + rounding * Math.abs(expected)
                + Float.MIN_NORMAL;
        if (!(Math.abs(expected - actual) <= tolerance)) {
          assertEquals(expected, actual, tolerance, name + "[" + i + "]");
        }
      }
    }
  }

  /// Equal to the last bit.
  public void assertEqualTo(Differentiated other, String what) {
    for (int k = 0; k < parts.size(); k++) {
      assertArrayEquals(
          other.parts.get(k).values, parts.get(k).values, what + ": " + parts.get(k).name);
    }
  }

  /// For each input that requires a gradient: alone, it gets the same gradient as together with the
  /// others, which then get none.
  public static void assertEachGradientAlone(
      Operation operation, List<Tensor> inputs, List<@Nullable Tensor> upstreams) {
    var together = of(operation, inputs, upstreams);
    int first = upstreams.size();
    for (int wanted = 0; wanted < inputs.size(); wanted++) {
      if (!inputs.get(wanted).requiresGradient()) {
        continue;
      }
      var some = new ArrayList<Tensor>();
      for (int i = 0; i < inputs.size(); i++) {
        some.add(inputs.get(i).detach().requireGradient(i == wanted));
      }
      var alone = of(operation, some, upstreams);
      for (int i = 0; i < inputs.size(); i++) {
        var values = alone.parts.get(first + i).values;
        String name = "gradient of input " + i + " when " + wanted + "'s is wanted";
        assertArrayEquals(i == wanted ? together.parts.get(first + i).values : null, values, name);
      }
    }
    var none = inputs.stream().map(Tensor::detach).toList();
    try (var _ = Scope.open()) {
      assertTrue(operation.apply(none).stream().noneMatch(Tensor::requiresGradient));
    }
  }

  /// A leaf with normally distributed numbers of that type.
  public static Tensor gaussian(SplittableRandom random, ElementType type, long... shape) {
    int elements = 1;
    for (long length : shape) {
      elements *= (int) length;
    }
    float[] values = new float[elements];
    for (int i = 0; i < elements; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return Tensor.of(values, shape).to(type).detach().requireGradient(true);
  }

  /// A float32 leaf whose numbers bfloat16 has too.
  public static Tensor rounded(SplittableRandom random, long... shape) {
    return gaussian(random, ElementType.BFLOAT16, shape)
        .to(ElementType.FLOAT32)
        .detach()
        .requireGradient(true);
  }
}
