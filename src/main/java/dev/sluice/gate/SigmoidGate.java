package dev.sluice.gate;

import dev.sluice.kernel.Floats;
import dev.sluice.kernel.Kernels;
import dev.sluice.kernel.Threads;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.RecomputedInput;
import dev.sluice.tensor.Tensor;
import java.util.List;

/// y′ = y ⊙ σ(z): the multiplicative sigmoid gate, elementwise or headwise. As one operation, see
/// [#apply], or as the input of a linear layer that computes it where it multiplies it.
///
/// @param yBTD what is gated, all heads of a token joined
/// @param logits `[B, T, N·H]` (elementwise) or `[B, T, N]` (headwise), of y's element type
public record SigmoidGate(Tensor yBTD, Tensor logits) implements RecomputedInput {
  private static final long GRAIN =
      1 << 14; // elements below which a second thread costs more than it saves

  /// As the input of a linear layer.
  public SigmoidGate {
    if (yBTD.type() != logits.type() || yBTD.elements() % logits.elements() != 0) {
      throw new IllegalArgumentException(logits + " do not gate " + yBTD);
    }
    yBTD = yBTD.contiguous();
    logits = logits.contiguous();
  }

  /// Elements of y that share a score.
  private int width() {
    return Math.toIntExact(yBTD.elements() / logits.elements());
  }

  @Override
  public String name() {
    return "gate";
  }

  @Override
  public List<Tensor> inputs() {
    return List.of(yBTD, logits);
  }

  @Override
  public Tensor composed() {
    long scores = logits.size(2);
    var y = yBTD.reshape(yBTD.size(0), yBTD.size(1), scores, yBTD.size(2) / scores);
    return composed(y, logits).reshape(yBTD.shape());
  }

  @Override
  public void forward(Floats out, long from, long to) {
    long scores = logits.size(2);
    Kernels.FASTEST.sigmoidGate(
        yBTD.numbers().from(from * yBTD.size(2)),
        logits.numbers().from(from * scores),
        out,
        width(),
        0,
        (to - from) * scores);
  }

  @Override
  public void backward(Floats upstream, Floats out, List<Floats> gradients, long from, long to) {
    long scores = logits.size(2);
    Kernels.FASTEST.sigmoidGateBackward(
        upstream,
        yBTD.numbers().from(from * yBTD.size(2)),
        logits.numbers().from(from * scores),
        out,
        gradients.getFirst().from(from * yBTD.size(2)),
        gradients.getLast().from(from * scores),
        width(),
        0,
        (to - from) * scores);
  }

  /// The definition. The result has the element type of `logits`.
  ///
  /// @param yBTNH what is gated
  /// @param logits `[B, T, N, H]` (elementwise) or `[B, T, N]` (headwise)
  public static Tensor composed(Tensor yBTNH, Tensor logits) {
    var scores = new Activation.Sigmoid().scores(logits);
    boolean headwise = logits.shape().length == 3;
    return yBTNH
        .times(
            headwise ? scores.reshape(logits.size(0), logits.size(1), logits.size(2), 1) : scores)
        .to(logits.type());
  }

  /// The same in one pass over memory, forwards and backwards; on another device than the CPU, or
  /// for another element type than float32 and bfloat16, the definition. The result has the element
  /// type of `logits`.
  public static Tensor apply(Tensor yBTNH, Tensor logits) {
    if (!yBTNH.isOnCpu() || !fusable(yBTNH.type()) || !fusable(logits.type())) {
      return composed(yBTNH, logits);
    }
    var y = yBTNH.contiguous();
    var z = logits.contiguous();
    int width = Math.toIntExact(y.elements() / z.elements());
    return FusedOp.apply(
        "gate",
        List.of(y, z),
        List.of(y, z),
        () -> {
          var out = Tensor.uninitialized(y, z.type(), y.shape());
          split(
              z.elements(),
              width,
              (from, to) ->
                  Kernels.FASTEST.sigmoidGate(floats(y), floats(z), floats(out), width, from, to));
          return out;
        },
        upstream -> {
          var dy = Tensor.uninitialized(y, y.type(), y.shape());
          var dz = Tensor.uninitialized(z, z.type(), z.shape());
          split(
              z.elements(),
              width,
              (from, to) ->
                  Kernels.FASTEST.sigmoidGateBackward(
                      floats(upstream),
                      floats(y),
                      floats(z),
                      null,
                      floats(dy),
                      floats(dz),
                      width,
                      from,
                      to));
          return new Tensor[] {dy, dz};
        });
  }

  private static void split(long rows, int width, Threads.Part part) {
    Threads.split(rows, Math.max(1, GRAIN / width), part);
  }

  private static boolean fusable(ElementType type) {
    return type == ElementType.FLOAT32 || type == ElementType.BFLOAT16;
  }

  private static Floats floats(Tensor tensor) {
    return new Floats(tensor.memory(), tensor.type() == ElementType.BFLOAT16);
  }
}
