package dev.sluice.operations;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.Arrays;
import java.util.SplittableRandom;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// The steps against the definition in float64, and the definition against what it is for, by
/// singular values that are computed in another way.
class NewtonSchulzTest {
  private final SplittableRandom random = new SplittableRandom(7);
  private Scope scope;

  @BeforeEach
  void open() {
    Libtorch.poisonUninitialized(true);
    scope = Scope.withoutGradient();
  }

  @AfterEach
  void close() {
    scope.close();
    Libtorch.poisonUninitialized(false);
  }

  private double[] gaussian(int count) {
    double[] values = new double[count];
    Arrays.setAll(values, _ -> (float) random.nextGaussian());
    return values;
  }

  private static double[] exact(double[] x, int rows, int columns) {
    return NewtonSchulz.composed(Tensor.of(x, rows, columns), ElementType.FLOAT64)
        .contiguous()
        .doubles();
  }

  private static double[] fused(double[] x, int rows, int columns, ElementType type) {
    var y = Tensor.of(x, rows, columns).to(ElementType.FLOAT32).contiguous();
    NewtonSchulz.apply(y.numbers(), rows, columns, type);
    return y.to(ElementType.FLOAT64).doubles();
  }

  private static double[] composed(double[] x, int rows, int columns, ElementType type) {
    var y = Tensor.of(x, rows, columns).to(ElementType.FLOAT32);
    return NewtonSchulz.composed(y, type).contiguous().to(ElementType.FLOAT64).doubles();
  }

  private static double distance(double[] a, double[] b) {
    double sum = 0;
    double size = 0;
    for (int i = 0; i < a.length; i++) {
      sum += (a[i] - b[i]) * (a[i] - b[i]);
      size += a[i] * a[i];
    }
    return Math.sqrt(sum / Math.max(size, 1e-300));
  }

  /// Singular values by one-sided Jacobi rotations, the largest first.
  private static double[] singularValues(double[] x, int rows, int columns) {
    boolean wide = columns > rows;
    int length = wide ? columns : rows;
    int count = wide ? rows : columns;
    double[][] v = new double[count][length];
    for (int i = 0; i < rows; i++) {
      for (int j = 0; j < columns; j++) {
        v[wide ? i : j][wide ? j : i] = x[i * columns + j];
      }
    }
    for (int sweep = 0; sweep < 30; sweep++) {
      for (int p = 0; p < count; p++) {
        for (int q = p + 1; q < count; q++) {
          rotate(v[p], v[q]);
        }
      }
    }
    return Arrays.stream(v)
        .mapToDouble(row -> -Math.sqrt(Arrays.stream(row).map(e -> e * e).sum()))
        .sorted()
        .map(value -> -value)
        .toArray();
  }

  private static void rotate(double[] p, double[] q) {
    double pp = 0;
    double qq = 0;
    double pq = 0;
    for (int i = 0; i < p.length; i++) {
      pp += p[i] * p[i];
      qq += q[i] * q[i];
      pq += p[i] * q[i];
    }
    if (Math.abs(pq) < 1e-300) {
      return;
    }
    double zeta = (qq - pp) / (2 * pq);
    double t = Math.copySign(1, zeta) / (Math.abs(zeta) + Math.sqrt(1 + zeta * zeta));
    double c = 1 / Math.sqrt(1 + t * t);
    for (int i = 0; i < p.length; i++) {
      double a = p[i];
      p[i] = c * (a - t * q[i]);
      q[i] = c * (t * a + q[i]);
    }
  }

  /// In float32 the definition to a few of its roundings, which five steps can make some hundreds
  /// of times larger; in bfloat16, whose ulp is 2⁻⁸, to a few hundredths.
  @ParameterizedTest
  @CsvSource({"1,1", "1,65", "65,1", "7,7", "63,65", "65,63", "7,257", "257,7", "96,32", "128,128"})
  void valuesAreTheDefinitions(int rows, int columns) {
    double[] x = gaussian(rows * columns);
    for (double scale : new double[] {1, 1e-3, 1e6}) {
      double[] scaled = Arrays.stream(x).map(value -> value * scale).toArray();
      double[] exact = exact(scaled, rows, columns);
      String what = rows + " × " + columns + " by " + scale;
      double float32 = distance(exact, fused(scaled, rows, columns, ElementType.FLOAT32));
      double bfloat16 = distance(exact, fused(scaled, rows, columns, ElementType.BFLOAT16));
      double plain = distance(exact, composed(scaled, rows, columns, ElementType.BFLOAT16));
      assertTrue(float32 < 1e-3, what + " in float32: " + float32);
      assertTrue(bfloat16 < 0.06, what + " in bfloat16: " + bfloat16);
      assertTrue(plain < 0.06, what + " composed in bfloat16: " + plain);
    }
  }

  /// Those of at least 1/100 of the norm; and nothing is above the band.
  @ParameterizedTest
  @CsvSource({"1,1", "1,40", "40,1", "8,8", "24,40", "40,24", "16,130"})
  void singularValuesAreNearOne(int rows, int columns) {
    double[] x = gaussian(rows * columns);
    double[] before = singularValues(x, rows, columns);
    double norm = Math.sqrt(Arrays.stream(x).map(value -> value * value).sum());
    for (double[] result :
        new double[][] {exact(x, rows, columns), fused(x, rows, columns, ElementType.BFLOAT16)}) {
      double[] after = singularValues(result, rows, columns);
      long large = Arrays.stream(before).filter(value -> value >= norm / 100).count();
      assertTrue(large >= 1);
      for (int i = 0; i < after.length; i++) {
        String what = "%d × %d: %d of %s".formatted(rows, columns, i, Arrays.toString(after));
        assertTrue(after[i] < 1.16, what);
        assertTrue(i >= large || after[i] > 0.66, what);
      }
    }
  }

  /// Its one direction is kept, and nothing comes to it.
  @Test
  void aMatrixOfRankOneKeepsItsDirection() {
    int rows = 24;
    int columns = 65;
    double[] u = gaussian(rows);
    double[] v = gaussian(columns);
    double[] x = new double[rows * columns];
    for (int i = 0; i < rows; i++) {
      for (int j = 0; j < columns; j++) {
        x[i * columns + j] = u[i] * v[j];
      }
    }
    double size = Math.sqrt(Arrays.stream(x).map(e -> e * e).sum());
    for (var type : new ElementType[] {ElementType.FLOAT32, ElementType.BFLOAT16}) {
      double[] result = fused(x, rows, columns, type);
      double along = 0;
      double all = 0;
      for (int i = 0; i < x.length; i++) {
        along += result[i] * x[i] / size;
        all += result[i] * result[i];
      }
      assertTrue(along > 0.66 && along < 1.16, type + ": " + along);
      // what bfloat16 rounds away is of full rank, and small singular values grow by up to 3.4⁵
      double rest = Math.sqrt(Math.max(0, all - along * along));
      double allowed = type == ElementType.FLOAT32 ? 1e-3 : 1.5;
      assertTrue(rest < allowed, type + ": " + rest);
    }
  }

  @Test
  void zerosStayZerosAndWhatFadesFades() {
    for (var type : new ElementType[] {ElementType.FLOAT32, ElementType.BFLOAT16}) {
      for (double value : fused(new double[5 * 7], 5, 7, type)) {
        assertEquals(0, value);
      }
    }
    double[] tiny = Arrays.stream(gaussian(5 * 7)).map(value -> value * 1e-14).toArray();
    double[] result = fused(tiny, 5, 7, ElementType.BFLOAT16);
    assertTrue(singularValues(result, 5, 7)[0] < 1e-3, Arrays.toString(result));
    assertTrue(distance(exact(tiny, 5, 7), result) < 0.06);
  }
}
