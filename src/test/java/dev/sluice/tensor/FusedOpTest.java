package dev.sluice.tensor;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Objects;
import java.util.SplittableRandom;
import java.util.function.BinaryOperator;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Assertions;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.parallel.Isolated;

/// A toy operation, y = a · b with a backward pass written by hand, against libtorch's own.
@Isolated("measures what the whole process takes")
class FusedOpTest {
  private final SplittableRandom random = new SplittableRandom(7);
  private Scope scope;

  @BeforeEach
  void open() {
    Libtorch.poisonUninitialized(true);
    scope = Scope.open();
  }

  @AfterEach
  void close() {
    scope.close();
    Libtorch.poisonUninitialized(false);
  }

  private static Tensor product(Tensor a, Tensor b) {
    return FusedOp.apply(
        "test",
        List.of(a, b),
        List.of(a, b),
        () -> a.times(b),
        upstream -> new Tensor[] {upstream.times(b), upstream.times(a)});
  }

  private Tensor leaf(long... shape) {
    int elements = 1;
    for (long length : shape) {
      elements *= (int) length;
    }
    float[] values = new float[elements];
    for (int i = 0; i < elements; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return Tensor.of(values, shape).requireGradient(true);
  }

  /// The gradients of `loss` at the leaves, which are forgotten again.
  private static float[][] gradients(Tensor loss, Tensor... leaves) {
    loss.backward();
    float[][] gradients = new float[leaves.length][];
    for (int i = 0; i < leaves.length; i++) {
      gradients[i] = gradient(leaves[i]);
      leaves[i].clearGradient();
    }
    return gradients;
  }

  private static float[] gradient(Tensor leaf) {
    return Objects.requireNonNull(leaf.gradient()).floats();
  }

  private interface Model {
    Tensor loss(BinaryOperator<Tensor> product);
  }

  /// Value and gradients with the fused product equal those with libtorch's.
  private static void assertSame(Model model, Tensor... leaves) {
    var fused = model.loss(FusedOpTest::product);
    var composed = model.loss(Tensor::times);
    assertEquals(composed.item(), fused.item(), 1e-6 * Math.abs(composed.item()));
    float[][] expected = gradients(composed, leaves);
    float[][] actual = gradients(fused, leaves);
    for (int i = 0; i < leaves.length; i++) {
      assertArrayEquals(expected[i], actual[i], 1e-6f, "gradient of input " + i);
    }
  }

  @Test
  void valueAndGradients() {
    for (long[] shape : new long[][] {{1}, {7}, {2, 3}, {2, 3, 5}, {1, 7, 2, 3}}) {
      var a = leaf(shape);
      var b = leaf(shape);
      var weight = leaf(shape).requireGradient(false);
      assertSame(product -> product.apply(a, b).times(weight).sum(), a, b);
    }
  }

  @Test
  void onlyOneInputRequiresAGradient() {
    var a = leaf(3, 5);
    var b = leaf(3, 5).requireGradient(false);
    assertSame(product -> product.apply(a, b).square().sum(), a);
    assertSame(product -> product.apply(b, a).square().sum(), a);
    assertNull(b.gradient());
  }

  @Test
  void inputUsedTwice() {
    var a = leaf(3, 5);
    assertSame(product -> product.apply(a, a).square().sum(), a);
  }

  @Test
  void resultUsedTwice() {
    var a = leaf(3, 5);
    var b = leaf(3, 5);
    assertSame(
        product -> {
          var y = product.apply(a, b);
          return y.sigmoid().plus(y.times(3)).sum();
        },
        a,
        b);
  }

  /// Its gradient is summed from what both hand over directly and from what libtorch sends.
  @Test
  void resultUsedByTwoFusedOperations() {
    var a = leaf(3, 5);
    var b = leaf(3, 5);
    assertSame(
        product -> {
          var y = product.apply(a, b);
          var both = product.apply(y, a).plus(product.apply(b, y));
          return both.plus(y.sigmoid()).square().sum();
        },
        a,
        b);
  }

  @Test
  void chained() {
    var a = leaf(3, 5);
    var b = leaf(3, 5);
    var c = leaf(3, 5);
    assertSame(
        product -> product.apply(product.apply(a, b), product.apply(b, c)).square().sum(), a, b, c);
  }

  /// More operations at once than the native side has slots for plain function pointers (ten).
  @Test
  void hundredsInOneGraph() {
    var a = Tensor.of(new float[] {1.001f}, 1).requireGradient(true);
    assertSame(
        product -> {
          var y = a;
          for (int i = 0; i < 300; i++) {
            y = product.apply(y, a);
          }
          return y.sum();
        },
        a);
  }

  @Test
  void insideADeeperGraph() {
    var x = leaf(4, 6);
    var first = leaf(8, 6);
    var second = leaf(8, 6);
    var third = leaf(5, 8);
    assertSame(
        product -> {
          var hidden = x;
          hidden = product.apply(hidden.linear(first).silu(), hidden.linear(second));
          hidden = hidden.linear(third).softmax(-1);
          return product.apply(hidden, hidden.sigmoid()).square().sum();
        },
        x,
        first,
        second,
        third);
  }

  @Test
  void viewsAsInputs() {
    var a = leaf(3, 5);
    var b = leaf(5, 3);
    assertSame(product -> product.apply(a.transpose(0, 1), b).square().sum(), a, b);
    assertSame(product -> product.apply(a.narrow(1, 1, 2), a.narrow(1, 3, 2)).square().sum(), a);
  }

  @Test
  void withoutGradientNothingIsRecorded() {
    var a = leaf(3, 5);
    var b = leaf(3, 5);
    try (var _ = Scope.withoutGradient()) {
      assertFalse(product(a, b).requiresGradient());
    }
    assertFalse(product(a.detach(), b.detach()).requiresGradient());
    assertTrue(product(a, b).requiresGradient());
  }

  @Test
  void gradientsAddUpOverTwoBackwards() {
    var a = leaf(3, 5);
    var b = leaf(3, 5);
    product(a, b).sum().backward();
    float[] once = gradient(a);
    product(a, b).sum().backward();
    float[] twice = gradient(a);
    for (int i = 0; i < once.length; i++) {
      assertEquals(2 * once[i], twice[i], 1e-6);
    }
  }

  @Test
  void upstreamGradientIsPassedIn() {
    var a = leaf(3, 5);
    var b = leaf(3, 5);
    var upstream = leaf(5, 3).requireGradient(false).transpose(0, 1); // not contiguous
    product(a, b).backward(upstream);
    assertArrayEquals(upstream.times(b).floats(), gradient(a), 1e-6f);
  }

  /// Passes whose backward has yet to come outlive the backward of another pass.
  @Test
  void twoForwardsThenTwoBackwards() {
    var a = leaf(3, 5);
    var b = leaf(3, 5);
    float[][] first = gradients(product(a, b).square().sum(), a, b);
    float[][] second = gradients(product(a, b).sigmoid().sum(), a, b);
    for (boolean swapped : new boolean[] {false, true}) {
      var one = product(a, b).square().sum();
      var other = product(a, b).sigmoid().sum();
      var results = new float[2][][];
      results[swapped ? 1 : 0] = gradients(swapped ? other : one, a, b);
      results[swapped ? 0 : 1] = gradients(swapped ? one : other, a, b);
      for (int i = 0; i < 2; i++) {
        assertArrayEquals(first[i], results[0][i], 1e-6f);
        assertArrayEquals(second[i], results[1][i], 1e-6f);
      }
    }
  }

  @Test
  void secondBackwardOverTheSameGraphFailsLoudly() {
    var a = leaf(3, 5);
    var loss = product(a, a).sum();
    loss.backward();
    float[] once = gradient(a);
    product(a.times(2), a).sum(); // a pass in between cleans up
    assertThrows(RuntimeException.class, loss::backward);
    assertArrayEquals(once, gradient(a));
  }

  /// It passes libtorch's engine, which would leave its words only.
  @Test
  void whatABackwardPassThrowsComesOutAsItIs() {
    for (var thrown :
        new Throwable[] {
          new IllegalStateException("the backward pass is wrong"),
          new OutOfMemoryError("no memory for a tensor"),
          new InvalidInputException("oneDNN is missing")
        }) {
      var a = leaf(3, 5);
      var y =
          FusedOp.apply(
              "test",
              List.of(a),
              List.of(a),
              () -> a.times(2),
              _ -> {
                if (thrown instanceof Error error) {
                  throw error;
                }
                throw (RuntimeException) thrown;
              });
      var loss = product(y, y).sum();
      Assertions.assertSame(thrown, assertThrows(Throwable.class, loss::backward));
      assertSame(product -> product.apply(a, a).sum(), a);
      // what libtorch itself refuses stays what it is
      var refused = assertThrows(RuntimeException.class, () -> product(a, a).backward());
      assertTrue(refused.getMessage().contains("scalar outputs"), refused::toString);
    }
  }

  @Test
  void gradientOutlivesItsLeafsGradient() {
    Tensor gradient;
    try (var inner = Scope.open()) {
      var a = leaf(3);
      product(a, a).sum().backward();
      gradient = inner.keep(Objects.requireNonNull(a.gradient()));
      a.clearGradient();
      assertNull(a.gradient());
    }
    assertEquals(3, gradient.floats().length);
  }

  // ---------------------------------------------------------------- memory

  private static final int MEGABYTE = 1 << 20;

  private static long residentBytes() throws IOException {
    return Long.parseLong(Files.readString(Path.of("/proc/self/statm")).split(" ")[1]) * 4096;
  }

  private void pass(Tensor a, Tensor b, boolean backward) {
    try (var _ = Scope.open()) {
      var loss = product(product(a, b).sigmoid(), b).sum();
      if (backward) {
        loss.backward();
        a.clearGradient();
        b.clearGradient();
      }
    }
  }

  @Test
  void twoThousandPassesKeepResidentMemoryFlat() throws IOException {
    var a = leaf(MEGABYTE / 4);
    var b = leaf(MEGABYTE / 4);
    for (int i = 0; i < 50; i++) {
      pass(a, b, true);
    }
    long before = residentBytes();
    for (int i = 0; i < 2000; i++) {
      pass(a, b, true);
    }
    long grown = residentBytes() - before;
    assertTrue(grown < 64L * MEGABYTE, () -> "grew by " + grown / MEGABYTE + " MB");
  }

  /// A forward pass whose graph is dropped holds nothing past the next backward.
  @Test
  void abandonedPassesAreFreed() throws IOException {
    var a = leaf(4 * MEGABYTE / 4);
    var b = leaf(4 * MEGABYTE / 4);
    pass(a, b, true);
    long before = residentBytes();
    for (int round = 0; round < 4; round++) {
      for (int i = 0; i < 20; i++) {
        pass(a, b, false);
      }
      pass(a, b, true);
    }
    long grown = residentBytes() - before;
    assertTrue(grown < 64L * MEGABYTE, () -> "grew by " + grown / MEGABYTE + " MB");
  }
}
