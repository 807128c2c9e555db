package dev.sluice.sink;

import dev.sluice.probe.Probe;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import java.util.TreeMap;

/// How the heads of Gated DeltaNet layers forget and learn, and how much they hold: what takes the
/// place of an attention map where there is none.
public final class DeltaStatistics implements Probe {
  private static final String RATES = "the rates of layer";

  private final TreeMap<Integer, Sums[]> layers = new TreeMap<>();

  /// Has seen nothing yet.
  public DeltaStatistics() {}

  private static final class Sums {
    double kept;
    double rates;
    long tokens;
    double norms;
    long states;
  }

  /// Means of a head over all tokens.
  ///
  /// @param decay e^g, what a token leaves of the state before it: 1 forgets nothing
  /// @param rate β, how much of a token's value is learned
  /// @param stateNorm Frobenius norm of the state after a window's last token, mean over windows
  public record Head(double decay, double rate, double stateNorm) {}

  /// The heads of a layer.
  public record Layer(int layer, List<Head> heads) {
    public Layer {
      heads = List.copyOf(heads);
    }
  }

  /// The layers that are Gated DeltaNet; none in a model of attention alone.
  public record Result(List<Layer> layers) {
    public Result {
      layers = List.copyOf(layers);
    }
  }

  @Override
  public boolean wantsRecurrence(int layer) {
    return true;
  }

  @Override
  public void recurrence(int layer, Tensor decaysBTN, Tensor ratesBTN, Tensor stateBNKV) {
    int heads = Math.toIntExact(decaysBTN.size(2));
    var sums = layers.computeIfAbsent(layer, _ -> fresh(heads));
    float[] decays = decaysBTN.floats();
    float[] rates = ratesBTN.floats();
    for (int i = 0; i < decays.length; i++) {
      var head = sums[i % heads];
      head.kept += Math.exp(NotFinite.require(decays[i], RATES, layer));
      head.rates += NotFinite.require(rates[i], RATES, layer);
      head.tokens++;
    }
    float[] state = stateBNKV.floats();
    int elements = Math.toIntExact(stateBNKV.size(2) * stateBNKV.size(3));
    for (int at = 0; at < state.length; at += elements) {
      double squares = 0;
      for (int i = at; i < at + elements; i++) {
        double value = NotFinite.require(state[i], "the states of layer", layer);
        squares += value * value;
      }
      var head = sums[at / elements % heads];
      head.norms += Math.sqrt(squares);
      head.states++;
    }
  }

  private static Sums[] fresh(int heads) {
    var sums = new Sums[heads];
    for (int head = 0; head < heads; head++) {
      sums[head] = new Sums();
    }
    return sums;
  }

  /// What was seen.
  public Result result() {
    List<Layer> result = new ArrayList<>();
    layers.forEach(
        (layer, sums) -> {
          List<Head> heads = new ArrayList<>();
          for (var head : sums) {
            heads.add(
                new Head(
                    head.kept / head.tokens, head.rates / head.tokens, head.norms / head.states));
          }
          result.add(new Layer(layer, heads));
        });
    return new Result(result);
  }
}
