package dev.sluice.decoder;

import dev.sluice.decoder.DecoderBlock.Residual;
import dev.sluice.operations.DocumentStarts;
import dev.sluice.operations.Rotation;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/// A block of whose forward pass nothing is kept but what went in: it runs again, with gradients,
/// when its backward pass is due (Chen et al. 2016, arXiv 1604.06174).
///
/// It is one operation whose backward pass is a whole graph: libtorch's engine runs that inside the
/// other one's hook, and gradients of weights are added where they belong.
final class RecomputedBlock {
  private RecomputedBlock() {}

  /// @param weights the block's leaves
  /// @param documents outlive the backward pass
  static Residual apply(
      DecoderBlock block,
      List<Tensor> weights,
      Residual x,
      @Nullable Rotation rotation,
      @Nullable DocumentStarts documents) {
    var inputs = new ArrayList<Tensor>();
    inputs.add(x.streamBTD());
    if (x.addedBTD() != null) {
      inputs.add(x.addedBTD());
    }
    boolean[] wanted = new boolean[inputs.size()];
    for (int i = 0; i < wanted.length; i++) {
      wanted[i] = inputs.get(i).requiresGradient();
    }
    var results =
        FusedOp.apply(
            FusedOp.UNNAMED,
            inputs,
            weights,
            () -> {
              var first = block.forward(x, rotation, documents, null, Probe.NONE, null);
              var saved = new ArrayList<>(inputs);
              if (rotation != null) {
                saved.add(rotation.cosines());
                saved.add(rotation.sines());
              }
              return new FusedOp.Forward(
                  List.of(
                      first.streamBTD().unlinked(),
                      Objects.requireNonNull(first.addedBTD()).unlinked()),
                  saved,
                  upstreams -> again(block, inputs, wanted, rotation, documents, upstreams));
            });
    return new Residual(results.getFirst(), results.getLast());
  }

  private static Tensor[] again(
      DecoderBlock block,
      List<Tensor> inputs,
      boolean[] wanted,
      @Nullable Rotation rotation,
      @Nullable DocumentStarts documents,
      List<@Nullable Tensor> upstreams) {
    var gradients = new Tensor[wanted.length];
    try (var scope = Scope.withGradient()) {
      var leaves = new ArrayList<Tensor>();
      for (int i = 0; i < wanted.length; i++) {
        leaves.add(inputs.get(i).detach().requireGradient(wanted[i]));
      }
      var x = new Residual(leaves.getFirst(), leaves.size() == 1 ? null : leaves.getLast());
      var second = block.forward(x, rotation, documents, null, Probe.NONE, null);
      Tensor.backward(
          List.of(second.streamBTD(), Objects.requireNonNull(second.addedBTD())), upstreams);
      for (int i = 0; i < wanted.length; i++) {
        if (wanted[i]) {
          gradients[i] = scope.keep(Objects.requireNonNull(leaves.get(i).gradient()));
        }
      }
    }
    return gradients;
  }
}
