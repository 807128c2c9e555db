package dev.sluice.kernel;

import java.lang.foreign.MemorySegment;
import org.jspecify.annotations.Nullable;

/// All kernels, by those that a process has without machine code, which are made when the first of
/// them runs. Until then nothing of the Vector API is loaded, which takes a tenth of a second.
abstract class DeferredKernels implements Kernels {
  private static final class Deferred {
    static final Kernels KERNELS = VectorModule.kernels();
  }

  @Override
  public void gatherRows(Floats x, HeadRows rows, Floats out) {
    rows.gather(x, out);
  }

  @Override
  public void spreadRows(Floats x, Floats out, HeadRows rows) {
    rows.spread(x, out);
  }

  @Override
  public void sigmoidGate(Floats y, Floats z, Floats out, int width, long from, long to) {
    Deferred.KERNELS.sigmoidGate(y, z, out, width, from, to);
  }

  @Override
  public void sigmoidGateBackward(
      Floats dOut, Floats y, Floats z, Floats dy, Floats dz, int width, long from, long to) {
    Deferred.KERNELS.sigmoidGateBackward(dOut, y, z, dy, dz, width, from, to);
  }

  @Override
  public void adamW(
      MemorySegment parameter,
      MemorySegment gradient,
      MemorySegment firstMoment,
      MemorySegment secondMoment,
      AdamWStep step,
      long from,
      long to) {
    Deferred.KERNELS.adamW(parameter, gradient, firstMoment, secondMoment, step, from, to);
  }

  @Override
  public void rmsNorm(
      Floats x,
      @Nullable Floats added,
      Floats weight,
      double epsilon,
      Floats sum,
      Floats out,
      int width,
      long from,
      long to) {
    Deferred.KERNELS.rmsNorm(x, added, weight, epsilon, sum, out, width, from, to);
  }

  @Override
  public void rmsNormBackward(
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
      long to) {
    Deferred.KERNELS.rmsNormBackward(
        dOut, sum, weight, epsilon, dPast, dSum, dAdded, dWeight, width, from, to);
  }

  @Override
  public void normRotate(
      Floats x,
      @Nullable Floats weight,
      double epsilon,
      Rotations rotations,
      Floats out,
      int heads,
      int width,
      long from,
      long to) {
    Deferred.KERNELS.normRotate(x, weight, epsilon, rotations, out, heads, width, from, to);
  }

  @Override
  public void normRotateBackward(
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
      long to) {
    Deferred.KERNELS.normRotateBackward(
        dOut, x, weight, epsilon, rotations, dx, dWeight, heads, width, from, to);
  }

  @Override
  public void swiGlu(Floats gate, Floats up, Floats out, long from, long to) {
    Deferred.KERNELS.swiGlu(gate, up, out, from, to);
  }

  @Override
  public void swiGluBackward(
      Floats dOut,
      Floats gate,
      Floats up,
      Floats out,
      Floats dGate,
      Floats dUp,
      long from,
      long to) {
    Deferred.KERNELS.swiGluBackward(dOut, gate, up, out, dGate, dUp, from, to);
  }

  @Override
  public void causalSoftmax(
      CausalTile tile,
      MemorySegment scores,
      Floats weights,
      MemorySegment maxima,
      MemorySegment sums,
      MemorySegment factors) {
    Deferred.KERNELS.causalSoftmax(tile, scores, weights, maxima, sums, factors);
  }

  @Override
  public void causalSoftmaxBackward(
      CausalTile tile,
      MemorySegment scores,
      MemorySegment dWeights,
      MemorySegment logSumExp,
      MemorySegment delta,
      Floats weights,
      Floats dScores) {
    Deferred.KERNELS.causalSoftmaxBackward(
        tile, scores, dWeights, logSumExp, delta, weights, dScores);
  }

  @Override
  public void oneTokenAttention(
      MemorySegment queries,
      Floats keys,
      Floats values,
      int count,
      int group,
      int width,
      double scale,
      MemorySegment y,
      MemorySegment logSumExp) {
    Deferred.KERNELS.oneTokenAttention(
        queries, keys, values, count, group, width, scale, y, logSumExp);
  }

  @Override
  public void scaleRows(MemorySegment x, MemorySegment factors, int rows, int width) {
    Deferred.KERNELS.scaleRows(x, factors, rows, width);
  }

  @Override
  public void scatterRows(
      MemorySegment x, @Nullable MemorySegment divisors, Floats out, HeadRows rows) {
    Deferred.KERNELS.scatterRows(x, divisors, out, rows);
  }

  @Override
  public void scatterGatedRows(
      MemorySegment x, MemorySegment divisors, Floats z, int scores, Floats out, HeadRows rows) {
    Deferred.KERNELS.scatterGatedRows(x, divisors, z, scores, out, rows);
  }

  @Override
  public void gatedRowsBackward(
      Floats dOut, Floats out, Floats z, int scores, MemorySegment delta, int rows, int width) {
    Deferred.KERNELS.gatedRowsBackward(dOut, out, z, scores, delta, rows, width);
  }

  @Override
  public void dotRows(Floats a, Floats b, MemorySegment out, int rows, int width) {
    Deferred.KERNELS.dotRows(a, b, out, rows, width);
  }

  @Override
  public void causalConvolution(
      Floats x,
      @Nullable Floats history,
      Floats weight,
      Floats out,
      Convolution sizes,
      int from,
      int to) {
    Deferred.KERNELS.causalConvolution(x, history, weight, out, sizes, from, to);
  }

  @Override
  public void convolutionStep(
      MemorySegment x,
      MemorySegment history,
      MemorySegment weight,
      MemorySegment out,
      int channels,
      int width,
      int from,
      int to) {
    Deferred.KERNELS.convolutionStep(x, history, weight, out, channels, width, from, to);
  }

  @Override
  public void causalConvolutionBackward(
      Floats dOut,
      Floats x,
      @Nullable Floats history,
      Floats weight,
      Floats dx,
      Floats dWeight,
      Convolution sizes,
      int from,
      int to) {
    Deferred.KERNELS.causalConvolutionBackward(
        dOut, x, history, weight, dx, dWeight, sizes, from, to);
  }

  @Override
  public void deltaScores(
      MemorySegment scores,
      double[] decays,
      float[] rates,
      MemorySegment system,
      MemorySegment weights,
      int rows) {
    Deferred.KERNELS.deltaScores(scores, decays, rates, system, weights, rows);
  }

  @Override
  public void deltaScoresBackward(
      MemorySegment scores,
      MemorySegment products,
      double[] decays,
      float[] rates,
      MemorySegment dScores,
      double[] dDecays,
      double[] dRates,
      int rows) {
    Deferred.KERNELS.deltaScoresBackward(
        scores, products, decays, rates, dScores, dDecays, dRates, rows);
  }

  @Override
  public void solveUnitTriangle(
      MemorySegment lower, MemorySegment x, boolean transposed, int rows, int width) {
    Deferred.KERNELS.solveUnitTriangle(lower, x, transposed, rows, width);
  }

  @Override
  public void addScaledRows(
      MemorySegment x,
      MemorySegment factors,
      MemorySegment base,
      MemorySegment sums,
      MemorySegment dots,
      int rows,
      int width) {
    Deferred.KERNELS.addScaledRows(x, factors, base, sums, dots, rows, width);
  }

  @Override
  public void deltaStep(
      MemorySegment key,
      MemorySegment query,
      Floats value,
      float decay,
      float rate,
      MemorySegment state,
      Floats out,
      int keyWidth,
      int valueWidth) {
    Deferred.KERNELS.deltaStep(key, query, value, decay, rate, state, out, keyWidth, valueWidth);
  }

  @Override
  public void crossEntropy(
      MemorySegment logits,
      MemorySegment targets,
      MemorySegment losses,
      MemorySegment logSums,
      @Nullable Floats dLogits,
      double scale,
      double zLoss,
      int vocabulary,
      long from,
      long to) {
    Deferred.KERNELS.crossEntropy(
        logits, targets, losses, logSums, dLogits, scale, zLoss, vocabulary, from, to);
  }

  @Override
  public void copy(Floats x, Floats out, long from, long to) {
    Deferred.KERNELS.copy(x, out, from, to);
  }

  @Override
  public void weightedSum(Floats x, float a, Floats y, float b, Floats out, long from, long to) {
    Deferred.KERNELS.weightedSum(x, a, y, b, out, from, to);
  }

  @Override
  public double squareSum(MemorySegment x, long from, long to) {
    return Deferred.KERNELS.squareSum(x, from, to);
  }

  @Override
  public void addRows(
      Floats rows,
      MemorySegment ids,
      MemorySegment table,
      int width,
      long count,
      int from,
      int to) {
    Deferred.KERNELS.addRows(rows, ids, table, width, count, from, to);
  }

  @Override
  public void storedProduct(
      StoredMatrix w,
      MemorySegment x,
      int inputs,
      MemorySegment y,
      long yStride,
      long from,
      long to) {
    Deferred.KERNELS.storedProduct(w, x, inputs, y, yStride, from, to);
  }

  @Override
  public void dequantizeRows(StoredMatrix w, long from, long to, Floats out) {
    Deferred.KERNELS.dequantizeRows(w, from, to, out);
  }
}
