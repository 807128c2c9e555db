package dev.sluice.operations;

import dev.sluice.kernel.Floats;
import dev.sluice.kernel.Kernels;
import dev.sluice.kernel.Steps;
import dev.sluice.kernel.StoredMatrix;
import dev.sluice.kernel.Threads;
import dev.sluice.tensor.Operation;
import dev.sluice.tensor.RmsNorm;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.function.IntSupplier;
import org.jspecify.annotations.Nullable;

/// One token's way through a model on the CPU, written down once as steps over memory of its own,
/// and gone for each token: no tensor is made on the way, and no thread is left alone between two
/// operations. That is what one token's time is besides that of its weights.
///
/// Each method writes an operation down and gives the memory where its result will be. It runs the
/// same kernels in the same order as the operation of [Operations] that its comment names, which is
/// its definition, and gives the same bits: a text does not show which way its tokens went.
///
/// All numbers are float32, and all weights of products are stored. For one token at a time.
public final class TokenSteps {
  private final Arena arena = Arena.ofAuto();
  private final Steps steps = new Steps();

  /// Memory for a vector, of zeros.
  Floats vector(long width) {
    return Floats.float32(memory(width * Float.BYTES));
  }

  private MemorySegment memory(long bytes) {
    return arena.allocate(bytes, 64);
  }

  private void alone(Runnable work) {
    steps.alone(work);
  }

  /// Writes down work that all threads share, as [Steps#shared] says.
  void shared(long length, long piece, Threads.Part part) {
    steps.shared(length, piece, part);
  }

  /// [Operations#embedding], of a stored table.
  ///
  /// @param token a row of the table when the steps are gone
  public Floats embedding(StoredMatrix table, IntSupplier token) {
    var row = vector(table.columns());
    alone(
        () -> {
          int id = token.getAsInt();
          Kernels.FASTEST.dequantize(table, id, id + 1, row);
        });
    return row;
  }

  /// [Operations#residualNorm]: the stream takes up what is added to it, in place.
  ///
  /// @param added to the stream, or null
  /// @return the normed stream
  public Floats residualNorm(
      Floats stream, @Nullable Floats added, Tensor weight, RmsNorm norm, int width) {
    var factors = factors(norm, weight);
    var normed = vector(width);
    double epsilon = norm.epsilon();
    alone(
        () ->
            Kernels.FASTEST.rmsNorm(stream, added, factors, epsilon, stream, normed, width, 0, 1));
    return normed;
  }

  /// What an attention layer does between its products, see [OneTokenAttention].
  ///
  /// @param queryNorm weight of QK-norm `[H]`, or null where there is none
  /// @param keyNorm likewise
  public OneTokenAttention attention(
      OneTokenAttention.Shape shape,
      Floats queries,
      Floats keys,
      Floats values,
      @Nullable Floats gateLogits,
      @Nullable Tensor queryNorm,
      @Nullable Tensor keyNorm,
      RmsNorm norm) {
    var norms =
        queryNorm == null || keyNorm == null
            ? null
            : new OneTokenAttention.Norms(factors(norm, queryNorm), factors(norm, keyNorm));
    return new OneTokenAttention(this, shape, queries, keys, values, gateLogits, norms, norm);
  }

  /// What a norm multiplies with, in memory that stays.
  private Floats factors(RmsNorm norm, Tensor weight) {
    var factors = vector(weight.elements());
    factors.memory().copyFrom(norm.factors(weight).contiguous().memory());
    return factors;
  }

  /// [Operations#linear].
  ///
  /// @return a product for each weight; null if one of them is not stored
  public @Nullable List<Floats> products(Floats x, List<Weight> weights) {
    var stored = new ArrayList<StoredMatrix>();
    var results = new ArrayList<Floats>();
    for (var weight : weights) {
      var matrix = weight.stored();
      if (matrix == null) {
        return null;
      }
      stored.add(matrix);
      results.add(vector(matrix.rows()));
    }
    var ys = results.stream().map(Floats::memory).toList();
    var few = new StoredProduct.Few(stored, x.memory(), 1, ys, this::memory);
    alone(few::arrange);
    shared(few.rows(), few.piece(), few::multiply);
    return results;
  }

  /// [Operations#swiGlu].
  ///
  /// @return null if a weight is not stored
  public @Nullable Floats swiGlu(Floats x, SwiGlu.Weights weights) {
    var both = products(x, List.of(weights.gate(), weights.up()));
    if (both == null) {
      return null;
    }
    long width = both.getFirst().length();
    var inner = vector(width);
    alone(() -> Kernels.FASTEST.swiGlu(both.getFirst(), both.getLast(), inner, 0, width));
    var down = products(inner, List.of(weights.down()));
    return down == null ? null : down.getFirst();
  }

  /// Goes all steps.
  public void run() {
    try (var _ = Operation.begin("one token", Operation.FORWARD)) {
      steps.run();
    }
  }
}
