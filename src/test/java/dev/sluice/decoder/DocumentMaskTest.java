package dev.sluice.decoder;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;

import dev.sluice.attention.AttentionVariant;
import dev.sluice.attention.SdpaNonlinearity;
import dev.sluice.attention.SoftmaxSink;
import dev.sluice.attention.SwitchHead;
import dev.sluice.evaluation.HeldOutLoss;
import dev.sluice.operations.DocumentStarts;
import dev.sluice.operations.Precision;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.Differentiated;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.OptionalInt;
import java.util.SplittableRandom;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// A masked row of several documents is to a decoder what each document is by itself, although it
/// stands at other positions: in layers with windows, rotation and none, sinks, gates, Gated
/// DeltaNet.
class DocumentMaskTest {
  private static final int SEPARATOR = 0;

  /// Without a separator at first, of one token, several in a row, and one that goes on.
  private static final List<List<Integer>> ROWS =
      List.of(List.of(9, 1, 1, 11, 4), List.of(26), List.of(1, 25));

  private static final int TOKENS = 26;

  /// The layers of [DifferentLayersTest], which differ in everything else.
  private static DecoderConfig config(String kind) {
    var config = DifferentLayersTest.config();
    return switch (kind) {
      case "plain" -> config;
      case "exclusive" -> // nothing is left of a window of one key
          config.mapAttention(
              a ->
                  a.with(
                          new AttentionVariant(
                              SoftmaxSink.NONE, true, SdpaNonlinearity.NONE, SwitchHead.NONE))
                      .with(a.positions().withWindow(a.positions().window() == 1 ? 5 : 0)));
      case "off-by-one" ->
          config.mapAttention(a -> a.with(a.variant().with(SoftmaxSink.OFF_BY_ONE)));
      default -> throw new IllegalArgumentException(kind);
    };
  }

  private static long[] ids() {
    var random = new SplittableRandom(8);
    long[] ids = new long[ROWS.size() * TOKENS];
    for (int row = 0; row < ROWS.size(); row++) {
      int at = row * TOKENS;
      for (int length : ROWS.get(row)) {
        for (int i = 0; i < length; i++) {
          boolean first = i == 0 && at > row * TOKENS;
          ids[at + i] = first ? SEPARATOR : random.nextInt(1, 17);
        }
        at += length;
      }
    }
    return ids;
  }

  private static DocumentStarts starts() {
    return Objects.requireNonNull(
        DocumentStarts.of(ids(), ROWS.size(), TOKENS, TOKENS, OptionalInt.of(SEPARATOR)));
  }

  private static Tensor idsBT() {
    return Tensor.of(ids(), ROWS.size(), TOKENS);
  }

  private static Tensor apart(Decoder decoder) {
    var ids = idsBT();
    var rows = new ArrayList<Tensor>();
    for (int row = 0; row < ROWS.size(); row++) {
      var parts = new ArrayList<Tensor>();
      long at = 0;
      for (int length : ROWS.get(row)) {
        var document = ids.narrow(0, row, 1).narrow(1, at, length);
        parts.add(decoder.hiddenStates(document, null, Probe.NONE));
        at += length;
      }
      rows.add(Tensor.concatenate(parts, 1));
    }
    return Tensor.concatenate(rows, 0);
  }

  private static final Probe EXPLICIT =
      new Probe() {
        @Override
        public boolean wantsAttention(int layer) {
          return true;
        }
      };

  /// Within 3e-5 of the largest hidden state, and 5e-4 of each parameter's largest gradient: sums
  /// are taken in other orders, through six layers and their norms.
  @ParameterizedTest
  @ValueSource(strings = {"plain", "exclusive", "off-by-one"})
  void statesAndGradientsAreThoseOfEachDocumentAlone(String kind) {
    try (var decoder = DifferentLayersTest.decoder(config(kind), Precision.FLOAT32)) {
      var alone = differentiated(decoder, null);
      for (var probe : List.of(Probe.NONE, EXPLICIT)) {
        var packed = differentiated(decoder, probe);
        alone.forEach(
            (name, expected) -> {
              double largest = Arrays.stream(expected).map(Math::abs).max().orElseThrow();
              boolean shift = // of all scores of a query alike
                  name.endsWith("layers.4.self_attn.k_proj.bias");
              double tolerance = (name.equals("hidden") ? 3e-5 : 5e-4) * largest;
              assertArrayEquals(
                  expected, packed.get(name), shift ? 1e-4 : tolerance, kind + " " + name);
            });
      }
    }
  }

  /// @param probe of the pass over whole rows; null to go document by document
  private static Map<String, double[]> differentiated(Decoder decoder, @Nullable Probe probe) {
    try (var _ = Scope.open()) {
      var hidden =
          probe == null ? apart(decoder) : decoder.hiddenStatesByDocument(idsBT(), starts(), probe);
      var upstream =
          Differentiated.gaussian(new SplittableRandom(4), ElementType.FLOAT32, hidden.shape());
      hidden.times(upstream.detach()).sum().backward();
      var results = new LinkedHashMap<String, double[]>();
      results.put("hidden", hidden.detach().doubles());
      decoder
          .parameters()
          .all()
          .forEach(
              (name, tensor) -> {
                var gradient = tensor.gradient();
                if (gradient != null) {
                  results.put(name, gradient.doubles());
                  gradient.fill(0);
                }
              });
      return results;
    }
  }

  /// What stands before a document does not reach it at all.
  @Test
  void anotherDocumentBeforeChangesNoBit() {
    try (var _ = Scope.withoutGradient();
        var decoder = DifferentLayersTest.decoder(config("plain"), Precision.FLOAT32)) {
      long[] other = ids();
      Arrays.fill(other, 0, 9, 7);
      var states = decoder.hiddenStatesByDocument(idsBT(), starts(), Probe.NONE).narrow(0, 0, 1);
      var changed =
          decoder
              .hiddenStatesByDocument(Tensor.of(other, ROWS.size(), TOKENS), starts(), Probe.NONE)
              .narrow(0, 0, 1);
      assertArrayEquals(
          states.narrow(1, 9, TOKENS - 9).floats(), changed.narrow(1, 9, TOKENS - 9).floats());
      assertNotEquals(states.narrow(1, 8, 1).floats()[0], changed.narrow(1, 8, 1).floats()[0]);
    }
  }

  /// A window's loss is that of its pieces; the separator that ends a document is predicted in it.
  @Test
  void heldOutLossIsThatOfEachDocument() {
    try (var decoder = DifferentLayersTest.decoder(config("plain"), Precision.FLOAT32)) {
      long[] window = {5, 6, 7, 0, 8, 9, 10, 0, 0, 11, 12};
      List<long[]> pieces =
          List.of(
              new long[] {5, 6, 7, 0},
              new long[] {0, 8, 9, 10, 0},
              new long[] {0, 0},
              new long[] {0, 11, 12});
      var whole = HeldOutLoss.measure(decoder, List.of(window), 10, OptionalInt.of(SEPARATOR));
      var apart = HeldOutLoss.measure(decoder, pieces, 10);
      assertEquals(apart.tokens(), whole.tokens());
      assertEquals(apart.totalNats(), whole.totalNats(), 1e-4 * apart.totalNats());
      assertNotEquals(
          apart.totalNats(),
          HeldOutLoss.measure(decoder, List.of(window), 10).totalNats(),
          1e-3 * apart.totalNats());
    }
  }

  /// Where no separator stands, and in training, where a row's last token is a target alone.
  @Test
  void aMaskThatHidesNothingChangesNothing() {
    try (var _ = Scope.withoutGradient();
        var decoder = DifferentLayersTest.decoder(config("plain"), Precision.FLOAT32)) {
      var ids = Tensor.of(new SplittableRandom(2).longs(TOKENS, 1, 17).toArray(), 1, TOKENS);
      long[] none = new long[TOKENS];
      Arrays.fill(none, 1);
      var starts = DocumentStarts.of(none, 1, TOKENS, TOKENS, OptionalInt.of(SEPARATOR));
      assertArrayEquals(
          decoder.hiddenStates(ids, null, Probe.NONE).floats(),
          decoder.hiddenStatesByDocument(ids, starts, Probe.NONE).floats());
    }
  }
}
