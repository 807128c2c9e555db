package dev.sluice.operations;

import static dev.sluice.tensor.Differentiated.gaussian;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.sluice.tensor.Device;
import dev.sluice.tensor.Differentiated;
import dev.sluice.tensor.Differentiated.Operation;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import java.util.OptionalInt;
import java.util.SplittableRandom;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// A device's attention against the definition, values and gradients, with what libtorch has on the
/// CPU: its flash attention for whole sequences, which takes what CUDA's takes, and blocks of
/// products for all else.
///
/// Tolerance: 1e-5 of the largest number, as the sums have another order. In bfloat16 the results,
/// the weights that the kernel multiplies and X
class LibtorchAttentionTest {
  private static final int SEPARATOR = 7;

  private final SplittableRandom random = new SplittableRandom(53);
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

  private record Case(
      int window, @Nullable DocumentStarts documents, boolean sinks, int gate, boolean share) {
    Operation by(Operations operations) {
      return given -> {
        var sinksN = sinks ? given.get(3) : null;
        var logits = gate == 0 ? null : given.get(4);
        if (!share) {
          return List.of(
              operations.attention(
                  given.get(0), given.get(1), given.get(2), sinksN, logits, window, documents));
        }
        var both =
            operations.attentionWithFirstToken(
                given.get(0), given.get(1), given.get(2), sinksN, logits, window, documents);
        return List.of(both.yBTNH(), both.shareBTN());
      };
    }
  }

  private @Nullable DocumentStarts documents(int batch, int tokens) {
    long[] ids = random.longs((long) batch * tokens, 0, 12).toArray();
    return DocumentStarts.of(ids, batch, tokens, tokens, OptionalInt.of(SEPARATOR));
  }

  /// Batch, tokens, query heads, key and value heads, head size.
  @ParameterizedTest
  @CsvSource({
    "1,2,2,1,2",
    "2,7,4,2,6",
    "1,63,3,3,4",
    "2,65,4,1,8",
    "1,130,2,2,16",
    "1,300,2,1,5",
    "3,9,6,2,1"
  })
  void valueAndGradients(int batch, int tokens, int heads, int keyValueHeads, int width) {
    for (int window : new int[] {0, 2, 5, 150}) {
      for (boolean masked : new boolean[] {false, true}) {
        for (boolean sinks : new boolean[] {false, true}) {
          for (boolean share : new boolean[] {false, true}) {
            int gate = random.nextInt(3);
            var documents = masked ? documents(batch, tokens) : null;
            var one = new Case(window, documents, sinks, gate, share);
            compare(one, ElementType.FLOAT32, 1e-5, batch, tokens, heads, keyValueHeads, width);
            if (!share && width > 2) { // in few numbers one that is rounded weighs more
              compare(
                  one, ElementType.BFLOAT16, 0x1p-6, batch, tokens, heads, keyValueHeads, width);
            }
          }
        }
      }
    }
  }

  /// What the share gives of a gradient and what attention gives of it are rounded each.
  @ParameterizedTest
  @CsvSource({"0,false", "0,true", "5,false", "5,true"})
  void shareInBfloat16(int window, boolean sinks) {
    var one = new Case(window, null, sinks, 1, true);
    compare(one, ElementType.BFLOAT16, 0x1p-5, 2, 65, 4, 1, 8);
  }

  private void compare(
      Case one,
      ElementType type,
      double tolerance,
      int batch,
      int tokens,
      int heads,
      int shared,
      int width) {
    var given = new ArrayList<Tensor>();
    given.add(gaussian(random, type, batch, tokens, heads, width));
    given.add(gaussian(random, type, batch, tokens, shared, width));
    given.add(gaussian(random, type, batch, tokens, shared, width));
    var sinks = gaussian(random, ElementType.FLOAT32, heads);
    given.add(one.sinks && type == ElementType.FLOAT32 ? sinks : sinks.detach());
    var logits =
        one.gate == 2
            ? gaussian(random, type, batch, tokens, heads, width)
            : gaussian(random, type, batch, tokens, heads);
    given.add(one.gate == 0 ? logits.detach() : logits);
    var upstreams = new ArrayList<@Nullable Tensor>();
    upstreams.add(gaussian(random, type, batch, tokens, heads, width).detach());
    if (one.share) {
      upstreams.add(gaussian(random, ElementType.FLOAT32, batch, tokens, heads).detach());
    }
    String what = "%s %s, %d × %d".formatted(type, one, batch, tokens);
    Differentiated.of(one.by(Operations.LIBTORCH), given, upstreams)
        .assertClose(
            Differentiated.of(one.by(Operations.COMPOSED), widened(given), upstreams),
            tolerance,
            what);
  }

  /// The same numbers in float32, so that the definition rounds nothing.
  private static List<Tensor> widened(List<Tensor> given) {
    var wide = new ArrayList<Tensor>();
    for (var one : given) {
      wide.add(
          one.detach().to(ElementType.FLOAT32).detach().requireGradient(one.requiresGradient()));
    }
    return wide;
  }

  /// A query that sees one key gives it everything.
  @Test
  void oneKey() {
    var one = gaussian(random, ElementType.FLOAT32, 2, 9, 3, 4).detach();
    for (var tokens : List.of(one, one.narrow(1, 0, 1))) {
      var both =
          Operations.LIBTORCH.attentionWithFirstToken(tokens, tokens, tokens, null, null, 1, null);
      assertArrayEquals(tokens.floats(), both.yBTNH().floats(), 1e-6f);
      assertEquals(1, both.shareBTN().narrow(1, 0, 1).mean().item(), 1e-6);
    }
  }

  /// A penalty on the share alone, where nothing else depends on attention.
  @Test
  void shareAlone() {
    var given =
        List.of(
            gaussian(random, ElementType.FLOAT32, 2, 33, 4, 8),
            gaussian(random, ElementType.FLOAT32, 2, 33, 2, 8),
            gaussian(random, ElementType.FLOAT32, 2, 33, 2, 8).detach());
    var upstreams = new ArrayList<@Nullable Tensor>();
    upstreams.add(null);
    upstreams.add(Tensor.of(new float[] {1}, 1));
    var one = new Case(0, null, false, 0, true);
    Differentiated.of(one.by(Operations.LIBTORCH), given, upstreams)
        .assertClose(
            Differentiated.of(one.by(Operations.COMPOSED), given, upstreams), 1e-5, "alone");
  }

  /// Where CUDA's kernel is told that documents begin: at each row's first token, and at each
  /// separator.
  @Test
  void boundsOfDocuments() {
    long[] ids = {1, SEPARATOR, 2, 3, SEPARATOR, SEPARATOR, 4, 5};
    var documents = DocumentStarts.of(ids, 2, 4, 4, OptionalInt.of(SEPARATOR));
    assertArrayEquals(new long[] {0, 1, 4, 5, 8}, documents.bounds(Device.CPU).longs());
    assertEquals(3, documents.longest());
  }
}
