package dev.sluice.kernel;

import java.lang.foreign.MemorySegment;
import org.jspecify.annotations.Nullable;

/// What the hot loops compute. Lengths and types are checked by the callers; outputs do not overlap
/// inputs.
public interface Kernels {
  /// The implementation for this machine: machine code where it can be, for what there is of it;
  /// the Vector API where its module is present, else the definition.
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

  /// RMSNorm of the residual stream's rows, with `sum = x + added`, or `sum = x` where nothing is
  /// added: `out[r·w + j] = sum[r·w + j] · s · weight[j]` with `s = (mean_j sum[r·w + j]² +
  /// ε)^(−1/2)`.
  ///
  /// @param added to x, or null
  /// @param sum float32; not written where nothing is added
  /// @param width w, the elements of a row
  void rmsNorm(
      Floats x,
      @Nullable Floats added,
      Floats weight,
      double epsilon,
      Floats sum,
      Floats out,
      int width,
      long from,
      long to);

  /// The gradient of [#rmsNorm], with what comes past the norm on the residual stream: with `d[j] =
  /// dOut[r·w + j] · weight[j]`, `dSum[r·w + j] = s · (d[j] − sum[r·w + j] · s² · mean_k d[k]
  /// sum[r·w + k]) + dPast[r·w + j]`, and `dWeight[j]` grows by `Σ_r dOut[r·w + j] · sum[r·w + j] ·
  /// s`.
  ///
  /// @param dPast added to dSum, or null
  /// @param dAdded takes dSum once more, in another element type, or null
  /// @param dWeight w float32 numbers that are added to
  void rmsNormBackward(
      Floats dOut,
      Floats sum,
      Floats weight,
      double epsilon,
      @Nullable Floats dPast,
      Floats dSum,
      @Nullable Floats dAdded,
      MemorySegment dWeight,
      int width,
      long from,
      long to);

  /// RMSNorm of each head, then its rotation: row r holds head `r mod heads` of token `r / heads`,
  /// at position `p = (r / heads) mod positions`. With `u = x · s · weight` as in [#rmsNorm] (`u =
  /// x` without a weight) and h pairs: `out[i] = u[i] cos[p·h + i] − u[i + h] sin[p·h + i]` and
  /// `out[i + h] = u[i + h] cos[p·h + i] + u[i] sin[p·h + i]` for i < h, `out[i] = u[i]` for i ≥
  /// 2h.
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

  /// The gradient of [#swiGlu], and what it gave once more: `dUp = dOut · gate · σ(gate)`, `dGate =
  /// dOut · up · σ(gate) · (1 + gate · σ(−gate))`, `out = gate · σ(gate) · up`.
  void swiGluBackward(
      Floats dOut,
      Floats gate,
      Floats up,
      Floats out,
      Floats dGate,
      Floats dUp,
      long from,
      long to);

  /// The softmax of a tile of causal attention, not yet divided by its sum, where tiles of the same
  /// rows follow one another from left to right. With m the largest `scale · scores[i, j]` that row
  /// i has seen in this tile and those before: `weights[i, j] = e^(scale · scores[i, j] − m)`, zero
  /// for columns that it does not see; `factors[i] = e^(maxima[i] − m)`, by which earlier weights
  /// of the row are to be multiplied; then `sums[i] ← factors[i] · sums[i] + Σ_j weights[i, j]` and
  /// `maxima[i] ← m`.
  ///
  /// Where a row sees no column of a tile, its maximum and sum stay and its factor is one.
  ///
  /// @param scores float32
  /// @param maxima float32; −∞ before the first tile
  /// @param sums float32; 0 before the first tile
  /// @param factors float32
  void causalSoftmax(
      CausalTile tile,
      MemorySegment scores,
      Floats weights,
      MemorySegment maxima,
      MemorySegment sums,
      MemorySegment factors);

  /// The gradient of attention's softmax, which computes the weights again: `p[i, j] = e^(scale ·
  /// scores[i, j] − logSumExp[i])`, written to `weights`, and `dScores[i, j] = scale · p[i, j] ·
  /// (dWeights[i, j] − delta[i])`; both are zero for columns that row i does not see.
  ///
  /// @param scores float32
  /// @param dWeights float32, ∂L/∂p
  /// @param logSumExp float32
  /// @param delta float32, `Σ_j p[i, j] · ∂L/∂p[i, j]` over all columns of all tiles
  void causalSoftmaxBackward(
      CausalTile tile,
      MemorySegment scores,
      MemorySegment dWeights,
      MemorySegment logSumExp,
      MemorySegment delta,
      Floats weights,
      Floats dScores);

  /// Attention of one token's queries that share a key and value head, over all keys: with `s[g, j]
  /// = scale · Σ_c queries[g, c] · keys[j, c]` and `logSumExp[g] = ln Σ_j e^s[g, j]` it is `y[g, c]
  /// = Σ_j e^(s[g, j] − logSumExp[g]) · values[j, c]`.
  ///
  /// @param queries float32 `[group, width]`
  /// @param keys `[count, width]`
  /// @param values `[count, width]`, of the keys' type
  /// @param count how many keys, at least one
  /// @param y float32 `[group, width]`
  /// @param logSumExp float32 `[group]`
  void oneTokenAttention(
      MemorySegment queries,
      Floats keys,
      Floats values,
      int count,
      int group,
      int width,
      double scale,
      MemorySegment y,
      MemorySegment logSumExp);

  /// `x[i · width + j] ← x[i · width + j] · factors[i]`, all float32.
  void scaleRows(MemorySegment x, MemorySegment factors, int rows, int width);

  /// Brings rows together: `out[i · width + j]` is element j of row i in `x`. Worth it before any
  /// loop over short rows that stand apart: a copy keeps more reads from memory under way.
  ///
  /// @param out of x's element type
  void gatherRows(Floats x, HeadRows rows, Floats out);

  /// Takes rows apart: element j of row i in `out` becomes `x[i · width + j] / divisors[i]`, or
  /// `x[i · width + j]` without divisors.
  ///
  /// @param x float32
  /// @param divisors float32, or null
  void scatterRows(MemorySegment x, @Nullable MemorySegment divisors, Floats out, HeadRows rows);

  /// The inverse of [#gatherRows].
  ///
  /// @param out of x's element type
  void spreadRows(Floats x, Floats out, HeadRows rows);

  /// [#scatterRows] through the gate: element j of row i in `out` becomes `x[i · width + j] /
  /// divisors[i] · σ(z[i, j])`.
  ///
  /// @param x float32
  /// @param divisors float32
  /// @param z logits, brought together: `z[i · scores + j]`, or `z[i]` where a row shares its score
  /// @param scores of a row: its width, or 1
  void scatterGatedRows(
      MemorySegment x, MemorySegment divisors, Floats z, int scores, Floats out, HeadRows rows);

  /// The gradient of y ⊙ σ(z) from its result, for rows that were brought together. In place:
  /// `delta[i] = Σ_j dOut[i, j] · out[i, j]`, which is `Σ_j dy[i, j] · y[i, j]`; then `z[i, j] ←
  /// dOut[i, j] · out[i, j] · σ(−z[i, j])`, summed over j where a row shares its score; and
  /// `dOut[i, j] ← dOut[i, j] · σ(z[i, j])` with z as it was, which is dy. So y itself is not
  /// needed.
  ///
  /// @param scores of a row: its width, or 1
  /// @param delta float32
  void gatedRowsBackward(
      Floats dOut, Floats out, Floats z, int scores, MemorySegment delta, int rows, int width);

  /// `out[i] = Σ_j a[i · width + j] · b[i · width + j]`.
  ///
  /// @param out float32
  void dotRows(Floats a, Floats b, MemorySegment out, int rows, int width);

  /// The causal convolution of channels over tokens, with SiLU: `u[b, t, c] = Σ_i weight[c, i] ·
  /// x[b, t − w + 1 + i, c]` for i < w and `out[b, t, c] = u · σ(u)`. Tokens before the first one
  /// are the last ones of the history, or zero; those before a token's start are zero for it.
  ///
  /// @param history `[batch, w − 1, channels]`, or null
  /// @param weight `[channels, w]`
  /// @param from the first channel, and `to` the one after the last
  void causalConvolution(
      Floats x,
      @Nullable Floats history,
      Floats weight,
      Floats out,
      Convolution sizes,
      int from,
      int to);

  /// [#causalConvolution] of one token of one sequence, to the bit, after which the history ends
  /// with that token. The weight stands the other way, so that channels are adjacent. All is
  /// float32.
  ///
  /// @param x `[channels]`, as is out
  /// @param history `[w − 1, channels]`
  /// @param weight `[w, channels]`
  void convolutionStep(
      MemorySegment x,
      MemorySegment history,
      MemorySegment weight,
      MemorySegment out,
      int channels,
      int width,
      int from,
      int to);

  /// The gradient of [#causalConvolution]: with `du[b, t, c] = dOut[b, t, c] · σ(u) · (1 + u ·
  /// σ(−u))`, `dx[b, t, c] = Σ_i weight[c, w − 1 − i] · du[b, t + i, c]`, and `dWeight[c, i]` grows
  /// by `Σ_{b, t} du[b, t, c] · x[b, t − w + 1 + i, c]`. The history gets no gradient.
  ///
  /// @param dWeight float32, added to
  void causalConvolutionBackward(
      Floats dOut,
      Floats x,
      @Nullable Floats history,
      Floats weight,
      Floats dx,
      Floats dWeight,
      Convolution sizes,
      int from,
      int to);

  /// The logarithm of 2⁻⁴⁸, the square of what float32 rounds to. A decay below it counts as a
  /// factor of zero: what is left would come out as subnormal numbers, which take a hundred times
  /// as long, or lose its digits in any sum.
  double FORGOTTEN = -48 * Math.log(2);

  /// The triangular matrices of a chunk of n tokens of the gated delta rule, with `e(i, j) =
  /// e^(decays[i] − decays[j])`, and zero below e^[#FORGOTTEN]: `system[i, j] = rates[i] ·
  /// scores[i, j] · e(i, j)` for j < i, `weights[i, j] = scores[n + i, j] · e(i, j)` for j ≤ i, and
  /// zero elsewhere. Only decays of later tokens from earlier ones are taken, so that nothing
  /// overflows.
  ///
  /// @param scores float32 `[2n, n]`: keys with keys, then queries with keys
  /// @param decays that do not rise
  /// @param system float32 `[n, n]`
  /// @param weights float32 `[n, n]`
  /// @param rows n
  void deltaScores(
      MemorySegment scores,
      double[] decays,
      float[] rates,
      MemorySegment system,
      MemorySegment weights,
      int rows);

  /// The gradient of [#deltaScores], where ∂L/∂system is `−products[i, j]` and ∂L/∂weights is
  /// `products[n + i, j]`: `dScores` grows by ∂L/∂scores, `dDecays` and `dRates` by what their
  /// names say.
  ///
  /// @param products float32 `[2n, n]`
  /// @param dScores float32 `[2n, n]`, added to
  void deltaScoresBackward(
      MemorySegment scores,
      MemorySegment products,
      double[] decays,
      float[] rates,
      MemorySegment dScores,
      double[] dDecays,
      double[] dRates,
      int rows);

  /// Solves `(I + L) y = x`, or `(I + Lᵀ) y = x`, for every column of x, which y takes the place
  /// of.
  ///
  /// @param lower float32 `[rows, rows]`, zero on and above the diagonal
  /// @param x float32 `[rows, width]`
  void solveUnitTriangle(
      MemorySegment lower, MemorySegment x, boolean transposed, int rows, int width);

  /// `sums[i · width + j] += factors[i] · x[i · width + j]`, and `dots[i] = factors[i] · Σ_j x[i ·
  /// width + j] · base[i · width + j]`, which is the gradient of the factor's logarithm where x is
  /// that of factors times base; all float32.
  void addScaledRows(
      MemorySegment x,
      MemorySegment factors,
      MemorySegment base,
      MemorySegment sums,
      MemorySegment dots,
      int rows,
      int width);

  /// Whether [#deltaStep] with these widths is machine code, and faster by token than what many
  /// tokens take together.
  default boolean isDeltaStepMachineCode(int keyWidth, int valueWidth) {
    return false;
  }

  /// One token of the gated delta rule of one head: with `u = stateᵀ key`, `w = stateᵀ query` and
  /// `d = rate · (value − decay · u)`: `out = decay · w + (query · key) d`, and `state ← decay ·
  /// state + key dᵀ`.
  ///
  /// @param key float32
  /// @param query float32
  /// @param decay a factor from 0 to 1
  /// @param state float32 `[keyWidth, valueWidth]`
  void deltaStep(
      MemorySegment key,
      MemorySegment query,
      Floats value,
      float decay,
      float rate,
      MemorySegment state,
      Floats out,
      int keyWidth,
      int valueWidth);

  /// The next-token loss of rows of logits and its gradient: `logSums[r] = ln Σ_j e^logits[r·v +
  /// j]`, `losses[r] = logSums[r] − logits[r·v + targets[r]]`, `dLogits[r·v + j] = scale ·
  /// (softmax_j · (1 + 2 · z · logSums[r]) − [j = targets[r]])`, which is that of `losses[r] + z ·
  /// logSums[r]²`.
  ///
  /// @param logits float32
  /// @param targets int64, each in 0 … v − 1
  /// @param losses float32
  /// @param logSums float32
  /// @param dLogits null when no gradient is wanted; may share memory with nothing
  /// @param zLoss z
  /// @param vocabulary v
  void crossEntropy(
      MemorySegment logits,
      MemorySegment targets,
      MemorySegment losses,
      MemorySegment logSums,
      @Nullable Floats dLogits,
      double scale,
      double zLoss,
      int vocabulary,
      long from,
      long to);

  /// `out[i] = x[i]` in out's element type.
  void copy(Floats x, Floats out, long from, long to);

  /// `out[i] = a · x[i] + b · y[i]` in out's element type, computed in float32.
  ///
  /// @param out may be x or y
  void weightedSum(Floats x, float a, Floats y, float b, Floats out, long from, long to);

  /// `Σ x[i]²` of float32 numbers, summed in double precision in an order that depends on `from`
  /// and `to` alone.
  double squareSum(MemorySegment x, long from, long to);

  /// Adds row r of `rows` to row `ids[r]` of a float32 table, for all `count` rows in their order
  /// and columns `from … to` of each.
  void addRows(
      Floats rows, MemorySegment ids, MemorySegment table, int width, long count, int from, int to);

  /// Products of stored rows `from … to` with a few inputs: `y[i · yStride + r] = Σ_c w[r, c] · x[i
  /// · columns + c]`. A row's sum is taken in an order that depends on the number of columns alone,
  /// so it has the same bits however many inputs there are.
  ///
  /// @param x float32
  /// @param inputs how many
  /// @param y float32
  void storedProduct(
      StoredMatrix w,
      MemorySegment x,
      int inputs,
      MemorySegment y,
      long yStride,
      long from,
      long to);

  /// The numbers of stored rows: `out[(r − from) · columns + c] = w[r, c]` in out's element type.
  default void dequantize(StoredMatrix w, long from, long to, Floats out) {
    if (w.order() == StoredMatrix.Order.ROWS) {
      dequantizeRows(w, from, to, out);
      return;
    }
    long end;
    for (long row = from; row < to; row = end) {
      end = Math.min(to, (row / PackedStrips.ROWS + 1) * PackedStrips.ROWS);
      var rows = PackedStrips.rows(w, row, (int) (end - row));
      dequantizeRows(rows, 0, end - row, out.from((row - from) * w.columns()));
    }
  }

  /// The same as [#dequantize] of a matrix in the order of rows.
  void dequantizeRows(StoredMatrix w, long from, long to, Floats out);

  private static Kernels choose() {
    var machine = MachineKernels.make();
    return machine == null ? VectorModule.kernels() : machine;
  }
}
