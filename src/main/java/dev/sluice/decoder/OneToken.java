package dev.sluice.decoder;

import dev.sluice.attention.Attention;
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

/// One token that continues one sequence, on its way through a model that only runs: what
/// [Decoder#hiddenStates] gives, bit for bit, in the steps of [TokenSteps].
final class OneToken {
  private final TokenSteps steps = new TokenSteps();
  private final List<Attention.Written> layers = new ArrayList<>();
  private final long vocabulary;
  private final Floats result;

  /// The steps have one memory, so that one token goes them at a time.
  private final ReentrantLock lock = new ReentrantLock();

  private int token;

  private OneToken(StoredMatrix table, List<DecoderBlock> blocks, GatedNorm finalNorm)
      throws NotWritten {
    this.vocabulary = table.rows();
    var stream = steps.embedding(table, () -> token);
    Floats added = null;
    for (var block : blocks) {
      var written = NotWritten.unless(block.write(steps, stream, added));
      layers.add(written.attention());
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

  /// The steps of a model, or null where it has something that is not written down: layers of
  /// another kind than plain attention and SwiGLU, or matrices that are not stored.
  static @Nullable OneToken of(
      @Nullable StoredMatrix table, List<DecoderBlock> blocks, GatedNorm finalNorm) {
    try {
      return table == null ? null : new OneToken(table, blocks, finalNorm);
    } catch (NotWritten e) {
      return null;
    }
  }

  /// The hidden state `[1, 1, D]` after the final norm.
  ///
  /// @param idsBT one token
  /// @param past of one sequence, whose pass has begun
  /// @param rotations of the token's position, by layer; null where a layer turns nothing
  /// @return null when another token is on its way
  @Nullable Tensor hiddenState(Tensor idsBT, Past past, IntFunction<@Nullable Rotation> rotations) {
    if (!lock.tryLock()) {
      return null;
    }
    try {
      long id = idsBT.contiguous().longs()[0];
      if (id < 0 || id >= vocabulary) {
        throw new IndexOutOfBoundsException("token %d of a table of %d".formatted(id, vocabulary));
      }
      token = (int) id;
      for (int layer = 0; layer < layers.size(); layer++) {
        layers.get(layer).begin(past, rotations.apply(layer), idsBT);
      }
      steps.run();
      var hidden = Tensor.uninitialized(idsBT, ElementType.FLOAT32, 1, 1, result.length());
      hidden.memory().copyFrom(result.memory());
      return hidden;
    } finally {
      lock.unlock();
    }
  }
}
