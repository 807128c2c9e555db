package dev.sluice.operations;

import dev.sluice.cuda.KernelFamily;
import dev.sluice.kernel.Kernels;
import dev.sluice.kernel.MachineAttention;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.RmsNorm;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.util.List;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/// Everything that a device computes in a way of its own. The model says what is computed, and asks
/// [#of] for who does; only that method asks where a tensor is.
///
/// It is one flat list, in a package of its own below all layers, and not a list for each kind of
/// layer: who adds a device sees at once what there is to do, the compiler names what is missing,
/// and a layer needs no second version. So the operations stand here and not beside the layers that
/// use them. A device that has kernels for some operations only extends [ComposedOperations], which
/// is the definition of each and runs wherever libtorch does.
///
/// All tensors of a call are on one device. Gradients of all inputs and weights are recorded, if
/// nothing else is said.
public interface Operations {
  /// Over our own kernels, on the CPU.
  Operations FUSED = new FusedOperations();

  /// Tokens of a pass up to which they go through what is kept of those before one after the other:
  /// the token that is due and a guess at the next.
  int FEW = 2;

  /// Tokens of a pass of float32, and keys that they see, up to which they go one after the other
  /// on the CPU too: products so small are not worth what it takes to load oneDNN.
  int SHORT = 32;

  int SHORT_KEYS = 64;

  /// The same where attention is machine code, which is as fast as products up to here, and at
  /// once.
  int SHORT_IN_MACHINE_CODE = 2048;

  int SHORT_KEYS_IN_MACHINE_CODE = 4096;

  /// Whether [#cachedAttention] gives each token of a row the bits that it has when it comes alone.
  ///
  /// @param qBTNH queries of the tokens
  /// @param keys of the row
  static boolean attendsOneByOne(Tensor qBTNH, long keys) {
    long tokens = qBTNH.size(1);
    if (tokens <= FEW) {
      return true;
    }
    if (qBTNH.type() != ElementType.FLOAT32 || !qBTNH.isOnCpu()) {
      return false;
    }
    return (tokens <= SHORT && keys <= SHORT_KEYS)
        || (tokens <= SHORT_IN_MACHINE_CODE
            && keys <= SHORT_KEYS_IN_MACHINE_CODE
            && MachineAttention.of(Math.toIntExact(qBTNH.size(3)), false) != null);
  }

  /// Whether layers of Gated DeltaNet give each token of a row the bits that it has when it comes
  /// alone: with few tokens, and with any number where a step of the recurrence is machine code,
  /// which is faster than the products of the chunked form.
  ///
  /// @param channelsBTC of the tokens
  static boolean recursOneByOne(Tensor channelsBTC, DeltaHeads heads) {
    long tokens = channelsBTC.size(1);
    return tokens <= FEW
        || (channelsBTC.type() == ElementType.FLOAT32
            && channelsBTC.isOnCpu()
            && (tokens <= SHORT
                || Kernels.FASTEST.isDeltaStepMachineCode(heads.keyWidth(), heads.valueWidth())));
  }

  /// The definitions, made of libtorch's operations, on any device.
  Operations COMPOSED = new ComposedOperations();

  /// The definitions, but where libtorch has one operation for all of it that holds less memory or
  /// takes fewer calls.
  Operations LIBTORCH = new LibtorchOperations();

  /// What [#of] gives on this thread where it is bound: so a device's way runs on the CPU too, to
  /// be compared and counted there.
  ScopedValue<Operations> INSTEAD = ScopedValue.newInstance();

  /// Those of the device that a tensor is on.
  static Operations of(Tensor x) {
    return INSTEAD.isBound() ? INSTEAD.get() : x.isOnCpu() ? FUSED : DeviceOperations.onCuda();
  }

  /// Says which of our CUDA kernels a card uses from now on: none if nobody says it, since no card
  /// has timed them. The others' work is done by libtorch's operations.
  static void useKernels(Set<KernelFamily> families) {
    DeviceOperations.use(families);
  }

  // ---------------------------------------------------------------- of every layer

  /// The rows of a table at `ids`.
  ///
  /// @param table `[V, D]`
  /// @param idsBT int64
  /// @return `[B, T, D]`
  Tensor embedding(Weight table, Tensor idsBT);

  /// The residual stream with what is added to it, and RMSNorm of the sum, see [ResidualNorm].
  ///
  /// @param xBTD the residual stream, float32
  /// @param yBTD what is added to it, or null
  /// @param weight `[D]`, a float32 leaf
  /// @param type of the normed result
  ResidualNorm residualNorm(
      Tensor xBTD, @Nullable Tensor yBTD, Tensor weight, RmsNorm norm, ElementType type);

  /// `x Wᵢᵀ` for several weights of one input: one backward pass has to go through all results that
  /// are used. For a model, [Precision#linear].
  ///
  /// @param x `[…, in]`
  /// @param weights `[outᵢ, in]`
  /// @param type in which the products' inputs and results are
  List<Tensor> linear(Tensor x, List<Weight> weights, ElementType type);

  /// `x Wᵀ` with inputs of `type` and the result in float32. For a model, [Precision#logits].
  Tensor logits(Tensor x, Weight weight, ElementType type);

  /// The mean next-token cross-entropy of hidden states, and the z-loss, see [NextTokenLoss].
  ///
  /// @param hidden `[…, D]`
  /// @param head `[V, D]`
  /// @param targets token ids, int64, as many as hidden states
  /// @param type in which the product is computed
  /// @param zLoss its weight, or 0 for none
  NextTokenLoss nextTokenLoss(
      Tensor hidden, Weight head, Tensor targets, ElementType type, double zLoss);

  /// The same with the divergence from another model's answers, see [DistilledLoss].
  ///
  /// @param shares what each part counts, the z-loss among them
  DistilledLoss distilledLoss(
      Tensor hidden,
      Weight head,
      Tensor targets,
      DistilledLoss.Teacher teacher,
      ElementType type,
      DistilledLoss.Shares shares);

  // ---------------------------------------------------------------- of attention and gates

  /// y ⊙ σ(z).
  ///
  /// @param yBTNH what is gated
  /// @param logits z, `[B, T, N, H]` (elementwise) or `[B, T, N]` (headwise)
  /// @return of the element type of `logits`
  Tensor sigmoidGate(Tensor yBTNH, Tensor logits);

  /// RMSNorm of each head, where there is a weight, and then the rotation, where there is one.
  ///
  /// @param xBTNH queries or keys
  /// @param weight of the norm, a float32 leaf `[H]`
  Tensor rotatedHeads(
      Tensor xBTNH, @Nullable Tensor weight, RmsNorm norm, @Nullable Rotation rotation);

  /// Causal attention of whole sequences, `softmax(q kᵀ / √H + mask) v`, and its gate.
  ///
  /// @param qBTNH queries, float32 or bfloat16
  /// @param kBTMH keys of the same type, N a multiple of M
  /// @param vBTMH values of the same type
  /// @param sinksN float32 scores that join each softmax's denominator, or null
  /// @param gateLogits as in [#sigmoidGate], or null for no gate
  /// @param window how many keys a query sees, its own included; 0 for all before it
  /// @param documents of which a query sees its own alone; null where each row is one document
  /// @return `[B, T, N, H]`
  Tensor attention(
      Tensor qBTNH,
      Tensor kBTMH,
      Tensor vBTMH,
      @Nullable Tensor sinksN,
      @Nullable Tensor gateLogits,
      int window,
      @Nullable DocumentStarts documents);

  /// [#attention], and how much of its attention each query gives to the first token, see
  /// [FirstTokenShare].
  FirstTokenShare attentionWithFirstToken(
      Tensor qBTNH,
      Tensor kBTMH,
      Tensor vBTMH,
      @Nullable Tensor sinksN,
      @Nullable Tensor gateLogits,
      int window,
      @Nullable DocumentStarts documents);

  /// [#attention] of the last T of S tokens over all of them; S may be another one for each row,
  /// and what a row gets does not depend on the others. On the CPU and without gradients, tokens
  /// that [#attendsOneByOne] names have the bits that each has when it comes alone, in float32;
  /// others are computed in the queries' type.
  ///
  /// @param qBTNH float32 or bfloat16
  /// @param kSMH of each row `[1, S, M, H]`, a view whose vectors are contiguous; float32 or
  ///   bfloat16, all of one type
  /// @param vSMH likewise
  Tensor cachedAttention(
      Tensor qBTNH,
      List<Tensor> kSMH,
      List<Tensor> vSMH,
      @Nullable Tensor sinksN,
      @Nullable Tensor gateLogits,
      int window);

  // ---------------------------------------------------------------- of Gated DeltaNet

  /// A causal convolution of each channel and SiLU, see [ShortConvolution].
  ///
  /// @param xBTC float32 or bfloat16
  /// @param weightCW a float32 leaf
  /// @param historyBHC the H = W − 1 tokens before the first one, of x's type, without a gradient;
  ///   null for zeros
  /// @param documents of which a token sees its own alone; null where each row is one document, or
  ///   goes on
  Tensor shortConvolution(
      Tensor xBTC,
      Tensor weightCW,
      @Nullable Tensor historyBHC,
      @Nullable DocumentStarts documents);

  /// The gated delta rule over all tokens, see [DeltaRule].
  ///
  /// @param mixedBTC queries, keys and values, float32 or bfloat16
  /// @param decaysBTN g ≤ 0, float32
  /// @param ratesBTN β, float32
  /// @param state `[B, N, K, V]` before the first token, float32, left as it is; null for zeros
  DeltaRule.Result deltaRule(
      Tensor mixedBTC, Tensor decaysBTN, Tensor ratesBTN, @Nullable Tensor state, DeltaHeads heads);

  /// Tokens after others, one after the other, without gradients, see [#recursOneByOne]: each has
  /// the bits that it has when it comes alone.
  ///
  /// @param mixedBTC as in [#deltaRule]
  /// @param logits of decays and rates
  /// @param states of each row, `[1, N, K, V]`, float32 and contiguous, changed in place
  /// @param beforeLast take what they are before the last token; null where nobody wants that
  /// @return `[B, T, N, V]`
  Tensor deltaSteps(
      Tensor mixedBTC,
      DeltaRates.Logits logits,
      List<Tensor> states,
      @Nullable List<Tensor> beforeLast,
      DeltaHeads heads);

  /// RMSNorm of each head and then a SiLU gate, see [GatedHeadNorm].
  ///
  /// @param xBTNV float32 or bfloat16, any shape whose last dimension is normed
  /// @param zBTNV logits of the gate, of the same shape
  /// @param weight `[V]`, a float32 leaf
  Tensor gatedHeadNorm(Tensor xBTNV, Tensor zBTNV, Tensor weight, double epsilon);

  // ---------------------------------------------------------------- of feed-forward layers

  /// `(silu(x W_gateᵀ) ⊙ x W_upᵀ) W_downᵀ`, see [SwiGlu].
  ///
  /// @param x `[…, D]`
  /// @return of x's shape and the precision's element type
  Tensor swiGlu(Tensor x, SwiGlu.Weights weights, Precision precision);

  /// The same for groups of rows, each with weights of its own.
  ///
  /// @param x `[rows, D]`
  /// @param starts where each expert's rows start, and behind them how many rows there are
  Tensor swiGlu(Tensor x, long[] starts, List<SwiGlu.Weights> weights, Precision precision);

  // ---------------------------------------------------------------- of the optimizer

  /// The Euclidean norm of float32 tensors as one vector, one number on their device; without
  /// gradients.
  Tensor norm(List<Tensor> gradients);

  /// Moves parameters in place; without gradients. Nobody needs theirs afterwards.
  void adamW(List<AdamWUpdate> updates);

  /// Moves maps of features in place; without gradients.
  void muon(List<MuonUpdate> updates);
}
