package dev.sluice.operations;

import dev.sluice.cuda.Kernel;
import dev.sluice.cuda.KernelFamily;
import dev.sluice.cuda.Launcher;
import dev.sluice.cuda.Launcher.Grid;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// [DeltaRule] by kernels, token by token: each column of a state goes on its own, and backwards
/// each row too. A token's results do not depend on how many come with it.
///
/// As it cannot be read back, a decay above zero is not refused: it makes NaN, which no step
/// accepts.
final class CudaDelta {
  /// Numbers of a state that a thread holds.
  private static final int HELD = 32;

  private static final int WARP = 32;
  private static final int THREADS = 128;

  /// The widest key or value: a line of a state is held by a warp at most.
  private static final int WIDEST = HELD * WARP;

  /// Tokens whose vectors are in shared memory at a time, and numbers of these at most.
  private static final int TILE = 16;

  private static final int TILE_NUMBERS = 6144;

  /// Threads that sum the decays' gradients of a head.
  private static final int SUMMING = 256;

  private CudaDelta() {}

  static boolean fits(
      Tensor mixed, Tensor decays, Tensor rates, @Nullable Tensor state, DeltaHeads heads) {
    return KernelOperands.areNumbers(mixed)
        && (heads.order() == DeltaHeads.Order.TOGETHER || heads.group() == 1)
        && decays.type() == ElementType.FLOAT32
        && rates.type() == ElementType.FLOAT32
        && (state == null || state.type() == ElementType.FLOAT32)
        && Math.max(heads.keyWidth(), heads.valueWidth()) <= WIDEST
        && mixed.elements() > 0
        && mixed.elements() / heads.channels() <= Integer.MAX_VALUE / (2L * heads.valueHeads())
        && mixed.size(0) * heads.valueHeads() <= Integer.MAX_VALUE / WIDEST;
  }

  static DeltaRule.Result apply(
      Launcher launcher,
      Tensor mixedBTC,
      Tensor decaysBTN,
      Tensor ratesBTN,
      @Nullable Tensor state,
      DeltaHeads heads) {
    DeltaRule.expect(mixedBTC, decaysBTN, ratesBTN, state, heads);
    var call =
        new Call(
            launcher,
            mixedBTC.contiguous(),
            decaysBTN.contiguous(),
            ratesBTN.contiguous(),
            state == null ? null : state.contiguous(),
            heads);
    var inputs = call.inputs();
    boolean recorded = FusedOp.recording(inputs, List.of());
    var both = FusedOp.apply("gated delta rule", inputs, List.of(), () -> call.forward(recorded));
    return new DeltaRule.Result(both.getFirst(), both.getLast());
  }

  private record Call(
      Launcher launcher,
      Tensor mixed,
      Tensor decays,
      Tensor rates,
      @Nullable Tensor initial,
      DeltaHeads heads) {
    private List<Tensor> inputs() {
      return initial == null
          ? List.of(mixed, decays, rates)
          : List.of(mixed, decays, rates, initial);
    }

    private int tokens() {
      return Math.toIntExact(mixed.size(1));
    }

    private Tensor perHead(ElementType type, int width) {
      return Tensor.uninitialized(
          mixed, type, mixed.size(0), mixed.size(1), heads.valueHeads(), width);
    }

    private Tensor states() {
      return Tensor.uninitialized(
          mixed,
          ElementType.FLOAT32,
          mixed.size(0),
          heads.valueHeads(),
          heads.keyWidth(),
          heads.valueWidth());
    }

    /// @param type of the operands, where there is a choice
    private static Kernel kernel(String name, ElementType... type) {
      return KernelFamily.DELTA.kernel(name, type);
    }

    /// Starts a kernel that goes with lines of states through all tokens.
    ///
    /// @param length of a line
    /// @param lines of a state
    /// @param vectors of a token in shared memory
    private void walk(
        String name, int length, int lines, int vectors, @Nullable Object... arguments) {
      int lanes = KernelOperands.lanes(Math.ceilDiv(length, HELD));
      int room = lanes * HELD;
      int linesOfBlock = THREADS / lanes;
      int tile = Math.min(TILE, TILE_NUMBERS / (vectors * room));
      int shared = tile * (vectors * room + 2 * linesOfBlock + 2);
      long blocks = mixed.size(0) * heads.valueHeads() * Math.ceilDiv(lines, linesOfBlock);
      var all = new ArrayList<@Nullable Object>(shape());
      all.add(tile);
      all.add(lanes);
      all.addAll(Arrays.asList(arguments));
      launcher.launch(
          kernel(name, mixed.type()),
          new Grid(blocks, THREADS, shared * Float.BYTES),
          all.toArray());
    }

    private List<Object> shape() {
      return List.of(
          tokens(), heads.keyHeads(), heads.valueHeads(), heads.keyWidth(), heads.valueWidth());
    }

    /// As many warps as there are pieces of work.
    private static Grid warps(long pieces) {
      return new Grid(Math.ceilDiv(pieces, THREADS / WARP), THREADS, 0);
    }

    /// Queries and keys of all tokens.
    private long vectors() {
      return mixed.size(0) * mixed.size(1) * 2 * heads.keyHeads();
    }

    /// @param recorded whether a backward pass is to come
    private FusedOp.Forward forward(boolean recorded) {
      var lengths =
          Tensor.uninitialized(
              mixed, ElementType.FLOAT32, mixed.size(0), mixed.size(1), 2L * heads.keyHeads());
      launcher.launch(
          kernel("delta_lengths", mixed.type()),
          warps(vectors()),
          mixed,
          lengths,
          vectors(),
          heads.keyHeads(),
          heads.keyWidth(),
          (long) heads.channels());
      var y = perHead(mixed.type(), heads.valueWidth());
      var lacked = recorded ? perHead(ElementType.FLOAT32, heads.valueWidth()) : null;
      var last = states();
      walk(
          "delta_forward",
          heads.keyWidth(),
          heads.valueWidth(),
          2,
          mixed,
          lengths,
          decays,
          rates,
          initial,
          y,
          lacked,
          last);
      if (lacked == null) {
        return new FusedOp.Forward(
            List.of(y, last),
            List.of(),
            _ -> {
              throw new IllegalStateException("nothing was kept for a backward pass");
            });
      }
      var left = last.detach();
      var saved = new ArrayList<>(inputs());
      saved.addAll(List.of(lengths, lacked, left));
      return new FusedOp.Forward(
          List.of(y, last),
          saved,
          upstreams -> backward(lengths, lacked, left, upstreams.getFirst(), upstreams.getLast()));
    }

    /// @param lacked what the state lacked of each value, v − Sᵀk
    /// @param left the state after the last token
    private Tensor[] backward(
        Tensor lengths, Tensor lacked, Tensor left, @Nullable Tensor dOut, @Nullable Tensor dLast) {
      int keyWidth = heads.keyWidth();
      int valueWidth = heads.valueWidth();
      var dMixed = Tensor.uninitialized(mixed, mixed.type(), mixed.shape());
      var dInitial = initial == null ? null : states();
      var dWritten = perHead(ElementType.FLOAT32, valueWidth);
      walk(
          "delta_values_backward",
          keyWidth,
          valueWidth,
          2,
          mixed,
          lengths,
          decays,
          rates,
          dOut,
          dLast,
          dMixed,
          dWritten,
          dInitial);
      var dKeys = perHead(ElementType.FLOAT32, keyWidth);
      walk(
          "delta_keys_backward",
          valueWidth,
          keyWidth,
          3,
          mixed,
          lengths,
          decays,
          rates,
          dOut,
          dLast,
          lacked,
          dWritten,
          dKeys);
      var dQueries = perHead(ElementType.FLOAT32, keyWidth);
      walk(
          "delta_queries_backward",
          valueWidth,
          keyWidth,
          3,
          mixed,
          lengths,
          decays,
          rates,
          initial,
          dOut,
          lacked,
          dWritten,
          dKeys,
          dQueries);
      launcher.launch(
          kernel("delta_channels_backward", mixed.type()),
          warps(vectors()),
          mixed,
          lengths,
          dQueries,
          dKeys,
          dMixed,
          vectors(),
          heads.keyHeads(),
          heads.valueHeads(),
          keyWidth,
          (long) heads.channels());
      var dRates = Tensor.uninitialized(rates, rates.type(), rates.shape());
      var dDecays = Tensor.uninitialized(decays, decays.type(), decays.shape());
      var dSums = Tensor.uninitialized(decays, decays.type(), decays.shape());
      var ofRates = new ArrayList<@Nullable Object>(shape());
      ofRates.addAll(
          List.of(
              mixed, lengths, rates, lacked, dWritten, dQueries, dRates, dSums, decays.elements()));
      launcher.launch(
          kernel("delta_rates_backward", mixed.type()),
          warps(decays.elements()),
          ofRates.toArray());
      launcher.launch(
          kernel("delta_decays_backward"),
          new Grid(
              mixed.size(0) * heads.valueHeads(),
              SUMMING,
              WARP * Float.BYTES + SUMMING * (Double.BYTES + Integer.BYTES)),
          decays,
          dSums,
          left,
          dLast,
          dDecays,
          tokens(),
          heads.valueHeads(),
          Math.multiplyExact(keyWidth, valueWidth));
      return dInitial == null
          ? new Tensor[] {dMixed, dDecays, dRates}
          : new Tensor[] {dMixed, dDecays, dRates, dInitial};
    }
  }
}
