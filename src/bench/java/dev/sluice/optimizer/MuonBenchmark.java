package dev.sluice.optimizer;

import dev.sluice.operations.MuonUpdate;
import dev.sluice.operations.Operations;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.ParameterSpec;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.TimedBenchmark;
import dev.sluice.tensor.Weight;
import java.util.ArrayList;
import java.util.List;
import org.openjdk.jmh.annotations.Benchmark;

/// Muon's step over the maps of one layer, against libtorch's operations in bfloat16. Numbers
/// outside of products are float32 in every precision.
public class MuonBenchmark extends TimedBenchmark {
  private static final MuonUpdate.Step STEP = new MuonUpdate.Step(1e-4, 0.95, 0.1, 1);

  private final List<MuonUpdate> updates = new ArrayList<>();

  @Override
  protected void prepare() {
    long hidden = shape.hidden;
    long inner = shape.feedForward;
    long[][] maps = {
      {hidden, hidden}, {hidden, hidden}, {hidden, hidden}, // queries, gate, results
      {inner, hidden}, {inner, hidden}, {hidden, inner}
    };
    for (long[] map : maps) {
      var leaf = tensors.constant(ElementType.FLOAT32, map);
      updates.add(
          new MuonUpdate(
              new Weight("map", ParameterSpec.map(map[0], map[1]), leaf),
              tensors.constant(ElementType.FLOAT32, map),
              tensors.own(Tensor.zeros(ElementType.FLOAT32, map)),
              STEP));
    }
  }

  @Benchmark
  public void composed() {
    try (var _ = Scope.withoutGradient()) {
      Operations.COMPOSED.muon(updates);
    }
  }

  @Benchmark
  public void fused() {
    try (var _ = Scope.withoutGradient()) {
      Operations.FUSED.muon(updates);
    }
  }
}
