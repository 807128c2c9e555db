package dev.sluice.operations;

import dev.sluice.kernel.Kernels;
import dev.sluice.kernel.Threads;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.MatrixProduct;
import dev.sluice.tensor.MatrixProduct.Matrix;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Scratch;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.function.Function;
import java.util.stream.Stream;

/// The feed-forward layer `(silu(x W_gateᵀ) ⊙ x W_upᵀ) W_downᵀ` as one operation: a block of tokens
/// passes all three products while it is in a core's cache.
///
/// Groups of tokens may have weights of their own, the experts of a mixture. A group is worked on
/// in pieces of 256, 128, … 1 tokens (of 128 at most in float32), so that there are few different
/// products however many tokens an expert has; each of them is compiled. Tokens of one group that
/// nothing is kept of go in as few equal pieces as there are threads, of 64 to 512: each product
/// rearranges its weights anew, which tells where it has few rows.
///
/// For the backward pass the two inner products' results are kept, and their gradients are written
/// over them.
public final class SwiGlu {
  /// Tokens of a block times the bytes of a number.
  private static final long BLOCK_BYTES = 512;

  /// Tokens of an equal piece.
  private static final long LEAST_EQUAL = 64;

  private static final long MOST_EQUAL = 512;

  /// Numbers of the activation below which a second thread costs more than it saves.
  private static final long INNER_GRAIN = 1 << 14;

  /// The weights of one expert.
  ///
  /// @param gate `[F, D]`
  /// @param up `[F, D]`
  /// @param down `[D, F]`
  public record Weights(Weight gate, Weight up, Weight down) {
    /// @param prefix of the names, such as `model.layers.0.mlp.`
    public static Weights of(Parameters parameters, String prefix) {
      return new Weights(
          parameters.weight(prefix + "gate_proj.weight"),
          parameters.weight(prefix + "up_proj.weight"),
          parameters.weight(prefix + "down_proj.weight"));
    }

    private boolean isStored() {
      return gate.isStored() || up.isStored() || down.isStored();
    }

    private Stream<Tensor> leaves() {
      return Stream.of(gate.leaf(), up.leaf(), down.leaf());
    }

    private Matrices of(ElementType type) {
      return new Matrices(gate.of(type), up.of(type), down.of(type));
    }
  }

  /// What products take of the weights of one expert.
  private record Matrices(Tensor gate, Tensor up, Tensor down) {
    private Stream<Tensor> all() {
      return Stream.of(gate, up, down);
    }
  }

  /// Rows `from … to`, all of one expert.
  private record Piece(int expert, long from, long to) {}

  private final Tensor x;
  private final List<Piece> pieces;
  private final List<Weights> weights;
  private final List<Matrices> matrices;
  private final long width;
  private final ElementType type;

  /// Rows of a piece at most.
  private final long block;

  private SwiGlu(Tensor x, List<Piece> pieces, List<Weights> weights, Precision precision) {
    this.x = x;
    this.pieces = pieces;
    this.weights = weights;
    this.type = precision.elementType();
    this.matrices = weights.stream().map(expert -> expert.of(type)).toList();
    this.width = matrices.getFirst().gate.size(0);
    this.block = pieces.stream().mapToLong(piece -> piece.to - piece.from).max().orElse(0);
  }

  /// The definition.
  static Tensor composed(Tensor x, Weights weights, Precision precision) {
    var type = precision.elementType();
    var input = x.to(type);
    var gate = input.linear(weights.gate.recorded(type)).silu();
    return gate.times(input.linear(weights.up.recorded(type))).linear(weights.down.recorded(type));
  }

  /// The definition for groups of rows.
  ///
  /// @param starts where each expert's rows start, and behind them how many rows there are
  static Tensor composed(Tensor x, long[] starts, List<Weights> weights, Precision precision) {
    var parts = new ArrayList<Tensor>();
    for (int expert = 0; expert < weights.size(); expert++) {
      var rows = x.narrow(0, starts[expert], starts[expert + 1] - starts[expert]);
      parts.add(composed(rows, weights.get(expert), precision));
    }
    return Tensor.concatenate(parts, 0);
  }

  /// @param x `[…, D]`
  /// @return of x's shape and the precision's element type
  static Tensor apply(Tensor x, Weights weights, Precision precision) {
    long rows = x.elements() / x.size(-1);
    return apply(x, new long[] {0, rows}, List.of(weights), precision);
  }

  /// @param x `[rows, D]`
  /// @param starts where each expert's rows start, and behind them how many rows there are
  static Tensor apply(Tensor x, long[] starts, List<Weights> weights, Precision precision) {
    if (weights.stream().anyMatch(Weights::isStored)) {
      return stored(x, starts, weights, precision);
    }
    var input = x.to(precision.elementType()).contiguous();
    var all = weights.stream().flatMap(Weights::leaves).toList();
    boolean recording = FusedOp.recording(List.of(input), all);
    return FusedOp.apply(
            "feed-forward",
            List.of(input),
            all,
            () ->
                new SwiGlu(
                        input,
                        recording || weights.size() > 1
                            ? pieces(starts, precision.elementType())
                            : equalPieces(starts[1]),
                        weights,
                        precision)
                    .forward(recording))
        .getFirst();
  }

  /// The same with stored weights: experts share the threads where [StoredExperts] takes their rows,
  /// and follow one another where it does not.
  private static Tensor stored(
      Tensor x, long[] starts, List<Weights> weights, Precision precision) {
    var type = precision.elementType();
    if (weights.size() == 1) {
      return stored(x, weights.getFirst(), type);
    }
    return StoredExperts.apply(
        x,
        starts,
        weights,
        type,
        StoredExperts.Unit.SWIGLU,
        (expert, rows) -> stored(rows, weights.get(expert), type));
  }

  private static Tensor stored(Tensor x, Weights weights, ElementType type) {
    var both = Linear.apply(x, List.of(weights.gate, weights.up), type);
    var gate = both.getFirst();
    var inner = Tensor.uninitialized(gate, type, gate.shape());
    var gates = gate.numbers();
    var ups = both.getLast().numbers();
    var to = inner.numbers();
    Threads.split(
        inner.elements(),
        INNER_GRAIN,
        (first, last) -> Kernels.FASTEST.swiGlu(gates, ups, to, first, last));
    return Linear.apply(inner, List.of(weights.down), type).getFirst();
  }

  private FusedOp.Forward forward(boolean recording) {
    long rows = x.elements() / x.size(-1);
    var y = Tensor.uninitialized(x, type, x.shape());
    var kept = new ArrayList<Tensor>();
    if (recording) {
      kept.add(Tensor.uninitialized(x, type, rows, width));
      kept.add(Tensor.uninitialized(x, type, rows, width));
    }
    var xs = Matrix.of(x);
    var ys = Matrix.of(y);
    each(
        piece -> {
          var expert = matrices.get(piece.expert);
          var input = xs.rows(piece.from, piece.to);
          var gate = recording ? rows(kept.getFirst(), piece) : scratch("gate", piece);
          var up = recording ? rows(kept.getLast(), piece) : scratch("up", piece);
          MatrixProduct.multiply(input, Matrix.of(expert.gate).transposed(), gate, false);
          MatrixProduct.multiply(input, Matrix.of(expert.up).transposed(), up, false);
          var inner = scratch("inner", piece);
          Kernels.FASTEST.swiGlu(
              gate.elements().from(gate.start()),
              up.elements().from(up.start()),
              inner.elements(),
              0,
              inner.rows() * width);
          MatrixProduct.multiply(
              inner, Matrix.of(expert.down).transposed(), ys.rows(piece.from, piece.to), false);
        });
    var saved = new ArrayList<>(kept);
    saved.add(x);
    matrices.stream().flatMap(Matrices::all).forEach(saved::add);
    return new FusedOp.Forward(
        List.of(y),
        saved,
        upstreams ->
            backward(
                Objects.requireNonNull(upstreams.getFirst()), kept.getFirst(), kept.getLast()));
  }

  /// @param gate the gate product's results; ∂L/∂ of them afterwards
  /// @param up likewise
  private Tensor[] backward(Tensor upstream, Tensor gate, Tensor up) {
    var dx = Tensor.uninitialized(x, type, x.shape());
    var innerAgain = Tensor.uninitialized(x, type, gate.shape());
    var dy = Matrix.of(upstream);
    var dxs = Matrix.of(dx);
    each(
        piece -> {
          var expert = matrices.get(piece.expert);
          var dInner = scratch("inner", piece);
          var gates = rows(gate, piece);
          var ups = rows(up, piece);
          MatrixProduct.multiply(
              dy.rows(piece.from, piece.to), Matrix.of(expert.down), dInner, false);
          Kernels.FASTEST.swiGluBackward(
              dInner.elements(),
              gates.elements().from(gates.start()),
              ups.elements().from(ups.start()),
              innerAgain.numbers().from(piece.from * width),
              gates.elements().from(gates.start()),
              ups.elements().from(ups.start()),
              0,
              dInner.rows() * width);
          inputGradient(gates, ups, expert, dxs.rows(piece.from, piece.to));
        });
    var xs = Matrix.of(x);
    addGradients(Weights::gate, Matrix.of(gate), xs);
    addGradients(Weights::up, Matrix.of(up), xs);
    addGradients(Weights::down, dy, Matrix.of(innerAgain));
    return new Tensor[] {dx};
  }

  /// dx ← dGate W_gate + dUp W_up, summed in float32.
  private void inputGradient(Matrix dGate, Matrix dUp, Matrices expert, Matrix dx) {
    boolean direct = type == ElementType.FLOAT32;
    long elements = dx.rows() * dx.columns();
    var scratch = direct ? null : Scratch.numbers("dx", block * dx.columns(), false);
    var sum = scratch == null ? dx : Matrix.of(scratch, dx.rows(), dx.columns());
    MatrixProduct.multiply(dGate, Matrix.of(expert.gate), sum, false);
    MatrixProduct.multiply(dUp, Matrix.of(expert.up), sum, true);
    if (scratch != null) {
      Kernels.FASTEST.copy(scratch, dx.elements().from(dx.start()), 0, elements);
    }
  }

  /// dW ← dW + dyᵀ x for every expert's weight; without rows its gradient is zero.
  private void addGradients(Function<Weights, Weight> which, Matrix dy, Matrix x) {
    var all = weights.stream().map(which).map(Weight::leaf).toList();
    if (all.size() == 1) {
      if (all.getFirst().requiresGradient()) {
        FusedOp.gradientOf(
            all.getFirst(),
            (sum, add) -> MatrixProduct.split(dy.transposed(), x, Matrix.of(sum), add));
      }
      return;
    }
    var sums = new Matrix[all.size()];
    boolean[] add = new boolean[all.size()];
    for (int expert = 0; expert < sums.length; expert++) {
      int at = expert;
      if (all.get(expert).requiresGradient()) {
        FusedOp.gradientOf(
            all.get(expert),
            (sum, there) -> {
              sums[at] = Matrix.of(sum);
              add[at] = there;
              if (!there && pieces.stream().noneMatch(piece -> piece.expert == at)) {
                sum.fill(0);
              }
            });
      }
    }
    Threads.split(
        sums.length,
        1,
        (from, to) -> {
          for (var piece : pieces) {
            var sum = sums[piece.expert];
            if (piece.expert >= from && piece.expert < to && sum != null) {
              MatrixProduct.multiply(
                  dy.rows(piece.from, piece.to).transposed(),
                  x.rows(piece.from, piece.to),
                  sum,
                  add[piece.expert]);
              add[piece.expert] = true;
            }
          }
        });
  }

  private static Matrix rows(Tensor tensor, Piece piece) {
    return Matrix.of(tensor).rows(piece.from, piece.to);
  }

  /// A thread's own rows of the inner width.
  private Matrix scratch(String purpose, Piece piece) {
    var numbers = Scratch.numbers(purpose, block * width, type == ElementType.BFLOAT16);
    return Matrix.of(numbers, piece.to - piece.from, width);
  }

  private interface Work {
    void on(Piece piece);
  }

  private void each(Work work) {
    Threads.split(
        pieces.size(),
        1,
        (from, to) -> {
          for (int i = (int) from; i < to; i++) {
            work.on(pieces.get(i));
          }
        });
  }

  private static long block(ElementType type) {
    return BLOCK_BYTES / type.bytes();
  }

  private static List<Piece> equalPieces(long rows) {
    long threads = Threads.count();
    long perThread = Math.max(1, Math.ceilDiv(rows, threads * MOST_EQUAL));
    long count = Math.clamp(rows / LEAST_EQUAL, 1, threads * perThread);
    var pieces = new ArrayList<Piece>();
    for (long i = 0; i < count; i++) {
      pieces.add(new Piece(0, rows * i / count, rows * (i + 1) / count));
    }
    return pieces;
  }

  private static List<Piece> pieces(long[] starts, ElementType type) {
    var pieces = new ArrayList<Piece>();
    for (int expert = 0; expert + 1 < starts.length; expert++) {
      for (long from = starts[expert]; from < starts[expert + 1]; ) {
        long rows = Math.min(block(type), Long.highestOneBit(starts[expert + 1] - from));
        pieces.add(new Piece(expert, from, from + rows));
        from += rows;
      }
    }
    return pieces;
  }
}
