package dev.sluice.kernel;

import static dev.sluice.kernel.Assembler.R10;
import static dev.sluice.kernel.Assembler.R11;
import static dev.sluice.kernel.Assembler.R12;
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

/// Writes the machine code of one token of the gated delta rule, with the operations of
/// [VectorDeltaRule#step] in their order.
final class DeltaCode extends LanesCode {
  /// Vectors of columns that are worked on together: as many sums as the core adds to at a time.
  static final int TOGETHER = 4;

  // What is behind the return address.
  private static final int BLOCKS = 8;
  private static final int STRIDE = 16;
  private static final int REST = 24;
  private static final int DECAY_BITS = 32;
  private static final int RATE_BITS = 40;

  // Vector registers; the first four of them are one for each vector of columns.
  private static final int READ = 4;
  private static final int SEEN = 8;
  private static final int CHANGE = READ;
  private static final int STATE = 16;
  private static final int KEY = 20;
  private static final int QUERY = 21;
  private static final int SAME = 22;
  private static final int DECAY = 23;
  private static final int RATE = 24;

  private DeltaCode() {}

  /// [Kernels#deltaStep] of `(key, query, value, state, out)`, of some columns of the state, whose
  /// rows are `stride` bytes apart: the numbers are `keyWidth`, `blocks` of [#TOGETHER] vectors of
  /// columns, `stride`, `rest` vectors after them, and the bits of decay and rate.
  static byte[] step() {
    var its = new DeltaCode();
    its.writeStep();
    return its.code.assemble(0);
  }

  private void writeStep() {
    int[] kept = {RBX, RBP, R12};
    int pushed = push(kept);
    dot();
    code.load(Vector.VBROADCASTSS, DECAY, RSP, pushed + DECAY_BITS);
    code.load(Vector.VBROADCASTSS, RATE, RSP, pushed + RATE_BITS);
    code.mov(RBX, RSP, pushed + STRIDE);
    columns(pushed + BLOCKS, TOGETHER);
    columns(pushed + REST, 1);
    pop(kept);
    end();
  }

  /// All of [#SAME] ← query · key.
  private void dot() {
    int lanes = READ;
    code.zero(lanes);
    code.mov(R10, RDI);
    code.mov(R11, RSI);
    code.mov(RAX, R9);
    int next = code.here();
    code.load(Vector.VMOVUPS, X, R11, 0);
    code.load(Vector.VFMADD231PS, lanes, X, R10, 0);
    code.increase(R10, VECTOR);
    code.increase(R11, VECTOR);
    code.increase(RAX, -VECTOR / Float.BYTES);
    code.jumpBackIfNotZero(next);
    sumLanes(SAME, lanes);
    code.zero(ZERO);
    code.op(Vector.VADDPS, SAME, SAME, ZERO); // a sum that begins with zero is not −0
    code.op(Vector.VBROADCASTSS, SAME, SAME);
  }

  /// As many times `vectors` of columns as the stack says.
  private void columns(int times, int vectors) {
    code.mov(RBP, RSP, times);
    code.test(RBP);
    int none = code.jumpIfZero();
    int next = code.here();
    read(vectors);
    result(vectors);
    change(vectors);
    for (int address : new int[] {RCX, RDX, R8}) {
      code.increase(address, vectors * VECTOR);
    }
    countDown(RBP, next);
    code.arrive(none);
  }

  private void beginRows() {
    code.mov(R10, RCX);
    code.mov(R11, RDI);
    code.mov(R12, RSI);
    code.mov(RAX, R9);
  }

  /// Goes on to the next row, if there is one.
  private void nextRow(int place) {
    code.add(R10, RBX);
    code.increase(R11, Float.BYTES);
    code.increase(R12, Float.BYTES);
    countDown(RAX, place);
  }

  /// [#READ] ← stateᵀ key, and [#SEEN] ← stateᵀ query.
  private void read(int vectors) {
    for (int i = 0; i < vectors; i++) {
      code.zero(READ + i);
      code.zero(SEEN + i);
    }
    beginRows();
    int next = code.here();
    code.load(Vector.VBROADCASTSS, KEY, R11, 0);
    code.load(Vector.VBROADCASTSS, QUERY, R12, 0);
    for (int i = 0; i < vectors; i++) {
      code.load(Vector.VMOVUPS, STATE + i, R10, i * VECTOR);
      code.op(Vector.VFMADD231PS, READ + i, KEY, STATE + i);
      code.op(Vector.VFMADD231PS, SEEN + i, QUERY, STATE + i);
    }
    nextRow(next);
  }

  /// [#CHANGE] ← rate · (value − decay · read), and the result of it.
  private void result(int vectors) {
    for (int i = 0; i < vectors; i++) {
      code.op(Vector.VMULPS, READ + i, READ + i, DECAY);
      code.load(Vector.VMOVUPS, X, RDX, i * VECTOR);
      code.op(Vector.VSUBPS, X, X, READ + i);
      code.op(Vector.VMULPS, CHANGE + i, X, RATE);
      code.op(Vector.VMULPS, SEEN + i, SEEN + i, DECAY);
      code.op(Vector.VFMADD231PS, SEEN + i, SAME, CHANGE + i);
      code.store(Store.VMOVUPS, R8, i * VECTOR, SEEN + i);
    }
  }

  /// state ← decay · state + key · [#CHANGE], while it is in the core's cache.
  private void change(int vectors) {
    beginRows();
    int next = code.here();
    code.load(Vector.VBROADCASTSS, KEY, R11, 0);
    for (int i = 0; i < vectors; i++) {
      code.load(Vector.VMULPS, STATE + i, DECAY, R10, i * VECTOR);
      code.op(Vector.VFMADD231PS, STATE + i, KEY, CHANGE + i);
      code.store(Store.VMOVUPS, R10, i * VECTOR, STATE + i);
    }
    nextRow(next);
  }
}
