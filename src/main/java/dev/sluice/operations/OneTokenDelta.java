package dev.sluice.operations;

import dev.sluice.kernel.Floats;
import dev.sluice.kernel.Kernels;
import dev.sluice.tensor.Scratch;
import dev.sluice.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/// What a layer of Gated DeltaNet does between its products with one token of each of B sequences,
/// as a step of [TokenSteps]: each key head, with the value heads that share it, is the work of one
/// thread. It is the short convolution ([Operations#shortConvolution]) with the history that it
/// leaves, the rule ([Operations#deltaSteps]) and the norm with its gate
/// ([Operations#gatedHeadNorm]).
public final class OneTokenDelta {
  /// A layer's products of a token.
  ///
  /// @param mixed queries, keys and values, `[B, C]`
  /// @param z logits of the gate, `[B, N, V]`
  /// @param b logits of the rate, `[B, N]`
  /// @param a logits of the decay, `[B, N]`
  public record Projected(Floats mixed, Floats z, Floats b, Floats a) {}

  /// What a layer has learned besides its products.
  ///
  /// @param convolutionCW weight of the short convolution
  /// @param logA `[N]`
  /// @param bias `[N]`, of the decay
  /// @param norm `[V]`
  public record Learned(Tensor convolutionCW, Tensor logA, Tensor bias, Tensor norm) {}

  private final DeltaHeads heads;
  private final Projected projected;
  private final DeltaRates.OfHeads rates;
  private final int width;
  private final MemorySegment convolution;
  private final Floats keyFactors;
  private final Floats queryFactors;
  private final Floats norm;
  private final double epsilon;
  private final Floats mixed;
  private final Floats remembered;
  private final Floats gated;

  /// What a sequence has before its token, which the token changes.
  ///
  /// @param history `[W − 1, C]`
  /// @param state `[N, K, V]`
  private record Before(MemorySegment history, MemorySegment state) {}

  private final Before[] before;

  /// @param epsilon of the norm
  OneTokenDelta(
      TokenSteps steps, DeltaHeads heads, Projected projected, Learned learned, double epsilon) {
    this.heads = heads;
    this.projected = projected;
    this.rates = new DeltaRates.OfHeads(learned.logA, learned.bias);
    this.width = Math.toIntExact(learned.convolutionCW.size(1));
    this.convolution = steps.kept(learned.convolutionCW.transpose(0, 1)).memory();
    this.keyFactors = steps.kept(heads.keyWidth());
    this.queryFactors = steps.kept(heads.keyWidth());
    DeltaRule.lengthFactors(heads, keyFactors.memory(), queryFactors.memory());
    this.norm = steps.kept(learned.norm);
    this.epsilon = epsilon;
    long results = (long) heads.valueHeads() * heads.valueWidth();
    this.mixed = steps.rows(heads.channels());
    this.remembered = steps.rows(results);
    this.gated = steps.rows(results);
    this.before = new Before[steps.sequences()];
    steps.shared(
        (long) before.length * heads.keyHeads(),
        1,
        (from, to) -> {
          for (int i = (int) from; i < to; i++) {
            mix(i / heads.keyHeads(), i % heads.keyHeads());
          }
        });
  }

  /// What comes out, `[B, N · V]`.
  public Floats result() {
    return gated;
  }

  /// Says what the steps will find of a sequence before its next token, and change.
  ///
  /// @param history of the convolution, `[1, W − 1, C]`, float32
  /// @param state `[1, N, K, V]`, float32
  public void begin(int sequence, Tensor history, Tensor state) {
    before[sequence] = new Before(history.memory(), state.memory());
  }

  private void mix(int sequence, int keyHead) {
    var own = before[sequence];
    int keyWidth = heads.keyWidth();
    int valueWidth = heads.valueWidth();
    int group = heads.group();
    int query = keyHead * keyWidth;
    int key = (heads.keyHeads() + keyHead) * keyWidth;
    convolve(sequence, own.history, query, keyWidth);
    convolve(sequence, own.history, key, keyWidth);

    var token = mixed.from((long) sequence * heads.channels());
    var keyQuery = Scratch.numbers("key and query", 2L * keyWidth, false);
    divideByLength(token.from(key), keyFactors, keyQuery);
    divideByLength(token.from(query), queryFactors, keyQuery.from(keyWidth));
    for (int i = 0; i < group; i++) {
      int head = heads.valueHead(keyHead, i);
      int value = 2 * heads.keyHeads() * keyWidth + head * valueWidth;
      convolve(sequence, own.history, value, valueWidth);
      long at = (long) sequence * heads.valueHeads() + head;
      long stateBytes = (long) keyWidth * valueWidth * Float.BYTES;
      var y = remembered.from(at * valueWidth);
      Kernels.FASTEST.deltaStep(
          keyQuery.memory(),
          keyQuery.from(keyWidth).memory(),
          token.from(value),
          DeltaRule.factor(rates.decay(head, number(projected.a, at))),
          DeltaRates.OfHeads.rate(number(projected.b, at)),
          own.state.asSlice(head * stateBytes, stateBytes),
          y,
          keyWidth,
          valueWidth);
      var normed = Scratch.numbers("normed", valueWidth, false);
      Kernels.FASTEST.rmsNorm(y, null, norm, epsilon, y, normed, valueWidth, 0, 1);
      long first = at * valueWidth;
      Kernels.FASTEST.swiGlu(projected.z.from(first), normed, gated.from(first), 0, valueWidth);
    }
  }

  private static float number(Floats numbers, long at) {
    return numbers.memory().getAtIndex(ValueLayout.JAVA_FLOAT, at);
  }

  private void divideByLength(Floats x, Floats factors, Floats to) {
    int width = heads.keyWidth();
    double epsilonOfSquares = DeltaRule.EPSILON / width;
    Kernels.FASTEST.rmsNorm(x, null, factors, epsilonOfSquares, x, to, width, 0, 1);
  }

  /// Some channels of the convolution, which then are part of the history.
  private void convolve(int sequence, MemorySegment history, int first, int count) {
    int channels = heads.channels();
    long start = (long) sequence * channels;
    Kernels.FASTEST.convolutionStep(
        projected.mixed.from(start).memory(),
        history,
        convolution,
        mixed.from(start).memory(),
        channels,
        width,
        first,
        first + count);
  }
}
