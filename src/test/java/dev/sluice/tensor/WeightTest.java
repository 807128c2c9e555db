package dev.sluice.tensor;

import static dev.sluice.tensor.Differentiated.gaussian;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotSame;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.operations.Precision;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.SplittableRandom;
import java.util.function.Consumer;
import java.util.function.Function;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class WeightTest {
  private static final ElementType TYPE = ElementType.BFLOAT16;

  private final SplittableRandom random = new SplittableRandom(41);
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

  private Weight weight(int out, int in) {
    return new Weight("w", gaussian(random, ElementType.FLOAT32, out, in));
  }

  /// What libtorch makes of the numbers as they are now.
  private static float[] rounded(Weight weight) {
    return weight.leaf().detach().to(TYPE).floats();
  }

  /// Made once, also when the scope it was made in has closed; float32 is the leaf itself.
  @Test
  void aFormIsMadeOnce() {
    try (var weight = weight(65, 7)) {
      Tensor once;
      try (var _ = Scope.open()) {
        once = weight.of(TYPE);
      }
      assertSame(once, weight.of(TYPE));
      assertFalse(once.requiresGradient());
      assertArrayEquals(rounded(weight), once.floats());
      assertSame(weight.leaf(), weight.of(ElementType.FLOAT32));
      var x = gaussian(random, TYPE, 3, 7);
      var _ = Precision.BFLOAT16.linear(x, weight);
      var _ = Precision.BFLOAT16.logits(x, weight);
      assertSame(once, weight.of(TYPE));
    }
  }

  /// Whoever writes, and by whatever view: the next product takes the new numbers.
  @Test
  void noFormOutlivesTheNumbers() {
    var other = gaussian(random, ElementType.FLOAT32, 65, 65).detach();
    Map<String, Consumer<Weight>> writers = new LinkedHashMap<>();
    writers.put("fill", weight -> weight.leaf().fill(3));
    writers.put("copy", weight -> weight.leaf().copyFrom(other));
    writers.put("scale", weight -> weight.leaf().scaleInPlace(-2));
    writers.put("add", weight -> weight.leaf().addInPlace(other, 2));
    writers.put("upper", weight -> weight.leaf().keepUpperTriangle(0));
    writers.put("lower", weight -> weight.leaf().keepLowerTriangle(0));
    writers.put("detached", weight -> weight.leaf().detach().copyFrom(other));
    writers.put("detached twice", weight -> weight.leaf().detach().detach().fill(4));
    writers.put("reshaped", weight -> weight.leaf().detach().reshape(-1).fill(5));
    writers.put("narrowed", weight -> weight.leaf().detach().narrow(0, 64, 1).fill(6));
    writers.put("transposed", weight -> weight.leaf().detach().transpose(0, 1).copyFrom(other));
    writers.put("memory", weight -> weight.write(m -> m.setAtIndex(ValueLayout.JAVA_FLOAT, 9, 8)));
    writers.put(
        "memory and failure",
        weight ->
            assertThrows(
                IllegalStateException.class,
                () ->
                    weight.write(
                        m -> {
                          m.setAtIndex(ValueLayout.JAVA_FLOAT, 9, 8);
                          var _ = weight.of(TYPE); // in the middle of the change
                          m.setAtIndex(ValueLayout.JAVA_FLOAT, 11, 8);
                          throw new IllegalStateException("no more");
                        })));
    var x = gaussian(random, TYPE, 3, 65);
    writers.forEach(
        (name, writer) -> {
          try (var weight = weight(65, 65)) {
            float[] before = weight.of(TYPE).floats();
            var _ = Precision.BFLOAT16.linear(x, weight);
            try (var _ = Scope.withoutGradient()) {
              writer.accept(weight);
            }
            assertTrue(!Arrays.equals(before, rounded(weight)), name);
            assertArrayEquals(rounded(weight), weight.of(TYPE).floats(), name);
            var fresh = new Weight("fresh", weight.leaf().times(1).detach());
            assertArrayEquals(
                Precision.BFLOAT16.linear(x, fresh).floats(),
                Precision.BFLOAT16.linear(x, weight).floats(),
                name);
          }
        });
  }

  /// Memory that was written to past libtorch is not counted, so that nobody can write to it.
  @Test
  void memoryCanOnlyBeRead() {
    try (var weight = weight(5, 7)) {
      List<Function<Tensor, Tensor>> views =
          List.of(
              leaf -> leaf,
              Tensor::detach,
              Tensor::contiguous,
              leaf -> leaf.to(ElementType.FLOAT32),
              leaf -> leaf.to(Device.CPU),
              leaf -> leaf.reshape(35),
              leaf -> leaf.narrow(0, 1, 2),
              leaf -> leaf.transpose(0, 1).transpose(0, 1),
              leaf -> leaf.detach().reshape(7, 5).narrow(0, 0, 3));
      for (var view : views) {
        var tensor = view.apply(weight.leaf());
        assertTrue(tensor.memory().isReadOnly());
        assertTrue(tensor.numbers().memory().isReadOnly());
        assertTrue(tensor.spanned().memory().isReadOnly());
      }
      assertTrue(weight.leaf().transpose(0, 1).spanned().memory().isReadOnly());
      assertFalse(weight.leaf().times(1).memory().isReadOnly());
      assertFalse(weight.of(TYPE).memory().isReadOnly());
    }
  }

  /// The gradient is that of the numbers that the forward pass took, though they have changed and a
  /// new form has taken the old one's place.
  @Test
  void theBackwardPassTakesWhatTheForwardPassTook() {
    var x = gaussian(random, TYPE, 3, 7);
    var same = x.detach().requireGradient(true);
    var upstream = gaussian(random, TYPE, 3, 65).detach();
    try (var weight = weight(65, 7);
        var unchanged = new Weight("same", weight.leaf().detach().times(1))) {
      Precision.BFLOAT16.linear(same, unchanged).backward(upstream);
      var y = Precision.BFLOAT16.linear(x, weight);
      var before = weight.of(TYPE);
      weight.leaf().detach().fill(9);
      assertNotSame(before, weight.of(TYPE));
      y.backward(upstream);
      assertArrayEquals(
          Objects.requireNonNull(same.gradient()).floats(),
          Objects.requireNonNull(x.gradient()).floats());
    }
  }

  /// By libtorch's own operations, as on other devices: the leaf has the cast's gradient where
  /// gradients are recorded, and nothing is cast again where they are not.
  @Test
  void recordedCastsLeadToTheLeaf() {
    try (var weight = weight(5, 7)) {
      weight.recorded(TYPE).sum().backward();
      float[] ones = new float[35];
      Arrays.fill(ones, 1);
      assertArrayEquals(ones, Objects.requireNonNull(weight.leaf().gradient()).floats());
      try (var _ = Scope.withoutGradient()) {
        assertSame(weight.of(TYPE), weight.recorded(TYPE));
      }
    }
  }

  @Test
  void whatIsNotTrainedGetsNoGradient() {
    var declared =
        Map.of("a", ParameterSpec.drawn(3, 2), "b", ParameterSpec.constant(0, 4).untrained());
    var tensors =
        Map.of(
            "a",
            Tensor.zeros(ElementType.FLOAT32, 3, 2),
            "b",
            Tensor.zeros(ElementType.FLOAT32, 4));
    try (var parameters = new Parameters(declared, tensors)) {
      parameters.requireGradients(true);
      assertTrue(parameters.get("a").requiresGradient());
      assertFalse(parameters.get("b").requiresGradient());
      parameters.requireGradients(false);
      assertFalse(parameters.get("a").requiresGradient());
    }
    var swapped = Map.of("a", declared.get("b"), "b", declared.get("a"));
    assertThrows(IllegalArgumentException.class, () -> new Parameters(swapped, tensors));
    assertThrows(
        IllegalArgumentException.class,
        () -> new Parameters(Map.of("a", ParameterSpec.drawn(3, 2)), tensors));
  }
}
