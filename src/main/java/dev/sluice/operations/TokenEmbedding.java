package dev.sluice.operations;

import dev.sluice.kernel.Kernels;
import dev.sluice.kernel.Threads;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.util.List;
import java.util.Objects;

/// Rows of the embedding table, whose gradient is added row by row where it belongs.
final class TokenEmbedding {
  private TokenEmbedding() {}

  /// The definition.
  static Tensor composed(Weight table, Tensor idsBT) {
    return table.leaf().embedding(idsBT);
  }

  /// @param weight `[V, D]`
  /// @param idsBT int64
  /// @return `[B, T, D]`
  static Tensor apply(Weight weight, Tensor idsBT) {
    var stored = weight.stored();
    if (stored != null) {
      return StoredProduct.rows(stored, idsBT);
    }
    var table = weight.leaf();
    var ids = idsBT.contiguous();
    return FusedOp.apply(
            "embedding",
            List.of(),
            List.of(table),
            () ->
                new FusedOp.Forward(
                    List.of(table.embedding(ids)),
                    List.of(ids),
                    upstreams -> {
                      add(Objects.requireNonNull(upstreams.getFirst()), ids, table);
                      return new Tensor[0];
                    }))
        .getFirst();
  }

  private static void add(Tensor upstream, Tensor ids, Tensor table) {
    int width = Math.toIntExact(table.size(1));
    FusedOp.gradientOf(
        table,
        (gradient, add) -> {
          var sum = (add ? gradient : gradient.fill(0)).memory();
          var rows = upstream.numbers();
          var at = ids.memory();
          Threads.split(
              width,
              64,
              (from, to) ->
                  Kernels.FASTEST.addRows(
                      rows, at, sum, width, ids.elements(), (int) from, (int) to));
        });
  }
}
