package dev.sluice.cli;

import dev.sluice.decoder.Decoder;
import dev.sluice.kernel.ReadBandwidth;
import dev.sluice.kernel.StoredMatrix;
import dev.sluice.report.Numbers;
import dev.sluice.tensor.Weight;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.Optional;

/// What limits the tokens a second of one sequence: each token reads the weights once.
///
/// @param bytes of weights that a token reads
/// @param bytesPerSecond at which this machine reads them
record WeightReading(long bytes, double bytesPerSecond) {
  private static final double SECONDS = 0.3;

  /// Bytes below which weights stay in a core's cache, where another limit holds.
  private static final long LEAST = 64 << 20;

  /// Bytes from which on more would say no more: all of a model larger than memory would come from
  /// the disk, twice.
  private static final long ENOUGH = 512 << 20;

  /// Measures it on the weights themselves; empty for a model whose matrices are not where they are
  /// read, or of which a token reads a part.
  static Optional<WeightReading> of(Decoder decoder) {
    List<StoredMatrix> matrices =
        decoder.parameters().weights().values().stream()
            .filter(weight -> !isTableAlone(decoder, weight))
            .map(Weight::stored)
            .filter(Objects::nonNull)
            .toList();
    long bytes = matrices.stream().mapToLong(StoredMatrix::bytes).sum();
    List<MemorySegment> parts = new ArrayList<>();
    long measured = 0;
    for (var matrix : matrices) {
      if (matrix.isWhole() && measured < ENOUGH) {
        long taken = Math.min(matrix.bytes(), ENOUGH - measured);
        parts.add(matrix.data().asSlice(0, taken));
        measured += taken;
      }
    }
    boolean readsAll =
        decoder.config().layers().stream()
            .allMatch(layer -> layer.feedForward().experts().count() == 0);
    return measured < LEAST || !readsAll
        ? Optional.empty()
        : Optional.of(new WeightReading(bytes, ReadBandwidth.bytesPerSecond(parts, SECONDS)));
  }

  /// Of the table of tokens a token reads one row, where it does not give the logits too.
  private static boolean isTableAlone(Decoder decoder, Weight weight) {
    return !decoder.config().tieWordEmbeddings()
        && weight.name().equals("model.embed_tokens.weight");
  }

  /// Which share of the limit a rate is. Where it is more, memory was slower when it was measured
  /// than it can be.
  String words(double tokensPerSecond) {
    if (tokensPerSecond * bytes > bytesPerSecond) {
      return ", which reads %s of weights a token; memory gave %s/s afterwards, as others used it, too"
          .formatted(Numbers.bytes(bytes), Numbers.bytes((long) bytesPerSecond));
    }
    return ", %s of what reading %s of weights a token at %s/s allows"
        .formatted(
            Numbers.percent(tokensPerSecond * bytes / bytesPerSecond, 0),
            Numbers.bytes(bytes),
            Numbers.bytes((long) bytesPerSecond));
  }
}
