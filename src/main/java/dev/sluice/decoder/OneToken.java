package dev.sluice.decoder;

import dev.sluice.kernel.Floats;
import dev.sluice.kernel.StoredMatrix;
import dev.sluice.operations.Rotation;
import dev.sluice.operations.TokenSteps;
import dev.sluice.state.Past;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.IntFunction;
import org.jspecify.annotations.Nullable;

/// One token of each of a few sequences, on its way through a model that only runs: what
/// [Decoder#hiddenStates] gives, bit for bit, in the steps of [TokenSteps].
final class OneToken {
  private final TokenSteps steps;
  private final List<DecoderBlock.Begin> layers = new ArrayList<>();
  private final long vocabulary;
  private final int[] tokens;
  private final Floats result;

  /// The steps have one memory, so that one pass goes them at a time.
  private final ReentrantLock lock = new ReentrantLock();

  private OneToken(
      int sequences,
      StoredMatrix table,
      double multiplier,
      List<DecoderBlock> blocks,
      GatedNorm finalNorm)
      throws NotWritten {
    this.steps = new TokenSteps(sequences);
    this.tokens = new int[sequences];
    this.vocabulary = table.rows();
    var stream = steps.embedding(table, tokens, multiplier);
    Floats added = null;
    for (var block : blocks) {
      var written = NotWritten.unless(block.write(steps, stream, added));
      layers.add(written.begin());
      added = written.added();
    }
    this.result = NotWritten.unless(finalNorm.write(steps, stream, added));
  }

  /// The model has something that is not written down.
  private static final class NotWritten extends Exception {
    private static final long serialVersionUID = 1;

    NotWritten() {
      super(null, null, false, false);
    }

    static <T> T unless(@Nullable T written) throws NotWritten {
      if (written == null) {
        throw new NotWritten();
      }
      return written;
    }
  }

  /// The steps of a model, or null where it has something that is not written down: gates elsewhere
  /// than on attention's output, clipped sums, or matrices that are not stored.
  ///
  /// @param sequences how many, B
  /// @param multiplier of the table's rows
  static @Nullable OneToken of(
      int sequences,
      @Nullable StoredMatrix table,
      double multiplier,
      List<DecoderBlock> blocks,
      GatedNorm finalNorm) {
    try {
      return table == null ? null : new OneToken(sequences, table, multiplier, blocks, finalNorm);
    } catch (NotWritten e) {
      return null;
    }
  }

  /// The hidden states `[B, 1, D]` after the final norm.
  ///
  /// @param idsBT one token of each sequence
  /// @param past of these sequences, whose pass has begun
  /// @param rotations of the tokens' positions, by layer; null where a layer turns nothing
  /// @return null when other tokens are on their way
  @Nullable Tensor hiddenStates(
      Tensor idsBT, Past past, IntFunction<@Nullable Rotation> rotations) {
    if (!lock.tryLock()) {
      return null;
    }
    try {
      long[] ids = idsBT.contiguous().longs();
      for (int i = 0; i < tokens.length; i++) {
        if (ids[i] < 0 || ids[i] >= vocabulary) {
          throw new IndexOutOfBoundsException(
              "token %d of a table of %d".formatted(ids[i], vocabulary));
        }
        tokens[i] = (int) ids[i];
      }
      for (int layer = 0; layer < layers.size(); layer++) {
        layers.get(layer).begin(past, rotations.apply(layer), idsBT);
      }
      steps.run();
      long width = result.length() / tokens.length;
      var hidden = Tensor.uninitialized(idsBT, ElementType.FLOAT32, tokens.length, 1, width);
      hidden.memory().copyFrom(result.memory());
      return hidden;
    } finally {
      lock.unlock();
    }
  }
}
