package dev.sluice.kernel;

import static dev.sluice.kernel.Assembler.R10;
import static dev.sluice.kernel.Assembler.R11;
import static dev.sluice.kernel.Assembler.R12;
import static dev.sluice.kernel.Assembler.R13;
import static dev.sluice.kernel.Assembler.R14;
import static dev.sluice.kernel.Assembler.R15;
import static dev.sluice.kernel.Assembler.R8;
import static dev.sluice.kernel.Assembler.R9;
import static dev.sluice.kernel.Assembler.RAX;
import static dev.sluice.kernel.Assembler.RBP;
import static dev.sluice.kernel.Assembler.RBX;
import static dev.sluice.kernel.Assembler.RCX;
import static dev.sluice.kernel.Assembler.RDI;
import static dev.sluice.kernel.Assembler.RDX;
import static dev.sluice.kernel.Assembler.RSI;
import static dev.sluice.kernel.Assembler.RSP;

import dev.sluice.kernel.Assembler.Store;
import dev.sluice.kernel.Assembler.Vector;

/// Writes the machine code of the causal convolution with SiLU, with the operations of
/// [VectorConvolution] in their order.
///
/// The channels that a function takes are `vectors`, and then those that are ones in `rest`.
final class ConvolutionCode extends LanesCode {
  /// Channels that have their factors in one row of those that [#factors] writes.
  static final int BLOCK = 256;

  private static final int ROW = BLOCK * Float.BYTES;

  // What is behind the return address.
  private static final int TAPS_OF_FACTORS = 8;
  private static final int VECTORS = 8;
  private static final int STRIDE = 16;
  private static final int REST = 24;
  private static final int TAPS = 32;
  private static final int OUT_STRIDE = 40;

  private static final int SUM = 4;

  private ConvolutionCode() {}

  // ---------------------------------------------------------------- many tokens

  /// Of `(weight, _, _, _, out)`, the factors of up to [#BLOCK] channels, factor i of all of them
  /// in row i. The numbers are `channels` and `taps`.
  static byte[] factors() {
    var its = new ConvolutionCode();
    its.writeFactors();
    return its.code.assemble(0);
  }

  private void writeFactors() {
    int nextChannel = code.here();
    code.mov(R10, R8);
    code.mov(RAX, RSP, TAPS_OF_FACTORS);
    int next = code.here();
    code.load(Vector.VBROADCASTSS, X, RDI, 0);
    code.store(Store.VMOVSS, R10, 0, X);
    code.increase(RDI, Float.BYTES);
    code.increase(R10, ROW);
    countDown(RAX, next);
    code.increase(R8, Float.BYTES);
    countDown(R9, nextChannel);
    end();
  }

  /// [Kernels#causalConvolution] of `(x, _, factors, _, out)`, with all tokens that the first one
  /// is made of in x. The numbers are `tokens`, `vectors`, the `stride` of x, `rest`, `taps` and
  /// the stride of out; strides are bytes from a token to the next.
  static byte[] forward() {
    var its = new ConvolutionCode();
    its.writeForward();
    return its.code.assemble(0);
  }

  private void writeForward() {
    int[] kept = {RBX, RBP, R12, R13, R14, R15};
    int pushed = push(kept);
    loadNumbers(R10);
    code.mov(RBX, RSP, pushed + STRIDE);
    code.mov(RBP, RSP, pushed + TAPS);
    code.mov(R15, RSP, pushed + OUT_STRIDE);
    int nextToken = code.here();
    code.mov(R12, RDI);
    code.mov(R13, R8);
    code.mov(R14, RDX);
    channels(pushed, this::convolve, R12, R13, R14);
    code.add(RDI, RBX);
    code.add(R8, R15);
    countDown(R9, nextToken);
    pop(kept);
    end();
  }

  private void convolve(boolean tail) {
    code.zero(SUM);
    code.mov(R10, R12);
    code.mov(R11, R14);
    code.mov(RCX, RBP);
    int next = code.here();
    load(tail, X, R10);
    load(tail, Y, R11);
    code.op(Vector.VFMADD231PS, SUM, Y, X);
    code.add(R10, RBX);
    code.increase(R11, ROW);
    countDown(RCX, next);
    silu(tail, R13);
  }

  // ---------------------------------------------------------------- one token

  /// [Kernels#convolutionStep] of `(x, history, weight, _, out)`. The numbers are the tokens of the
  /// history, `vectors`, `stride` in bytes from a row of the history or the weight to the next, and
  /// `rest`.
  static byte[] step() {
    var its = new ConvolutionCode();
    its.writeStep();
    return its.code.assemble(0);
  }

  private void writeStep() {
    int[] kept = {RBX, RBP};
    int pushed = push(kept);
    loadNumbers(R10);
    code.mov(RBX, RSP, pushed + STRIDE);
    channels(pushed, this::convolveOne, RDI, RSI, RDX, R8);
    pop(kept);
    end();
  }

  private void convolveOne(boolean tail) {
    int token = X;
    code.zero(SUM);
    code.mov(R11, RDX);
    code.test(R9);
    int noHistory = code.jumpIfZero();
    code.mov(R10, RSI);
    code.mov(RCX, R9);
    load(tail, token, R10);
    code.increase(RCX, -1);
    int isLast = code.jumpIfZero();
    int next = code.here();
    addProduct(tail, token);
    code.mov(RBP, R10);
    code.add(R10, RBX);
    load(tail, token, R10);
    store(tail, RBP, token);
    countDown(RCX, next);
    code.arrive(isLast);
    addProduct(tail, token);
    load(tail, token, RDI);
    store(tail, R10, token);
    code.arrive(noHistory);
    load(tail, token, RDI);
    addProduct(tail, token);
    silu(tail, R8);
  }

  /// Adds a token with its factor, and goes on to the next one's.
  private void addProduct(boolean tail, int token) {
    load(tail, Y, R11);
    code.op(Vector.VFMADD231PS, SUM, Y, token);
    code.add(R11, RBX);
  }

  // ---------------------------------------------------------------- both

  private interface OfVector {
    /// @param tail whether a part of it alone
    void write(boolean tail);
  }

  /// Does something with each vector of channels, and then with the rest.
  ///
  /// @param addresses that move along
  private void channels(int pushed, OfVector its, int... addresses) {
    code.mov(RAX, RSP, pushed + VECTORS);
    code.test(RAX);
    int noVectors = code.jumpIfZero();
    int next = code.here();
    its.write(false);
    for (int address : addresses) {
      code.increase(address, VECTOR);
    }
    countDown(RAX, next);
    code.arrive(noVectors);
    code.mov(RAX, RSP, pushed + REST);
    code.test(RAX);
    int noRest = code.jumpIfZero();
    code.mask(TAIL, RAX);
    its.write(true);
    code.arrive(noRest);
  }

  private void silu(boolean tail, int address) {
    sigmoid(SUM);
    code.op(Vector.VMULPS, SUM, SUM, SCORE);
    store(tail, address, SUM);
  }
}
