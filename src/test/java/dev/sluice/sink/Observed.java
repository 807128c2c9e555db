package dev.sluice.sink;

import dev.sluice.decoder.Decoder;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;

/// Everything that a pass over one window shows, copied out, for definitions in plain loops.
final class Observed implements Probe {
  record Values(int layer, String name, long[] shape, float[] values) {
    float at(int... index) {
      int flat = 0;
      for (int i = 0; i < shape.length; i++) {
        flat = flat * (int) shape[i] + index[i];
      }
      return values[flat];
    }

    int size(int dimension) {
      return (int) shape[dimension];
    }
  }

  final List<Values> attention = new ArrayList<>();
  final List<Values> gates = new ArrayList<>();
  final List<Values> before = new ArrayList<>();
  final List<Values> after = new ArrayList<>();
  final List<Values> residuals = new ArrayList<>();

  private final Probe watcher;

  private Observed(Probe watcher) {
    this.watcher = watcher;
  }

  /// Runs a batch of windows of equal length and shows a probe the same tensors as are copied here:
  /// a pass that is watched less may take fused operations, which round differently.
  static Observed watch(Decoder decoder, Probe watcher, long[]... windows) {
    long[] ids = new long[windows.length * windows[0].length];
    for (int i = 0; i < windows.length; i++) {
      System.arraycopy(windows[i], 0, ids, i * windows[0].length, windows[0].length);
    }
    var observed = new Observed(watcher);
    try (var _ = Scope.withoutGradient()) {
      var batch = Tensor.of(ids, windows.length, windows[0].length);
      var _ = decoder.hiddenStates(batch, null, observed);
    }
    return observed;
  }

  @Override
  public boolean wantsAttention(int layer) {
    return true;
  }

  @Override
  public void attention(int layer, int firstQuery, Tensor weightsBNTS) {
    attention.add(values(layer, "attention", weightsBNTS));
    if (watcher.wantsAttention(layer)) {
      watcher.attention(layer, firstQuery, weightsBNTS);
    }
  }

  @Override
  public boolean wantsGates(int layer) {
    return true;
  }

  @Override
  public void gate(int layer, String position, Tensor scores) {
    gates.add(values(layer, position, scores));
    if (watcher.wantsGates(layer)) {
      watcher.gate(layer, position, scores);
    }
  }

  @Override
  public void sdpaOutput(int layer, Tensor beforeBTNH, Tensor afterBTNH) {
    before.add(values(layer, "before", beforeBTNH));
    after.add(values(layer, "after", afterBTNH));
    if (watcher.wantsGates(layer)) {
      watcher.sdpaOutput(layer, beforeBTNH, afterBTNH);
    }
  }

  @Override
  public void residual(int index, Tensor xBTD) {
    residuals.add(values(index, "residual", xBTD));
    watcher.residual(index, xBTD);
  }

  private static Values values(int layer, String name, Tensor tensor) {
    return new Values(layer, name, tensor.shape(), tensor.floats());
  }
}
