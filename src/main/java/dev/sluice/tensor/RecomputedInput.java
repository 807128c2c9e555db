package dev.sluice.tensor;

import dev.sluice.kernel.Floats;
import java.util.List;

/// A linear layer's input that is cheap to compute, row by row, from other tensors. It is not kept
/// for the backward pass: both passes compute it for a block of rows that stays in a core's cache.
public interface RecomputedInput {
  /// For profiles.
  String name();

  /// What it is computed from: tensors with as many rows as this, whose element type it has.
  List<Tensor> inputs();

  /// The definition.
  Tensor composed();

  /// Computes rows `from … to`.
  ///
  /// @param out takes the rows, from its start on
  void forward(Floats out, long from, long to);

  /// Computes the gradients of rows `from … to` of all inputs, and the rows themselves again.
  ///
  /// @param upstream ∂L/∂row, from its start on
  /// @param out as in [#forward]
  /// @param gradients whole tensors of the inputs' shapes and types
  void backward(Floats upstream, Floats out, List<Floats> gradients, long from, long to);
}
