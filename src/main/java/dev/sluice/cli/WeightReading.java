package dev.sluice.cli;

import dev.sluice.decoder.Decoder;
import dev.sluice.kernel.ReadBandwidth;
import dev.sluice.kernel.StoredMatrix;
import dev.sluice.report.Numbers;
import dev.sluice.tensor.Weight;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/// What limits the tokens a second of one sequence: each token reads the weights that it goes
/// through, and what the layers keep of the tokens before.
///
/// @param weights bytes of weights that a token reads, the mean where it goes through some experts
/// @param state bytes of keys, values and recurrent states that it moves, the mean of all tokens
/// @param bytesPerSecond at which this machine reads weights
record WeightReading(long weights, long state, double bytesPerSecond) {
  private static final double SECONDS = 0.3;

  /// Bytes below which weights stay in a core's cache, where another limit holds.
  private static final long LEAST = 64 << 20;

  /// Bytes from which on more would say no more: all of a model larger than memory would come from
  /// the disk, twice.
  private static final long ENOUGH = 512 << 20;

  /// Measures it on the weights themselves; empty for a model whose matrices are not where they are
  /// read.
  ///
  /// @param tokens of the sequence, in the mean
  static Optional<WeightReading> of(Decoder decoder, long tokens) {
    var config = decoder.config();
    List<MemorySegment> parts = new ArrayList<>();
    long measured = 0;
    double bytes = 0;
    for (var weight : decoder.parameters().weights().values()) {
      StoredMatrix matrix = weight.stored();
      if (matrix == null || isTableAlone(decoder, weight)) {
        continue;
      }
      bytes += matrix.bytes() * config.sharePerToken(weight.name());
      if (matrix.isWhole() && measured < ENOUGH) {
        long taken = Math.min(matrix.bytes(), ENOUGH - measured);
        parts.add(matrix.data().asSlice(0, taken));
        measured += taken;
      }
    }
    return measured < LEAST
        ? Optional.empty()
        : Optional.of(
            new WeightReading(
                Math.round(bytes),
                config.bytesMoved(tokens, Math.toIntExact(decoder.keyValueType().bytes())),
                ReadBandwidth.bytesPerSecond(parts, SECONDS)));
  }

  /// Of the table of tokens a token reads one row, where it does not give the logits too.
  private static boolean isTableAlone(Decoder decoder, Weight weight) {
    return !decoder.config().tieWordEmbeddings()
        && weight.name().equals("model.embed_tokens.weight");
  }

  /// Which share of the limit a rate is. Where it is more, memory was slower when it was measured
  /// than it can be.
  String words(double tokensPerSecond) {
    String moved =
        "%s of weights and %s of state".formatted(Numbers.bytes(weights), Numbers.bytes(state));
    double share = tokensPerSecond * (weights + state) / bytesPerSecond;
    if (share > 1) {
      return ", which reads %s a token; memory gave %s/s afterwards, as others used it, too"
          .formatted(moved, Numbers.bytes((long) bytesPerSecond));
    }
    return ", %s of what reading %s a token at %s/s allows"
        .formatted(Numbers.percent(share, 0), moved, Numbers.bytes((long) bytesPerSecond));
  }
}
