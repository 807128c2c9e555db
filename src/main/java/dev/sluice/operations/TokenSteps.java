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
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;

/// The way of one token of each of a few sequences through a model on the CPU, written down once as
/// steps over memory of its own, and gone for each token: no tensor is made on the way, and no
/// thread is left alone between two operations. That is what a token's time is besides that of the
/// weights.
///
/// Each method writes an operation down and gives the memory where its result will be. It runs the
/// same kernels in the same order as the operation of [Operations] that its comment names, which is
/// its definition, and gives the same bits: a text does not show which way its tokens went.
///
/// All numbers are float32, and all weights of products are stored. Legend: B sequences.
public final class TokenSteps {
  /// The most sequences: what products take as a few.
  public static final int MOST_SEQUENCES = StoredProduct.FEW;

  private final int sequences;
  private final Arena arena = Arena.ofAuto();
  private final Steps steps = new Steps();

  /// Memory of the present block and of the one before, in the order in which it was asked for.
  private final List<List<MemorySegment>> ofBlocks = List.of(new ArrayList<>(), new ArrayList<>());

  private int block;
  private int next;

  /// @param sequences B, from 1 to [#MOST_SEQUENCES]
  public TokenSteps(int sequences) {
    if (sequences < 1 || sequences > MOST_SEQUENCES) {
      throw new IllegalArgumentException("a token of each of %d sequences".formatted(sequences));
    }
    this.sequences = sequences;
  }

  /// Begins a block of the model: what was given in the blocks before the last one will be used
  /// again.
  public void beginBlock() {
    block++;
    next = 0;
  }

  /// Memory for rows of so many numbers, one for each sequence, until the next block but one.
  Floats rows(long width) {
    return Floats.float32(memory(Math.multiplyExact(sequences * width, (long) Float.BYTES)));
  }

  private MemorySegment memory(long bytes) {
    var own = ofBlocks.get(block % 2);
    if (next == own.size()) {
      own.add(arena.allocate(bytes, 64));
    } else if (own.get(next).byteSize() != bytes) {
      own.set(next, arena.allocate(bytes, 64));
    }
    return own.get(next++);
  }

  /// Writes down work that all threads share, as [Steps#shared] says.
  void shared(long length, long piece, Threads.Part part) {
    steps.shared(length, piece, part);
  }

  /// Writes down work on each sequence's row: one row is too little to share.
  private void byRow(Threads.Part part) {
    if (sequences == 1) {
      steps.alone(() -> part.run(0, 1));
    } else {
      shared(sequences, 1, part);
    }
  }

  /// B.
  int sequences() {
    return sequences;
  }

  /// [Operations#embedding], of a stored table: the stream.
  ///
  /// @param tokens of each sequence a row of the table, when the steps are gone
  /// @param multiplier of the rows
  /// @return `[B, D]`, which stays
  public Floats embedding(StoredMatrix table, int[] tokens, double multiplier) {
    long width = table.columns();
    var stream = kept(sequences * width);
    float factor = (float) multiplier;
    steps.alone(
        () -> {
          for (int i = 0; i < sequences; i++) {
            var row = stream.from(i * width);
            Kernels.FASTEST.dequantize(table, tokens[i], tokens[i] + 1L, row);
            if (factor != 1) {
              Kernels.FASTEST.weightedSum(row, factor, row, 0, row, 0, width);
            }
          }
        });
    return stream;
  }

  /// [Operations#residualNorm]: the stream takes up what is added to it, in place.
  ///
  /// @param stream `[B, D]`
  /// @param added to the stream, or null
  /// @return the normed stream
  public Floats residualNorm(Floats stream, @Nullable Floats added, Tensor weight, RmsNorm norm) {
    var factors = factors(norm, weight);
    int width = Math.toIntExact(weight.elements());
    var normed = rows(width);
    double epsilon = norm.epsilon();
    byRow(
        (from, to) ->
            Kernels.FASTEST.rmsNorm(
                stream, added, factors, epsilon, stream, normed, width, from, to));
    return normed;
  }

  /// What an attention layer does between its products, see [OneTokenAttention].
  ///
  /// @param sinks scores that take attention from the keys, `[N]`; null where there are none
  /// @param queryNorm weight of QK-norm `[H]`, or null where there is none
  /// @param keyNorm likewise
  public OneTokenAttention attention(
      OneTokenAttention.Shape shape,
      Floats queries,
      Floats keys,
      Floats values,
      @Nullable Tensor sinks,
      @Nullable Floats gateLogits,
      @Nullable Tensor queryNorm,
      @Nullable Tensor keyNorm,
      RmsNorm norm) {
    var norms =
        queryNorm == null || keyNorm == null
            ? null
            : new OneTokenAttention.Norms(factors(norm, queryNorm), factors(norm, keyNorm));
    return new OneTokenAttention(
        this,
        shape,
        queries,
        keys,
        values,
        sinks == null ? null : kept(sinks),
        gateLogits,
        norms,
        norm);
  }

  /// What a layer of Gated DeltaNet does between its products, see [OneTokenDelta].
  ///
  /// @param epsilon of the norm of heads
  public OneTokenDelta delta(
      DeltaHeads heads,
      OneTokenDelta.Projected projected,
      OneTokenDelta.Learned learned,
      double epsilon) {
    return new OneTokenDelta(this, heads, projected, learned, epsilon);
  }

  /// What a norm multiplies with.
  private Floats factors(RmsNorm norm, Tensor weight) {
    return kept(norm.factors(weight));
  }

  /// A copy of float32 numbers that stays.
  Floats kept(Tensor numbers) {
    var memory = numbers.contiguous().memory();
    var kept = kept(numbers.elements());
    kept.memory().copyFrom(memory);
    return kept;
  }

  /// Memory for so many numbers that stays.
  Floats kept(long count) {
    return Floats.float32(arena.allocate(count * Float.BYTES, 64));
  }

  /// [Operations#linear].
  ///
  /// @param x `[B, in]`
  /// @return `[B, out]` for each weight; null if one of them is not stored
  public @Nullable List<Floats> products(Floats x, List<Weight> weights) {
    var stored = new ArrayList<StoredMatrix>();
    var results = new ArrayList<Floats>();
    for (var weight : weights) {
      var matrix = weight.stored();
      if (matrix == null) {
        return null;
      }
      stored.add(matrix);
      results.add(rows(matrix.rows()));
    }
    var product = direct(x, stored, results);
    shared(product.rows(), product.piece(), product::multiply);
    return results;
  }

  /// Writes down that the rows of x are arranged.
  private DirectProduct direct(Floats x, List<StoredMatrix> weights, List<Floats> results) {
    var ys = results.stream().map(Floats::memory).toList();
    var product = new DirectProduct(weights, x.memory(), sequences, ys, this::memory);
    product.begin(sequences);
    shared(product.vectors(), 1, product::arrange);
    return product;
  }

  /// A bias is added to each row.
  ///
  /// @param x `[B, width]`, in place
  public void add(Floats x, Tensor bias) {
    long width = bias.elements();
    var kept = kept(bias);
    byRow(
        (from, to) -> {
          for (long row = from; row < to; row++) {
            var its = x.from(row * width);
            Kernels.FASTEST.weightedSum(its, 1, kept, 1, its, 0, width);
          }
        });
  }

  /// [Operations#swiGlu].
  ///
  /// @param x `[B, D]`
  /// @return `[B, D]`; null if a weight is not stored
  public @Nullable Floats swiGlu(Floats x, SwiGlu.Weights weights) {
    var both = products(x, List.of(weights.gate(), weights.up()));
    if (both == null) {
      return null;
    }
    var inner = activated(both.getFirst(), both.getLast());
    var down = products(inner, List.of(weights.down()));
    return down == null ? null : down.getFirst();
  }

  private Floats activated(Floats gate, Floats up) {
    long width = gate.length() / sequences;
    var inner = rows(width);
    byRow((from, to) -> Kernels.FASTEST.swiGlu(gate, up, inner, from * width, to * width));
    return inner;
  }

  /// A mixture of experts.
  ///
  /// @param asked first the router, of which `routing` takes the product, and behind it the gate of
  ///   the shared expert where it has one
  /// @param routing says which experts the tokens at hand go through, by logits `[B, experts]`
  /// @param perToken K
  /// @param shared the expert that all tokens go through besides, a SwiGLU; null for none
  public record Mixture(
      List<Weight> asked,
      Function<Floats, ExpertRows> routing,
      List<SwiGlu.Weights> experts,
      StoredExperts.Unit unit,
      int perToken,
      SwiGlu.@Nullable Weights shared) {}

  /// [ExpertRows#dispatched], [StoredExperts#apply] and [ExpertRows#mixed]. What the shared expert
  /// multiplies is shared among the threads with what stands beside it.
  ///
  /// @param x `[B, D]`
  /// @return `[B, D]`; null if a weight is not stored, or not as those of the other experts
  public @Nullable Floats mixture(Floats x, Mixture mixture) {
    var matrices = StoredExperts.Matrices.of(mixture.experts);
    List<Weight> first = new ArrayList<>(mixture.asked);
    var shared = mixture.shared;
    if (shared != null) {
      first.add(shared.gate());
      first.add(shared.up());
    }
    var products = matrices == null ? null : products(x, first);
    var ofAll = shared == null || products == null ? null : down(products, shared);
    if (matrices == null || products == null || (shared != null && ofAll == null)) {
      return null;
    }
    int width = Math.toIntExact(x.length() / sequences);
    int most = sequences * mixture.perToken;
    long bytes = (long) width * Float.BYTES;
    var dispatched = memory(most * bytes);
    var returned = memory(most * bytes);
    var gate = mixture.asked.size() > 1 ? products.get(1) : null;
    var mixing =
        new ExpertRows.Mixing(
            Floats.float32(returned),
            ofAll == null ? null : ofAll.result,
            gate,
            rows(width),
            width);
    var rows = new AtomicReference<ExpertRows>();
    var experts =
        new StoredExperts(
            matrices,
            mixture.unit,
            dispatched,
            returned,
            most,
            this::memory,
            (from, to) -> rows.getPlain().dispatch(x.memory(), bytes, dispatched, from, to));
    steps.alone(
        () -> {
          var its = mixture.routing.apply(products.getFirst());
          rows.setPlain(its);
          experts.begin(its.starts());
        });
    for (var stage : experts.stages()) {
      if (ofAll != null && stage.isLastProduct()) {
        together(ofAll.product, stage);
      } else {
        steps.shared(stage.length(), stage.piece(), stage.part());
      }
    }
    byRow((from, to) -> rows.getPlain().mix(mixing, sequences, from, to));
    return mixing.out();
  }

  /// The last product of the shared expert, which is still to be multiplied.
  private record Down(DirectProduct product, Floats result) {}

  /// @param products of which the last two are its gate and its input
  private @Nullable Down down(List<Floats> products, SwiGlu.Weights shared) {
    var matrix = shared.down().stored();
    if (matrix == null) {
      return null;
    }
    var inner = activated(products.get(products.size() - 2), products.getLast());
    var result = rows(matrix.rows());
    var product = direct(inner, List.of(matrix), List.of(result));
    return new Down(product, result);
  }

  /// Writes down one product and then what stands behind it, as one step.
  private void together(DirectProduct product, StoredExperts.Stage stage) {
    long own = product.rows();
    steps.shared(
        () -> own + stage.length().getAsLong(),
        stage.piece(),
        (from, to) -> {
          if (from < own) {
            product.multiply(from, Math.min(to, own));
          }
          if (to > own) {
            stage.part().run(Math.max(from, own) - own, to - own);
          }
        });
  }

  /// Goes all steps.
  public void run() {
    try (var _ = Operation.begin("one token", Operation.FORWARD)) {
      steps.run();
    }
  }
}
