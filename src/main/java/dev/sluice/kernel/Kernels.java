package dev.sluice.kernel;

import java.lang.foreign.MemorySegment;
import org.jspecify.annotations.Nullable;

/// What the hot loops compute. Lengths and types are checked by the callers; outputs do not overlap
/// inputs.
public interface Kernels {
  /// The implementation for this machine: the Vector API where its module is present, else the
  /// definition.
  Kernels FASTEST = choose();

  /// The gate of the paper, y′ = y ⊙ σ(z): `out[r·w + j] = y[r·w + j] · σ(z[r])`.
  ///
  /// @param width w, the elements that share one score: 1 for an elementwise gate, the head size
  ///   for a headwise one
  void sigmoidGate(Floats y, Floats z, Floats out, int width, long from, long to);

  /// The gradient of [#sigmoidGate]: `dy[r·w + j] = dOut[r·w + j] · σ(z[r])` and `dz[r] = σ(z[r]) ·
  /// σ(−z[r]) · Σ_j dOut[r·w + j] · y[r·w + j]`; σ(−z) is 1 − σ(z) without the cancellation.
  void sigmoidGateBackward(
      Floats dOut, Floats y, Floats z, Floats dy, Floats dz, int width, long from, long to);

  /// One AdamW step on float32 elements `from … to`: `g ← gradientScale · g; m ← β₁m + (1 − β₁)g; v
  /// ← β₂v + (1 − β₂)g²; θ ← θ − ηλθ − η/(1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)`. The stored
  /// gradient is left as it is.
  void adamW(
      MemorySegment parameter,
      MemorySegment gradient,
      MemorySegment firstMoment,
      MemorySegment secondMoment,
      AdamWStep step,
      long from,
      long to);

  /// RMSNorm of rows: `out[r·w + j] = x[r·w + j] · s · weight[j]` with `s = (mean_j x[r·w + j]² +
  /// ε)^(−1/2)`.
  ///
  /// @param width w, the elements of a row
  void rmsNorm(Floats x, Floats weight, double epsilon, Floats out, int width, long from, long to);

  /// The gradient of [#rmsNorm], with what comes past the norm on the residual stream: with `d[j] =
  /// dOut[r·w + j] · weight[j]`, `dx[r·w + j] = s · (d[j] − x[r·w + j] · s² · mean_k d[k] x[r·w +
  /// k]) + dPast[r·w + j]`, and `dWeight[j]` grows by `Σ_r dOut[r·w + j] · x[r·w + j] · s`.
  ///
  /// @param dPast added to dx, or null
  /// @param dWeight w float32 numbers that are added to
  void rmsNormBackward(
      Floats dOut,
      Floats x,
      Floats weight,
      double epsilon,
      @Nullable Floats dPast,
      Floats dx,
      MemorySegment dWeight,
      int width,
      long from,
      long to);

  /// RMSNorm of each head, then its rotation: row r holds head `r mod heads` of token `r / heads`,
  /// at position `p = (r / heads) mod positions`. With `u = x · s · weight` as in [#rmsNorm] (`u =
  /// x` without a weight) and h = width / 2: `out[i] = u[i] cos[p·h + i] − u[i + h] sin[p·h + i]`
  /// and `out[i + h] = u[i + h] cos[p·h + i] + u[i] sin[p·h + i]` for i < h.
  void normRotate(
      Floats x,
      @Nullable Floats weight,
      double epsilon,
      Rotations rotations,
      Floats out,
      int heads,
      int width,
      long from,
      long to);

  /// The gradient of [#normRotate]: dOut is rotated back and goes through the norm's gradient.
  ///
  /// @param dWeight width float32 numbers that are added to; untouched without a weight
  void normRotateBackward(
      Floats dOut,
      Floats x,
      @Nullable Floats weight,
      double epsilon,
      Rotations rotations,
      Floats dx,
      MemorySegment dWeight,
      int heads,
      int width,
      long from,
      long to);

  /// The feed-forward's inner activation: `out[i] = gate[i] · σ(gate[i]) · up[i]`.
  void swiGlu(Floats gate, Floats up, Floats out, long from, long to);

  /// The gradient of [#swiGlu]: `dUp = dOut · gate · σ(gate)`, `dGate = dOut · up · σ(gate) · (1 +
  /// gate · σ(−gate))`.
  void swiGluBackward(
      Floats dOut, Floats gate, Floats up, Floats dGate, Floats dUp, long from, long to);

  /// The causal softmax of a block of attention scores, not yet divided by its sum. Row i sees the
  /// first `visible + i` of `columns` columns: with `m = max_j scale · scores[i·stride + j]` over
  /// those, `weights[i·stride + j] = e^(scale · scores[i·stride + j] − m)`, zero for the columns
  /// that it does not see; `sums[i] = Σ_j weights`, `logSumExp[i] = m + ln sums[i]`.
  ///
  /// @param scores rows × stride float32 numbers
  /// @param stride from one row to the next, at least `columns`
  /// @param visible at least 1; `visible + i` beyond `columns` means all columns
  void causalSoftmax(
      MemorySegment scores,
      Floats weights,
      MemorySegment sums,
      MemorySegment logSumExp,
      double scale,
      int rows,
      int columns,
      long stride,
      int visible);

  /// The gradient of attention's softmax, which computes the weights again: `p[i,j] = e^(scale ·
  /// scores[i·stride + j] − logSumExp[i])`, written to `weights`, and `dScores[i·stride + j] =
  /// scale · p[i,j] · (dWeights[i·stride + j] − delta[i])`; both are zero for columns that row i
  /// does not see. `dWeights` is float32 and is ∂L/∂p; `delta[i] = Σ_j p[i,j] · ∂L/∂p[i,j]`.
  void causalSoftmaxBackward(
      MemorySegment scores,
      MemorySegment dWeights,
      MemorySegment logSumExp,
      MemorySegment delta,
      Floats weights,
      Floats dScores,
      double scale,
      int rows,
      int columns,
      long stride,
      int visible);

  /// `out[start + i·stride + j] = x[i·width + j] / divisors[i]`, or without divisors a copy.
  ///
  /// @param x rows × width float32 numbers
  /// @param divisors float32, or null
  void divideRows(
      MemorySegment x,
      @Nullable MemorySegment divisors,
      Floats out,
      long start,
      long stride,
      int rows,
      int width);

  /// `out[i] = Σ_j a[start + i·stride + j] · b[start + i·stride + j]`, j < width.
  void dotRows(Floats a, Floats b, MemorySegment out, long start, long stride, int rows, int width);

  /// The next-token loss of rows of logits and its gradient: `losses[r] = ln Σ_j e^logits[r·v + j]
  /// − logits[r·v + targets[r]]`, `dLogits[r·v + j] = scale · (softmax_j − [j = targets[r]])`.
  ///
  /// @param logits float32
  /// @param targets int64, each in 0 … v − 1
  /// @param losses float32
  /// @param dLogits null when no gradient is wanted; may share memory with nothing
  /// @param vocabulary v
  void crossEntropy(
      MemorySegment logits,
      MemorySegment targets,
      MemorySegment losses,
      @Nullable Floats dLogits,
      double scale,
      int vocabulary,
      long from,
      long to);

  /// `out[i] = a[i] + b[i]` in out's element type.
  void plus(Floats a, Floats b, Floats out, long from, long to);

  /// `out[i] = x[i]` in out's element type.
  void copy(Floats x, Floats out, long from, long to);

  /// `Σ x[i]²` of float32 numbers, summed in double precision in an order that depends on `from`
  /// and `to` alone.
  double squareSum(MemorySegment x, long from, long to);

  /// Adds row r of `rows` to row `ids[r]` of a float32 table, for all `count` rows in their order
  /// and columns `from … to` of each.
  void addRows(
      Floats rows, MemorySegment ids, MemorySegment table, int width, long count, int from, int to);

  private static Kernels choose() {
    var log = System.getLogger(Kernels.class.getName());
    if (ModuleLayer.boot().findModule("jdk.incubator.vector").isEmpty()) {
      log.log(
          System.Logger.Level.WARNING,
          "Slow kernels: start Java with --add-modules jdk.incubator.vector for the fast ones.");
      return new ScalarKernels();
    }
    log.log(System.Logger.Level.DEBUG, "Vector kernels.");
    return new VectorKernels();
  }
}
