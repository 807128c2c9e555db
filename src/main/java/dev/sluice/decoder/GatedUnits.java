package dev.sluice.decoder;

import dev.sluice.kernel.Floats;
import dev.sluice.kernel.Kernels;
import dev.sluice.operations.ExpertRows;
import dev.sluice.operations.Operations;
import dev.sluice.operations.Precision;
import dev.sluice.operations.StoredExperts;
import dev.sluice.operations.SwiGlu;
import dev.sluice.operations.TokenSteps;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;

/// Gated linear units with the products around them, `glu(x W_gateᵀ + b_gate, x W_upᵀ + b_up)
/// W_downᵀ + b_down`, each with weights of its own: the one of a dense layer, or the experts of a
/// mixture. SwiGLU without biases is one operation, [SwiGlu]; the others are products and what
/// libtorch computes between them.
final class GatedUnits {
  /// What is added to the products of a unit.
  ///
  /// @param gate `[F]`, a float32 leaf; null for nothing
  /// @param up `[F]`
  /// @param down `[D]`
  private record Biases(@Nullable Tensor gate, @Nullable Tensor up, @Nullable Tensor down) {
    static Biases of(Parameters parameters, String prefix) {
      return new Biases(
          parameters.find(prefix + "gate_proj.bias"),
          parameters.find(prefix + "up_proj.bias"),
          parameters.find(prefix + "down_proj.bias"));
    }
  }

  private final Glu glu;
  private final Precision precision;
  private final boolean isSwiGlu;
  private final List<SwiGlu.Weights> weights = new ArrayList<>();
  private final List<Biases> biases = new ArrayList<>();

  /// @param prefixes of each unit's names, such as `model.layers.0.mlp.`
  GatedUnits(
      Glu glu,
      boolean hasBiases,
      Precision precision,
      Parameters parameters,
      List<String> prefixes) {
    this.glu = glu;
    this.precision = precision;
    this.isSwiGlu = glu instanceof Glu.Swish && !hasBiases;
    for (String prefix : prefixes) {
      weights.add(SwiGlu.Weights.of(parameters, prefix));
      biases.add(Biases.of(parameters, prefix));
    }
  }

  /// What the only unit makes of all tokens.
  ///
  /// @param x `[…, D]`
  /// @return of x's shape and the precision's element type
  Tensor forward(Tensor x, Probe probe) {
    return isSwiGlu && !probe.changesProductInputs()
        ? Operations.of(x).swiGlu(x, weights.getFirst(), precision)
        : composed(x, weights.getFirst(), biases.getFirst(), probe);
  }

  /// Writes down what the only unit makes of a few tokens; null where it is no plain SwiGLU of
  /// stored matrices.
  @Nullable Floats write(TokenSteps steps, Floats x) {
    var plain = plain();
    return plain == null ? null : steps.swiGlu(x, plain);
  }

  /// The only unit's weights where it is a plain SwiGLU, else null.
  SwiGlu.@Nullable Weights plain() {
    return isSwiGlu && weights.size() == 1 ? weights.getFirst() : null;
  }

  /// The units as experts, to be written down.
  TokenSteps.Mixture mixture(
      List<Weight> asked,
      Function<Floats, ExpertRows> routing,
      int perToken,
      SwiGlu.@Nullable Weights shared) {
    return new TokenSteps.Mixture(asked, routing, weights, unit(), perToken, shared);
  }

  /// What each unit makes of its group of rows.
  ///
  /// @param x `[rows, D]`
  /// @param starts where each unit's rows start, and behind them how many rows there are
  Tensor forward(Tensor x, long[] starts, Probe probe) {
    return isSwiGlu && !probe.changesProductInputs()
        ? Operations.of(x).swiGlu(x, starts, weights, precision)
        : weights.getFirst().gate().isStored()
            ? StoredExperts.apply(
                x,
                starts,
                weights,
                precision.elementType(),
                unit(),
                (unit, rows) -> composed(rows, weights.get(unit), biases.get(unit), probe))
            : composed(x, starts, probe);
  }

  /// What a unit of stored matrices is besides its products.
  private StoredExperts.Unit unit() {
    return isSwiGlu
        ? StoredExperts.Unit.SWIGLU
        : new StoredExperts.Unit() {
          @Override
          public void between(int expert, Floats gate, Floats up, Floats inner, long count) {
            add(biases.get(expert).gate, gate, count);
            add(biases.get(expert).up, up, count);
            glu.run(gate, up, inner, count);
          }

          @Override
          public @Nullable Floats bias(int expert) {
            var down = biases.get(expert).down;
            return down == null ? null : down.numbers();
          }
        };
  }

  /// Adds a bias to each row.
  private static void add(@Nullable Tensor bias, Floats rows, long count) {
    if (bias != null) {
      long width = bias.elements();
      for (long at = 0; at < count; at += width) {
        var row = rows.from(at);
        Kernels.FASTEST.weightedSum(row, 1, bias.numbers(), 1, row, 0, width);
      }
    }
  }

  /// Where a backward pass is recorded, units without rows take part, so that it gives all weights
  /// gradients.
  private Tensor composed(Tensor x, long[] starts, Probe probe) {
    var all =
        weights.stream()
            .map(SwiGlu.Weights::gate)
            .filter(gate -> !gate.isStored())
            .map(Weight::leaf)
            .toList();
    boolean recording = FusedOp.recording(List.of(x), all);
    var parts = new ArrayList<Tensor>();
    for (int unit = 0; unit < weights.size(); unit++) {
      long rows = starts[unit + 1] - starts[unit];
      if (rows > 0 || recording) {
        var ofUnit = x.narrow(0, starts[unit], rows);
        parts.add(composed(ofUnit, weights.get(unit), biases.get(unit), probe));
      }
    }
    return Tensor.concatenate(parts, 0);
  }

  private Tensor composed(Tensor x, SwiGlu.Weights unit, Biases added, Probe probe) {
    var products = precision.linear(probe.productInput(x), List.of(unit.gate(), unit.up()));
    var inner =
        glu.of(biased(products.getFirst(), added.gate), biased(products.getLast(), added.up));
    return biased(precision.linear(probe.productInput(inner), unit.down()), added.down)
        .to(precision.elementType());
  }

  /// In float32, as the bias is, where there is one.
  private static Tensor biased(Tensor product, @Nullable Tensor bias) {
    return bias == null ? product : product.to(ElementType.FLOAT32).plus(bias);
  }
}
