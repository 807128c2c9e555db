package dev.sluice.operations;

import static dev.sluice.tensor.Differentiated.gaussian;
import static dev.sluice.tensor.Differentiated.rounded;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.sluice.kernel.Threads;
import dev.sluice.tensor.Differentiated;
import dev.sluice.tensor.Differentiated.Operation;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.OptionalInt;
import java.util.SplittableRandom;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// With a mask, operations over rows of several documents give what they give of each document by
/// itself, values and gradients.
class DocumentStartsTest {
  private static final int THREADS = Threads.count();
  private static final int SEPARATOR = 3;

  /// Lengths of the documents of two rows. The first of a row has no separator before it; where
  /// several follow each other, documents have one token.
  private static final List<List<List<Integer>>> BATCHES =
      List.of(
          List.of(List.of(1, 1), List.of(2)),
          List.of(List.of(7), List.of(3, 4)),
          List.of(List.of(1, 1, 1, 62), List.of(64, 1)),
          List.of(List.of(200), List.of(63, 65, 1, 1, 2, 68)),
          List.of(List.of(5, 517, 128, 50), List.of(600, 100)));

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
    Threads.count(THREADS);
  }

  private static int tokens(List<Integer> lengths) {
    return lengths.stream().mapToInt(Integer::intValue).sum();
  }

  /// Ids with a separator at each document's first token, but that of a row's first document.
  private static DocumentStarts starts(List<List<Integer>> rows) {
    int tokens = tokens(rows.getFirst());
    long[] ids = new long[rows.size() * tokens];
    for (int row = 0; row < rows.size(); row++) {
      int at = 0;
      for (int length : rows.get(row)) {
        ids[row * tokens + at] = at == 0 ? 0 : SEPARATOR;
        at += length;
      }
    }
    return Objects.requireNonNull(
        DocumentStarts.of(ids, rows.size(), tokens, tokens, OptionalInt.of(SEPARATOR)));
  }

  @Test
  void documentsBeginAtTheLastSeparator() {
    long[] ids = {5, 3, 3, 6, 3, /* */ 3, 6, 6, 6, 6};
    var starts = Objects.requireNonNull(DocumentStarts.of(ids, 2, 5, 4, OptionalInt.of(SEPARATOR)));
    assertArrayEquals(new int[] {0, 1, 2, 2, /* */ 0, 0, 0, 0}, starts.all());
    assertEquals(2, starts.start(0, 3));
    assertEquals(0, starts.earliest(3));
    assertArrayEquals(new int[] {1, 2}, starts.of(0, 1, 3));
    assertNull(DocumentStarts.of(ids, 2, 5, 4, OptionalInt.empty()));
    assertThrows(
        IllegalArgumentException.class,
        () -> DocumentStarts.of(ids, 3, 5, 4, OptionalInt.of(SEPARATOR)));
    assertThrows(
        IllegalArgumentException.class,
        () -> starts.requireShape(Tensor.zeros(ElementType.FLOAT32, 2, 5)));
  }

  /// Row by row and document by document, joined again.
  ///
  /// @param sequences how many of the inputs are `[B, T, …]`; the others are the same for all
  private static Operation apart(List<List<Integer>> rows, int sequences, Operation operation) {
    return given -> {
      var joined = new ArrayList<Tensor>();
      for (int row = 0; row < rows.size(); row++) {
        var parts = new ArrayList<Tensor>();
        long at = 0;
        for (int length : rows.get(row)) {
          var document = new ArrayList<Tensor>();
          for (int i = 0; i < given.size(); i++) {
            var input = given.get(i);
            document.add(i < sequences ? input.narrow(0, row, 1).narrow(1, at, length) : input);
          }
          parts.add(operation.apply(document).getFirst());
          at += length;
        }
        joined.add(Tensor.concatenate(parts, 1));
      }
      return List.of(Tensor.concatenate(joined, 0));
    };
  }

  private List<@Nullable Tensor> upstreams(ElementType type, long... shape) {
    var upstreams = new ArrayList<@Nullable Tensor>();
    upstreams.add(gaussian(random, type, shape).detach());
    return upstreams;
  }

  /// @param heads query heads
  /// @param gate sizes of a token's logits: none, one a head, or one an element
  @ParameterizedTest
  @CsvSource({
    "4, 2, 8, none, false, 0",
    "2, 2, 16, elementwise, false, 0",
    "6, 1, 4, headwise, true, 0",
    "3, 3, 8, none, true, 40",
    "4, 1, 8, elementwise, false, 3"
  })
  void attention(int heads, int keyValueHeads, int width, String gate, boolean sinks, int window) {
    for (var type : List.of(ElementType.FLOAT32, ElementType.BFLOAT16)) {
      for (var rows : BATCHES) {
        int tokens = tokens(rows.getFirst());
        var inputs = new ArrayList<Tensor>();
        inputs.add(gaussian(random, type, 2, tokens, heads, width));
        inputs.add(gaussian(random, type, 2, tokens, keyValueHeads, width));
        inputs.add(gaussian(random, type, 2, tokens, keyValueHeads, width));
        if (gate.equals("elementwise")) {
          inputs.add(gaussian(random, type, 2, tokens, heads, width));
        } else if (gate.equals("headwise")) {
          inputs.add(gaussian(random, type, 2, tokens, heads));
        }
        int sequences = inputs.size();
        if (sinks) {
          inputs.add(rounded(random, heads));
        }
        var upstreams = upstreams(type, 2, tokens, heads, width);
        var documents = starts(rows);
        var alone =
            Differentiated.of(
                apart(
                    rows,
                    sequences,
                    given -> attend(Operations.COMPOSED, given, gate, sinks, window, null)),
                widened(inputs),
                upstreams);
        String what = "%s %s".formatted(type, rows);
        Differentiated.of(
                given -> attend(Operations.COMPOSED, given, gate, sinks, window, documents),
                widened(inputs),
                upstreams)
            .assertClose(alone, 3e-6, "composed " + what);
        var fused =
            Differentiated.of(
                given -> attend(Operations.FUSED, given, gate, sinks, window, documents),
                inputs,
                upstreams);
        if (type == ElementType.FLOAT32) {
          fused.assertClose(alone, 5e-6, "fused " + what);
        } else { // what is rounded to bfloat16 is rounded in each document alike
          fused.assertClose(
              Differentiated.of(
                  apart(
                      rows,
                      sequences,
                      given -> attend(Operations.FUSED, given, gate, sinks, window, null)),
                  inputs,
                  upstreams),
              1e-2,
              "fused " + what);
        }
      }
    }
  }

  private static List<Tensor> widened(List<Tensor> inputs) {
    return inputs.stream()
        .map(input -> input.to(ElementType.FLOAT32).detach().requireGradient(true))
        .toList();
  }

  private static List<Tensor> attend(
      Operations operations,
      List<Tensor> given,
      String gate,
      boolean sinks,
      int window,
      @Nullable DocumentStarts documents) {
    return List.of(
        operations.attention(
            given.get(0),
            given.get(1),
            given.get(2),
            sinks ? given.getLast() : null,
            gate.equals("none") ? null : given.get(3),
            window,
            documents));
  }

  /// Also where the operation is cut into blocks of queries, and shows all weights.
  @Test
  void weightsOfOtherDocumentsAreZero() {
    var rows = BATCHES.getLast();
    int tokens = tokens(rows.getFirst());
    var documents = starts(rows);
    var q = gaussian(random, ElementType.FLOAT32, 2, tokens, 2, 4).detach();
    var k = gaussian(random, ElementType.FLOAT32, 2, tokens, 1, 4).detach();
    ComposedAttention.watched(
        q,
        k,
        k,
        null,
        0,
        documents,
        (first, weightsBNRS) -> {
          float[] weights = weightsBNRS.floats();
          int queries = (int) weightsBNRS.size(2);
          for (int at = 0; at < weights.length; at++) {
            int key = at % tokens;
            int query = first + at / tokens % queries;
            int row = at / tokens / queries / 2;
            boolean seen = key <= query && key >= documents.start(row, query);
            assertEquals(seen, weights[at] > 0, row + " " + query + " " + key);
          }
        });
  }

  @Test
  void attentionIsTheSameOnAnyNumberOfThreads() {
    var rows = BATCHES.getLast();
    int tokens = tokens(rows.getFirst());
    var documents = starts(rows);
    var inputs =
        List.of(
            gaussian(random, ElementType.BFLOAT16, 2, tokens, 4, 8),
            gaussian(random, ElementType.BFLOAT16, 2, tokens, 2, 8),
            gaussian(random, ElementType.BFLOAT16, 2, tokens, 2, 8));
    var upstreams = upstreams(ElementType.BFLOAT16, 2, tokens, 4, 8);
    Operation operation = given -> attend(Operations.FUSED, given, "none", false, 0, documents);
    Threads.count(1);
    var alone = Differentiated.of(operation, inputs, upstreams);
    Threads.count(3);
    Differentiated.of(operation, inputs, upstreams).assertEqualTo(alone, "three threads");
  }

  @Test
  void shortConvolution() {
    for (var rows : BATCHES) {
      for (int width : new int[] {1, 2, 4, 7}) {
        int tokens = tokens(rows.getFirst());
        var documents = starts(rows);
        var inputs =
            List.of(
                gaussian(random, ElementType.FLOAT32, 2, tokens, 35), rounded(random, 35, width));
        var upstreams = upstreams(ElementType.FLOAT32, 2, tokens, 35);
        var alone =
            Differentiated.exact(
                apart(
                    rows,
                    1,
                    given ->
                        List.of(
                            Operations.COMPOSED.shortConvolution(
                                given.get(0), given.get(1), null, null))),
                inputs,
                upstreams);
        for (var operations : List.of(Operations.COMPOSED, Operations.FUSED)) {
          Differentiated.of(
                  given ->
                      List.of(
                          operations.shortConvolution(given.get(0), given.get(1), null, documents)),
                  inputs,
                  upstreams)
              .assertClose(alone, 2e-6, width + " " + rows);
        }
      }
    }
    var x = Tensor.zeros(ElementType.FLOAT32, 2, 7, 3);
    assertThrows(
        IllegalArgumentException.class,
        () ->
            Operations.FUSED.shortConvolution(
                x,
                Tensor.zeros(ElementType.FLOAT32, 3, 2),
                Tensor.zeros(ElementType.FLOAT32, 2, 1, 3),
                starts(BATCHES.get(1))));
  }

  @Test
  void deltaRule() {
    var heads = new DeltaHeads(2, 4, 8, 6);
    for (var rows : BATCHES.subList(0, 3)) {
      int tokens = tokens(rows.getFirst());
      var documents = starts(rows);
      var inputs =
          List.of(
              gaussian(random, ElementType.FLOAT32, 2, tokens, heads.channels()),
              decays(tokens, heads.valueHeads()),
              gaussian(random, ElementType.FLOAT32, 2, tokens, heads.valueHeads())
                  .detach()
                  .sigmoid()
                  .detach()
                  .requireGradient(true));
      var upstreams = upstreams(ElementType.FLOAT32, 2, tokens, heads.valueHeads(), 6);
      var alone =
          Differentiated.exact(
              apart(
                  rows,
                  3,
                  given ->
                      List.of(
                          DeltaRule.composed(given.get(0), given.get(1), given.get(2), null, heads)
                              .yBTNV())),
              inputs,
              upstreams);
      for (var operations : List.of(Operations.COMPOSED, Operations.FUSED)) {
        Differentiated.of(
                given ->
                    List.of(
                        operations
                            .deltaRule(
                                given.get(0),
                                documents.forgetting(given.get(1)),
                                given.get(2),
                                null,
                                heads)
                            .yBTNV()),
                inputs,
                upstreams)
            .assertClose(alone, 1e-5, "" + rows);
      }
    }
  }

  private Tensor decays(int tokens, int heads) {
    double[] decays = random.doubles(2L * tokens * heads, -0.3, 0).toArray();
    decays[decays.length / 2] = Double.NEGATIVE_INFINITY;
    return Tensor.of(decays, 2, tokens, heads)
        .to(ElementType.FLOAT32)
        .detach()
        .requireGradient(true);
  }
}
