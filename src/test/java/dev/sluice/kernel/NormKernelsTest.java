package dev.sluice.kernel;

import static dev.sluice.kernel.KernelNumbers.fill;
import static dev.sluice.kernel.KernelNumbers.gaussian;
import static dev.sluice.kernel.KernelNumbers.poisoned;

import dev.sluice.kernel.KernelCase.Expected;
import dev.sluice.kernel.KernelCase.Output;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import org.jspecify.annotations.Nullable;

/// RMSNorm of the residual stream, and RMSNorm with rotation of heads.
class NormKernelsTest implements RangeKernelRules {
  private static final int[] ROWS = {1, 7, 63, 65};
  private static final int[] WIDTHS = {1, 7, 16, 63, 64, 65, 257};
  private static final int[] HEAD_WIDTHS = {2, 6, 10, 32, 64, 96, 128};
  private static final double EPSILON = 1e-6;

  /// No input of a case is spoiled with a NaN.
  private static final int NONE = -1;

  /// A row's elements are of this size; the largest whose squares do not overflow in float32.
  private static final double[] SIZES = {1, 1e-18, 1e17, 0, 1e-3, 1e4};

  @Override
  public List<KernelCase> cases(Arena arena) {
    var cases = new ArrayList<KernelCase>();
    for (boolean mixed : new boolean[] {false, true}) {
      for (int width : WIDTHS) {
        for (int rows : ROWS) {
          addNorms(cases, arena, mixed, rows, width, NONE);
        }
      }
      addNorms(cases, arena, mixed, 257, 48, NONE);
      for (int spoiled = 0; spoiled < 3; spoiled++) {
        addNorms(cases, arena, mixed, 7, 16, spoiled);
        addNorms(cases, arena, mixed, 5, 65, spoiled);
      }
      for (int width : HEAD_WIDTHS) {
        for (int[] size : new int[][] {{1, 1}, {1, 8}, {7, 3}, {13, 8}, {65, 1}}) {
          addRotations(cases, arena, mixed, size[0], size[1], width, NONE);
        }
        for (int spoiled = 0; spoiled < 2; spoiled++) {
          addRotations(cases, arena, mixed, 5, 3, width, spoiled);
        }
      }
    }
    return cases;
  }

  /// A few, for other tests.
  static List<KernelCase> sample(Arena arena) {
    var cases = new ArrayList<KernelCase>();
    for (boolean mixed : new boolean[] {false, true}) {
      addNorms(cases, arena, mixed, 65, 63, NONE);
      addRotations(cases, arena, mixed, 21, 3, 64, NONE);
    }
    return cases;
  }

  private static void addNorms(
      List<KernelCase> cases, Arena arena, boolean mixed, int rows, int width, int spoiled) {
    for (boolean added : new boolean[] {false, true}) {
      cases.add(norm(arena, mixed, added, rows, width, spoiled));
    }
    for (boolean past : new boolean[] {false, true}) {
      for (boolean added : new boolean[] {false, true}) {
        cases.add(normBackward(arena, mixed, past, added, rows, width, spoiled));
      }
    }
  }

  private static void addRotations(
      List<KernelCase> cases,
      Arena arena,
      boolean bfloat16,
      int tokens,
      int heads,
      int width,
      int spoiled) {
    for (boolean normed : new boolean[] {false, true}) {
      cases.add(rotation(arena, bfloat16, normed, tokens, heads, width, spoiled));
      cases.add(rotationBackward(arena, bfloat16, normed, tokens, heads, width, spoiled));
    }
  }

  private static String name(String kernel, int rows, int width, int spoiled, boolean... choices) {
    var name = new StringBuilder(kernel + " " + rows + " × " + width + " spoiled " + spoiled);
    for (boolean choice : choices) {
      name.append(choice ? " yes" : " no");
    }
    return name.toString();
  }

  /// Puts a NaN into the middle of one input.
  private static void spoil(int which, @Nullable Floats... inputs) {
    var input = which == NONE || which >= inputs.length ? null : inputs[which];
    if (input != null) {
      input.set(input.length() / 2, Float.NaN);
    }
  }

  /// Rows of normally distributed numbers, each row of another size.
  private static Floats stream(Arena arena, SplittableRandom random, int rows, int width) {
    return fill(
        poisoned(arena, (long) rows * width, false),
        i -> (float) (random.nextGaussian() * SIZES[i / width % SIZES.length]));
  }

  private static double inverseRoot(double[] x) {
    double squares = 0;
    for (double value : x) {
      squares += value * value;
    }
    return 1 / Math.sqrt(squares / x.length + EPSILON);
  }

  private static double[] row(Floats x, int r, int width) {
    double[] row = new double[width];
    for (int j = 0; j < width; j++) {
      row[j] = x.get((long) r * width + j);
    }
    return row;
  }

  // ---------------------------------------------------------------- the residual stream

  private static KernelCase norm(
      Arena arena, boolean mixed, boolean plus, int rows, int width, int spoiled) {
    var random = new SplittableRandom(31L * rows + width);
    var x = stream(arena, random, rows, width);
    var added = plus ? gaussian(arena, random, (long) rows * width, mixed) : null;
    var weight = gaussian(arena, random, width, false);
    spoil(spoiled, x, weight, added);
    return new KernelCase(
        name("rmsNorm", rows, width, spoiled, mixed, plus),
        rows,
        List.of(
            plus
                ? Output.written("sum", false, rows, width)
                : Output.untouched("sum", rows * width),
            Output.written("out", mixed, rows, width)),
        (kernels, outputs, from, to) ->
            kernels.rmsNorm(
                x, added, weight, EPSILON, outputs.getFirst(), outputs.getLast(), width, from, to),
        () -> {
          var sum = new Expected(rows * width);
          var out = new Expected(rows * width);
          for (int r = 0; r < rows; r++) {
            double[] row = row(x, r, width);
            for (int j = 0; j < width; j++) {
              int i = r * width + j;
              double more = added == null ? 0 : added.get(i);
              sum.set(i, row[j] + more, Math.abs(row[j]) + Math.abs(more));
              row[j] += more;
            }
            double s = inverseRoot(row);
            for (int j = 0; j < width; j++) {
              double value = row[j] * s * weight.get(j);
              out.set(r * width + j, value, Math.abs(value));
            }
          }
          return List.of(plus ? sum : Expected.NOTHING, out);
        });
  }

  private static KernelCase normBackward(
      Arena arena,
      boolean mixed,
      boolean withPast,
      boolean withAdded,
      int rows,
      int width,
      int spoiled) {
    var random = new SplittableRandom(37L * rows + width);
    var x = stream(arena, random, rows, width);
    var dOut = gaussian(arena, random, (long) rows * width, mixed);
    var past = withPast ? gaussian(arena, random, (long) rows * width, false) : null;
    var weight = gaussian(arena, random, width, false);
    spoil(spoiled, x, dOut, past);
    float[] before = new float[width];
    for (int j = 0; j < width; j++) {
      before[j] = (float) random.nextGaussian();
    }
    var outputs = new ArrayList<Output>();
    outputs.add(Output.written("dSum", false, rows, width));
    outputs.add(Output.addedTo("dWeight", before));
    if (withAdded) {
      outputs.add(Output.written("dAdded", true, rows, width));
    }
    return new KernelCase(
        name("rmsNormBackward", rows, width, spoiled, mixed, withPast, withAdded),
        rows,
        outputs,
        (kernels, made, from, to) ->
            kernels.rmsNormBackward(
                dOut,
                x,
                weight,
                EPSILON,
                past,
                made.get(0),
                withAdded ? made.get(2) : null,
                made.get(1).memory(),
                width,
                from,
                to),
        () -> {
          var dSum = new Expected(rows * width);
          var dWeight = new Expected(width);
          start(dWeight, before);
          for (int r = 0; r < rows; r++) {
            double[] d = row(dOut, r, width);
            normGradient(d, magnitudes(d), row(x, r, width), weight, dSum, dWeight, r);
            for (int j = 0; past != null && j < width; j++) {
              double more = past.get((long) r * width + j);
              dSum.add(r * width + j, more, Math.abs(more));
            }
          }
          return withAdded ? List.of(dSum, dWeight, dSum) : List.of(dSum, dWeight);
        });
  }

  private static void start(Expected sum, float[] before) {
    for (int j = 0; j < before.length; j++) {
      sum.set(j, before[j], Math.abs(before[j]));
    }
  }

  private static double[] magnitudes(double[] values) {
    double[] magnitudes = new double[values.length];
    for (int j = 0; j < values.length; j++) {
      magnitudes[j] = Math.abs(values[j]);
    }
    return magnitudes;
  }

  /// Row r's gradient through the norm.
  ///
  /// @param terms the magnitudes of what d is summed from
  private static void normGradient(
      double[] d, double[] terms, double[] x, Floats weight, Expected dx, Expected dWeight, int r) {
    int width = d.length;
    double s = inverseRoot(x);
    double mean = 0;
    double meanOfTerms = 0;
    for (int j = 0; j < width; j++) {
      mean += d[j] * weight.get(j) * x[j] / width;
      meanOfTerms += terms[j] * Math.abs(weight.get(j) * x[j]) / width;
    }
    for (int j = 0; j < width; j++) {
      double w = weight.get(j);
      dx.set(
          r * width + j,
          s * (d[j] * w - x[j] * s * s * mean),
          s * (terms[j] * Math.abs(w) + Math.abs(x[j]) * s * s * meanOfTerms));
      dWeight.add(j, d[j] * x[j] * s, terms[j] * Math.abs(x[j]) * s);
    }
  }

  // ---------------------------------------------------------------- heads

  /// The cosines and sines of fewer positions than there are tokens, so that they start again.
  private static Rotations rotations(Arena arena, int tokens, int width) {
    int positions = (tokens + 2) / 3;
    int half = width / 2;
    return new Rotations(
        fill(
                poisoned(arena, (long) positions * half, false),
                i -> (float) Math.cos((1 + i / half) * Math.pow(100, -i % half / (double) half)))
            .memory(),
        fill(
                poisoned(arena, (long) positions * half, false),
                i -> (float) Math.sin((1 + i / half) * Math.pow(100, -i % half / (double) half)))
            .memory(),
        half,
        positions);
  }

  private static double at(MemorySegment memory, long i) {
    return memory.getAtIndex(ValueLayout.JAVA_FLOAT_UNALIGNED, i);
  }

  private static KernelCase rotation(
      Arena arena,
      boolean bfloat16,
      boolean normed,
      int tokens,
      int heads,
      int width,
      int spoiled) {
    var random = new SplittableRandom(41L * tokens * heads + width);
    int rows = tokens * heads;
    var x = gaussian(arena, random, (long) rows * width, bfloat16);
    var weight = normed ? gaussian(arena, random, width, false) : null;
    spoil(spoiled, x, weight);
    var rotations = rotations(arena, tokens, width);
    return new KernelCase(
        name("normRotate " + heads + " heads", rows, width, spoiled, bfloat16, normed),
        rows,
        List.of(Output.written("out", bfloat16, rows, width)),
        (kernels, outputs, from, to) ->
            kernels.normRotate(
                x, weight, EPSILON, rotations, outputs.getFirst(), heads, width, from, to),
        () -> {
          var out = new Expected(rows * width);
          int half = width / 2;
          for (int r = 0; r < rows; r++) {
            double[] u = row(x, r, width);
            double s = inverseRoot(u);
            for (int j = 0; weight != null && j < width; j++) {
              u[j] *= s * weight.get(j);
            }
            long angle = r / heads % rotations.positions() * half;
            for (int i = 0; i < half; i++) {
              double cos = at(rotations.cosines(), angle + i);
              double sin = at(rotations.sines(), angle + i);
              double a = u[i];
              double b = u[i + half];
              int at = r * width + i;
              out.set(at, a * cos - b * sin, Math.abs(a * cos) + Math.abs(b * sin));
              out.set(at + half, b * cos + a * sin, Math.abs(b * cos) + Math.abs(a * sin));
            }
          }
          return List.of(out);
        });
  }

  private static KernelCase rotationBackward(
      Arena arena,
      boolean bfloat16,
      boolean normed,
      int tokens,
      int heads,
      int width,
      int spoiled) {
    var random = new SplittableRandom(43L * tokens * heads + width);
    int rows = tokens * heads;
    var x = gaussian(arena, random, (long) rows * width, bfloat16);
    var dOut = gaussian(arena, random, (long) rows * width, bfloat16);
    var weight = normed ? gaussian(arena, random, width, false) : null;
    spoil(spoiled, dOut, x);
    var rotations = rotations(arena, tokens, width);
    float[] before = new float[normed ? width : 0];
    var outputs = new ArrayList<Output>();
    outputs.add(Output.written("dx", bfloat16, rows, width));
    if (normed) {
      outputs.add(Output.addedTo("dWeight", before));
    }
    return new KernelCase(
        name("normRotateBackward " + heads + " heads", rows, width, spoiled, bfloat16, normed),
        rows,
        outputs,
        (kernels, made, from, to) ->
            kernels.normRotateBackward(
                dOut,
                x,
                weight,
                EPSILON,
                rotations,
                made.getFirst(),
                normed ? made.getLast().memory() : MemorySegment.NULL,
                heads,
                width,
                from,
                to),
        () -> {
          var dx = new Expected(rows * width);
          var dWeight = new Expected(width);
          int half = width / 2;
          for (int r = 0; r < rows; r++) {
            double[] d = new double[width];
            double[] terms = new double[width];
            long angle = r / heads % rotations.positions() * half;
            for (int i = 0; i < half; i++) {
              double cos = at(rotations.cosines(), angle + i);
              double sin = at(rotations.sines(), angle + i);
              double a = dOut.get((long) r * width + i);
              double b = dOut.get((long) r * width + i + half);
              d[i] = a * cos + b * sin;
              d[i + half] = b * cos - a * sin;
              terms[i] = Math.abs(a * cos) + Math.abs(b * sin);
              terms[i + half] = Math.abs(b * cos) + Math.abs(a * sin);
            }
            if (weight != null) {
              normGradient(d, terms, row(x, r, width), weight, dx, dWeight, r);
            }
            for (int j = 0; weight == null && j < width; j++) {
              dx.set(r * width + j, d[j], terms[j]);
            }
          }
          return normed ? List.of(dx, dWeight) : List.of(dx);
        });
  }
}
