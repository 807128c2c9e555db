package dev.sluice.training;

import dev.sluice.InvalidInputException;
import dev.sluice.attention.AttentionVariant;
import dev.sluice.attention.SdpaNonlinearity;
import dev.sluice.attention.SoftmaxSink;
import dev.sluice.attention.SwitchHead;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.Decoders;
import dev.sluice.decoder.ResidualVariant;
import dev.sluice.gate.Gate;
import dev.sluice.settings.Setting;
import java.util.Arrays;
import java.util.List;

/// What a model of some shape has besides: gates, and the paper's other variations. Gates and what
/// changes attention are those of all layers with attention.
public record VariationSettings(
    @Setting(
            initial = "model",
            help =
                "model (the named model's own), none, sdpa-headwise, sdpa-elementwise, or"
                    + " POSITION-GRANULARITY with POSITION query, key, value, sdpa or dense and"
                    + " GRANULARITY headwise or elementwise; several joined by +.")
        String gate,
    @Setting(
            initial = "none",
            help =
                "none, off-by-one, or learned: an extra score per head in the softmax's"
                    + " denominator.")
        String softmaxSink,
    @Setting(
            initial = "false",
            help = "Take from each head's output its part along the token's own value.")
        boolean exclusiveAttention,
    @Setting(initial = "none", help = "none, rms-norm or silu, on each head's output.")
        String sdpaNonlinearity,
    @Setting(
            initial = "none",
            help =
                "none, value-N-choose-K or key-value-N-choose-K: each key/value head's projections"
                    + " chosen among experts.")
        String switchHead,
    @Setting(initial = "false", help = "Norm what a sublayer adds to the residual stream.")
        boolean sandwichNorm,
    @Setting(initial = "0", help = "Clip what a sublayer adds to this magnitude; 0 for none.")
        double residualClip,
    @Setting(initial = "0", help = "Gate every norm's result through this rank; 0 for plain norms.")
        int gatedNormRank,
    @Setting(
            initial = "false",
            help =
                "Narrow the feed-forward so that the gated model is as large as the ungated one.")
        boolean matchParameters) {
  /// The gates.
  ///
  /// @param model the named model, which may have its own
  List<Gate> gates(String model) {
    if (gate.isBlank() || gate.equals("none")) {
      return List.of();
    }
    if (gate.equals("model")) {
      return Decoders.named(model).firstAttention().orElseThrow().gates();
    }
    return Arrays.stream(gate.split("\\+")).map(Gate::parse).toList();
  }

  /// A plain model with all of this.
  DecoderConfig of(DecoderConfig plain, List<Gate> gates) {
    var attention =
        new AttentionVariant(
            SoftmaxSink.parse(softmaxSink),
            exclusiveAttention,
            SdpaNonlinearity.parse(sdpaNonlinearity),
            SwitchHead.parse(switchHead));
    boolean varies = !gates.isEmpty() || !attention.equals(AttentionVariant.PLAIN);
    if (varies && plain.layers().stream().allMatch(layer -> layer.attention().isEmpty())) {
      throw new InvalidInputException(
          "gate %s and what else changes attention need a layer that has attention; add attention to layers_pattern or leave them out"
              .formatted(gate));
    }
    var varied =
        plain
            .with(gates)
            .with(attention)
            .with(new ResidualVariant(sandwichNorm, residualClip, gatedNormRank));
    return matchParameters ? varied.matchingParameters(plain.parameterCount(), 1) : varied;
  }
}
