package dev.sluice.kernel;

import static dev.sluice.kernel.KernelNumbers.SCALAR;
import static dev.sluice.kernel.KernelNumbers.VECTOR;
import static dev.sluice.kernel.KernelNumbers.assertClose;
import static dev.sluice.kernel.KernelNumbers.assertPaddingUntouched;
import static dev.sluice.kernel.KernelNumbers.assertRange;
import static dev.sluice.kernel.KernelNumbers.bytes;
import static dev.sluice.kernel.KernelNumbers.crc;
import static dev.sluice.kernel.KernelNumbers.poisoned;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;

import java.lang.foreign.Arena;
import java.util.List;
import java.util.function.Supplier;

/// A kernel that works on a range of items, with its inputs, and what the formula in [Kernels]
/// makes of them in float64.
///
/// Tolerance: a float32 result may differ by 4 ulp of the sum of its terms' magnitudes, 4 · 2⁻²³ ·
/// Σ|terms|, and by 16 of the smallest normal number where something subnormal may be zero instead.
/// A result stored as bfloat16 may differ from the formula by half a bfloat16 ulp more, 2⁻⁸ of
/// itself, and two kernels' results from one another by a whole one, as they may fall on two sides
/// of a tie.
///
/// @param formula what each output is to be, in the outputs' order; nothing for what stays
///   untouched
record KernelCase(
    String name, int items, List<Output> outputs, Run run, Supplier<List<Expected>> formula) {

  /// One call of a kernel.
  interface Run {
    void on(Kernels kernels, List<Floats> outputs, long from, long to);
  }

  /// What a kernel may write to.
  ///
  /// @param perItem elements that an item writes, 0 where items do not write elements of their own
  /// @param initial what stands there before, to be added to; empty for NaN
  record Output(String name, boolean bfloat16, int elements, int perItem, float[] initial) {
    /// Elements that the item at the same place writes.
    static Output written(String name, boolean bfloat16, int items, int perItem) {
      return new Output(name, bfloat16, items * perItem, perItem, new float[0]);
    }

    /// Float32 numbers that every item adds to.
    static Output addedTo(String name, float[] initial) {
      return new Output(name, false, initial.length, 0, initial);
    }

    /// What the kernel is handed and may not write.
    static Output untouched(String name, int elements) {
      return new Output(name, false, elements, 0, new float[0]);
    }

    private Floats make(Arena arena) {
      var made = poisoned(arena, elements, bfloat16);
      for (int i = 0; i < initial.length; i++) {
        made.set(i, initial[i]);
      }
      return made;
    }
  }

  /// An output by the formula: its numbers and the magnitudes of the terms that they are summed of.
  record Expected(double[] values, double[] terms) {
    static final Expected NOTHING = new Expected(0);

    Expected(int elements) {
      this(new double[elements], new double[elements]);
    }

    void set(int i, double value, double terms) {
      values[i] = value;
      this.terms[i] = terms;
    }

    void add(int i, double value, double terms) {
      values[i] += value;
      this.terms[i] += terms;
    }
  }

  /// Runs the kernel on the pieces between the cuts.
  private List<Floats> results(Arena arena, Kernels kernels, long... cuts) {
    var made = outputs.stream().map(output -> output.make(arena)).toList();
    for (int i = 0; i + 1 < cuts.length; i++) {
      run.on(kernels, made, cuts[i], cuts[i + 1]);
    }
    return made;
  }

  void followsTheFormula(Kernels kernels) {
    try (var arena = Arena.ofConfined()) {
      var results = results(arena, kernels, 0, items);
      var expected = formula.get();
      for (int k = 0; k < results.size(); k++) {
        double rounding = outputs.get(k).bfloat16 ? 0x1p-8 : 0;
        assertAll(k, expected.get(k).values, results.get(k), expected.get(k).terms, rounding);
      }
    }
  }

  void equalsTheDefinition(Kernels kernels) {
    try (var arena = Arena.ofConfined()) {
      var defined = results(arena, SCALAR, 0, items);
      var results = results(arena, kernels, 0, items);
      var expected = formula.get();
      for (int k = 0; k < results.size(); k++) {
        double[] values = new double[expected.get(k).values.length];
        for (int i = 0; i < values.length; i++) {
          values[i] = defined.get(k).get(i);
        }
        double rounding = outputs.get(k).bfloat16 ? 0x1p-7 : 0;
        assertAll(k, values, results.get(k), expected.get(k).terms, rounding);
      }
    }
  }

  private void assertAll(int k, double[] values, Floats result, double[] terms, double rounding) {
    for (int i = 0; i < values.length; i++) {
      int at = i;
      assertClose(values[i], result.get(i), terms[i], rounding, () -> name(k) + "[" + at + "]");
    }
  }

  private String name(int output) {
    return name + " " + outputs.get(output).name;
  }

  /// Writes the same bits as over the whole range, and none outside.
  void writesItsRangeOnly(Kernels kernels) {
    try (var arena = Arena.ofConfined()) {
      long from = items / 3;
      long to = items - items / 4;
      var whole = results(arena, kernels, 0, items);
      var part = results(arena, kernels, from, to);
      for (int k = 0; k < part.size(); k++) {
        var output = outputs.get(k);
        if (output.initial.length > 0) {
          assertPaddingUntouched(part.get(k), name(k));
        } else {
          assertRange(
              whole.get(k), part.get(k), from * output.perItem, to * output.perItem, name(k));
        }
      }
    }
  }

  void splitDoesNotChangeABit(Kernels kernels) {
    try (var arena = Arena.ofConfined()) {
      var whole = results(arena, kernels, 0, items);
      for (long[] cuts :
          new long[][] {{0, items / 2, items}, {0, items / 3, items * 2L / 3, items}}) {
        var parts = results(arena, kernels, cuts);
        for (int k = 0; k < parts.size(); k++) {
          assertArrayEquals(bytes(whole.get(k)), bytes(parts.get(k)), name(k));
        }
      }
    }
  }

  /// A checksum over what the vector kernel writes.
  String digest() {
    try (var arena = Arena.ofConfined()) {
      var checksum = new StringBuilder();
      for (var result : results(arena, VECTOR, 0, items)) {
        checksum.append(crc(bytes(result))).append(' ');
      }
      return checksum.toString();
    }
  }
}
