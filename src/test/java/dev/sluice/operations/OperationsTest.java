package dev.sluice.operations;

import static dev.sluice.tensor.Differentiated.gaussian;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotSame;
import static org.junit.jupiter.api.Assertions.assertSame;

import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// That the fused operations are the composed ones, where an operation's own test does not say so.
class OperationsTest {
  private final SplittableRandom random = new SplittableRandom(31);
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

  private Tensor numbers(long... shape) {
    return gaussian(random, ElementType.FLOAT32, shape).detach();
  }

  @Test
  void theCpuHasTheFusedOnes() {
    assertSame(Operations.FUSED, Operations.of(numbers(1)));
    assertNotSame(Operations.FUSED, Operations.COMPOSED);
  }

  @ParameterizedTest(name = "T{0} window {1} sinks {2} gate {3}")
  @CsvSource({
    "1,0,false,none",
    "7,0,true,none",
    "65,0,false,headwise",
    "65,9,false,elementwise",
    "63,9,true,headwise",
    "33,40,true,elementwise"
  })
  void attention(int tokens, int window, boolean withSinks, String gate) {
    var q = numbers(2, tokens, 4, 6);
    var k = numbers(2, tokens, 2, 6);
    var v = numbers(2, tokens, 2, 6);
    var sinks = withSinks ? numbers(4) : null;
    var logits =
        switch (gate) {
          case "headwise" -> numbers(2, tokens, 4);
          case "elementwise" -> numbers(2, tokens, 4, 6);
          default -> null;
        };
    assertArrayEquals(
        Operations.COMPOSED.attention(q, k, v, sinks, logits, window, null).floats(),
        Operations.FUSED.attention(q, k, v, sinks, logits, window, null).floats(),
        4e-6f);
  }

  @ParameterizedTest(name = "{0} of {1} window {2} sinks {3}")
  @CsvSource({
    "1,70,0,false",
    "1,70,9,true",
    "5,70,0,false",
    "5,5,0,false",
    "5,5,0,true",
    "2,70,9,true",
    "130,190,70,false",
    "7,70,9,false",
    "7,70,9,true"
  })
  void cachedAttention(int tokens, int keys, int window, boolean withSinks) {
    var q = numbers(2, tokens, 4, 6);
    var k = List.of(numbers(1, keys, 2, 6), numbers(1, keys + 65, 2, 6));
    var v = List.of(numbers(1, keys, 2, 6), numbers(1, keys + 65, 2, 6));
    var sinks = withSinks ? numbers(4) : null;
    for (var gate : new Tensor[] {null, numbers(2, tokens, 4), numbers(2, tokens, 4, 6)}) {
      float[] both = Operations.FUSED.cachedAttention(q, k, v, sinks, gate, window).floats();
      float[] defined = Operations.COMPOSED.cachedAttention(q, k, v, sinks, gate, window).floats();
      assertArrayEquals(defined, both, 4e-6f);
      assertArrayEquals(
          defined,
          Operations.LIBTORCH.cachedAttention(q, k, v, sinks, gate, window).floats(),
          4e-6f);
      var alone =
          Operations.FUSED.cachedAttention(
              q.narrow(0, 1, 1),
              k.subList(1, 2),
              v.subList(1, 2),
              sinks,
              gate == null ? null : gate.narrow(0, 1, 1),
              window);
      assertArrayEquals(
          alone.floats(), Arrays.copyOfRange(both, both.length / 2, both.length), "the same bits");
    }
  }

  /// In the queries' type, over what is kept in float32: as over all tokens at once.
  @Test
  void cachedAttentionInBfloat16() {
    var q = numbers(1, 70, 4, 6).to(ElementType.BFLOAT16);
    var k = numbers(1, 70, 2, 6).to(ElementType.BFLOAT16);
    var v = numbers(1, 70, 2, 6).to(ElementType.BFLOAT16);
    var all = Operations.FUSED.attention(q, k, v, null, null, 0, null);
    var last =
        Operations.FUSED.cachedAttention(
            q.narrow(1, 60, 10),
            List.of(k.to(ElementType.FLOAT32)),
            List.of(v.to(ElementType.FLOAT32)),
            null,
            null,
            0);
    assertEquals(ElementType.BFLOAT16, last.type());
    assertArrayEquals(all.narrow(1, 60, 10).floats(), last.floats(), 0x1p-7f);
  }

  /// Steps change each row's own state, whatever way they are computed, and tell what it was before
  /// the last one.
  @ParameterizedTest
  @CsvSource({"1, 1", "3, 1", "1, 2", "3, 2"})
  void deltaSteps(int rows, int tokens) {
    var heads = new DeltaHeads(1, 2, 5, 7);
    var mixed = numbers(rows, tokens, heads.channels());
    var logits =
        new DeltaRates.Logits(
            numbers(rows, tokens, 2), numbers(rows, tokens, 2), numbers(2), numbers(2));
    var fused = new ArrayList<Tensor>();
    var composed = new ArrayList<Tensor>();
    var fusedBefore = new ArrayList<Tensor>();
    var composedBefore = new ArrayList<Tensor>();
    for (int row = 0; row < rows; row++) {
      fused.add(numbers(1, 2, 5, 7));
      composed.add(fused.getLast().times(1));
      fusedBefore.add(numbers(1, 2, 5, 7));
      composedBefore.add(numbers(1, 2, 5, 7));
    }
    assertArrayEquals(
        Operations.COMPOSED.deltaSteps(mixed, logits, composed, composedBefore, heads).floats(),
        Operations.FUSED.deltaSteps(mixed, logits, fused, fusedBefore, heads).floats(),
        4e-6f);
    for (int row = 0; row < rows; row++) {
      assertArrayEquals(composed.get(row).floats(), fused.get(row).floats(), 4e-6f, "row " + row);
      assertArrayEquals(
          composedBefore.get(row).floats(), fusedBefore.get(row).floats(), 4e-6f, "row " + row);
    }
  }

  @Test
  void norm() {
    var tensors =
        List.of(numbers(7), numbers(300, 301), numbers(1, 1), numbers(5, 3).transpose(0, 1));
    double fused = Operations.FUSED.norm(tensors).item();
    assertEquals(Operations.COMPOSED.norm(tensors).item(), fused, 1e-5 * fused);
    assertEquals(Operations.LIBTORCH.norm(tensors).item(), fused, 1e-5 * fused);
    assertEquals(5, Operations.FUSED.norm(List.of(Tensor.of(new float[] {3, 4}, 2))).item(), 1e-6);
  }
}
