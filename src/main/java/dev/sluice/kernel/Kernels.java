package dev.sluice.kernel;

import java.lang.foreign.MemorySegment;

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
