package dev.sluice.decoder;

import dev.sluice.kernel.Floats;
import dev.sluice.kernel.Kernels;
import dev.sluice.tensor.Tensor;

/// What stands between the products of a feed-forward layer: a gated linear unit of its gate g and
/// its input u, element by element (Shazeer 2020, arXiv 2002.05202).
public sealed interface Glu {
  /// SwiGLU, `silu(g) ⊙ u`.
  record Swish() implements Glu {}

  /// SwiGLU whose factors are clamped: `min(silu(g), c) ⊙ clamp(u, ± c)` (`transformers`' step3p7).
  ///
  /// @param limit c
  record ClampedFactors(double limit) implements Glu {
    public ClampedFactors {
      DecoderConfig.requirePositive("swiglu_limits", limit);
    }
  }

  /// SwiGLU of clamped inputs, with 1 added to one: `g' σ(α g') ⊙ (u' + 1)` of `g' = min(g, c)` and
  /// `u' = clamp(u, ± c)` (`transformers`' gpt_oss).
  ///
  /// @param limit c
  /// @param slope α
  record ClampedInputs(double limit, double slope) implements Glu {
    public ClampedInputs {
      DecoderConfig.requirePositive("swiglu_limit", limit);
      DecoderConfig.requirePositive("the slope of the gate's sigmoid", slope);
    }
  }

  /// The definition.
  ///
  /// @param g `[…, F]`
  /// @param u likewise
  default Tensor of(Tensor g, Tensor u) {
    return switch (this) {
      case Swish() -> g.silu().times(u);
      case ClampedFactors(double limit) ->
          g.silu().clamp(Double.NEGATIVE_INFINITY, limit).times(u.clamp(-limit, limit));
      case ClampedInputs(double limit, double slope) -> {
        var gate = g.clamp(Double.NEGATIVE_INFINITY, limit);
        yield u.clamp(-limit, limit).plus(1).times(gate.times(gate.times(slope).sigmoid()));
      }
    };
  }

  /// The same in a model that only runs, without an operation of libtorch.
  ///
  /// @param g `count` float32 numbers, which may be written over
  /// @param u likewise
  /// @param out is written
  default void run(Floats g, Floats u, Floats out, long count) {
    var kernels = Kernels.FASTEST;
    switch (this) {
      case Swish() -> kernels.swiGlu(g, u, out, 0, count);
      case ClampedFactors(double limit) -> {
        float c = (float) limit;
        kernels.sigmoidGate(g, g, out, 1, 0, count);
        for (long i = 0; i < count; i++) {
          out.set(i, Math.min(out.get(i), c) * Math.clamp(u.get(i), -c, c));
        }
      }
      case ClampedInputs(double limit, double slope) -> {
        float c = (float) limit;
        for (long i = 0; i < count; i++) {
          g.set(i, Math.min(g.get(i), c));
          out.set(i, g.get(i) * (float) slope);
        }
        kernels.sigmoidGate(g, out, g, 1, 0, count);
        for (long i = 0; i < count; i++) {
          out.set(i, (Math.clamp(u.get(i), -c, c) + 1) * g.get(i));
        }
      }
    }
  }
}
