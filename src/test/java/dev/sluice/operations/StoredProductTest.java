package dev.sluice.operations;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.sluice.kernel.Floats;
import dev.sluice.kernel.Kernels;
import dev.sluice.kernel.MachineProducts;
import dev.sluice.kernel.StoredMatrix;
import dev.sluice.kernel.WeightFormat;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// Many rows with weights as a file has them.
class StoredProductTest {
  private static final int COLUMNS = 256;

  private final Random random = new Random(11);

  private float[] gaussian(int count) {
    float[] numbers = new float[count];
    for (int i = 0; i < count; i++) {
      numbers[i] = (float) random.nextGaussian();
    }
    return numbers;
  }

  private StoredMatrix matrix(WeightFormat format, int rows) {
    long bytes = format.bytes(COLUMNS);
    var data = Arena.ofAuto().allocate(rows * bytes, 2);
    for (int r = 0; r < rows; r++) {
      if (format.isMade()) {
        format.quantize(gaussian(COLUMNS), 0, COLUMNS, data, r * bytes);
        continue;
      }
      for (long b = r * bytes; b < (r + 1) * bytes; b += format.blockBytes()) {
        data.set(ValueLayout.JAVA_FLOAT_UNALIGNED, b, (float) random.nextGaussian());
        for (int i = 4; i < format.blockBytes(); i++) {
          data.set(ValueLayout.JAVA_BYTE, b + i, (byte) random.nextInt(127));
        }
      }
    }
    return new StoredMatrix(format, data, rows, COLUMNS);
  }

  /// Two weights of one input, with more than a panel of rows, within what is left out of `Σ |x
  /// w|`: nothing but the rounding of sums in float32, 2⁻¹⁶ by halves, 2⁻⁸ of inputs and of weights
  /// in bfloat16.
  @ParameterizedTest(name = "{0} {1} in halves {2}, {3} rows")
  @CsvSource({
    "Q8_0,FLOAT32,false,19",
    "Q8_0,FLOAT32,true,19",
    "Q4_0,FLOAT32,true,65",
    "Q4_K,FLOAT32,true,63",
    "I4_32,FLOAT32,true,19",
    "I4_64,FLOAT32,false,65",
    "I4_128,FLOAT32,true,63",
    "I4_128,BFLOAT16,false,19",
    "E4M3,FLOAT32,true,65",
    "E4M3,FLOAT32,false,19",
    "E4M3,BFLOAT16,false,20",
    "BF16,FLOAT32,true,20",
    "F32,FLOAT32,true,20",
    "Q8_0,BFLOAT16,false,65",
    "BF16,BFLOAT16,false,19"
  })
  void isTheProductOfTheNumbers(WeightFormat format, ElementType type, boolean inHalves, int rows) {
    try (var _ = Scope.withoutGradient()) {
      float[] inputs = gaussian(rows * COLUMNS);
      var x = Tensor.of(inputs, rows, COLUMNS);
      var weights = List.of(matrix(format, 133), matrix(WeightFormat.Q6_K, 7));
      var products = StoredProduct.apply(x, weights, type, ElementType.FLOAT32, inHalves);
      double share =
          type == ElementType.BFLOAT16
              ? 0x1p-7
              : inHalves && format.blockLength() > 1 ? 0x1p-16 : 0x1p-20;
      for (int i = 0; i < weights.size(); i++) {
        var w = weights.get(i);
        double within = i == 1 && inHalves ? 0x1p-16 : share;
        var numbers = Arena.ofAuto().allocate(w.rows() * COLUMNS * 4, 4);
        Kernels.FASTEST.dequantize(w, 0, w.rows(), Floats.float32(numbers));
        float[] of = numbers.toArray(ValueLayout.JAVA_FLOAT);
        float[] y = products.get(i).floats();
        double largest = 0;
        for (int j = 0; j < y.length; j++) {
          int at = j / (int) w.rows() * COLUMNS;
          int row = j % (int) w.rows() * COLUMNS;
          double sum = 0;
          double size = 0;
          for (int c = 0; c < COLUMNS; c++) {
            sum += (double) inputs[at + c] * of[row + c];
            size += Math.abs((double) inputs[at + c] * of[row + c]);
          }
          assertEquals(sum, y[j], within * size, w.format() + " element " + j);
          largest = Math.max(largest, Math.abs(sum - y[j]) / size);
        }
        assertTrue(largest > 0, "sums in float32 are not exact");
      }
      var last = x.narrow(0, 2, rows - 2);
      if (rows > 10) { // many without the first two as well
        float[] all = products.getFirst().narrow(0, 2, rows - 2).floats();
        float[] fewer =
            StoredProduct.apply(last, weights, type, ElementType.FLOAT32, inHalves)
                .getFirst()
                .floats();
        assertArrayEquals(fewer, all, "rows do not depend on their company");
      }
    }
  }

  /// What a prompt's rows get, and the texts of a server: the bits that each gets alone. Sixteen
  /// rows with weights of any format, and any number with weights in strips.
  @ParameterizedTest
  @CsvSource({
    "F32,16",
    "BF16,16",
    "E4M3,13",
    "I4_64,16",
    "Q8_0,9",
    "Q8_0,37",
    "Q4_0,64",
    "Q4_K,37",
    "Q6_K,21"
  })
  void aRowHasTheBitsThatItHasAlone(WeightFormat format, int rows) {
    assumeTrue(rows <= 16 || MachineProducts.here() != null, "the machine runs no code made here");
    try (var _ = Scope.withoutGradient()) {
      var x = Tensor.of(gaussian(rows * COLUMNS), rows, COLUMNS);
      var weights = new ArrayList<StoredMatrix>();
      for (int count : new int[] {48, 16, 256}) {
        var matrix = matrix(format, count);
        weights.add(matrix.isToBePacked() ? matrix.packed(matrix.data()) : matrix);
      }
      var together = multiplied(x, weights);
      for (int row = 0; row < rows; row++) {
        var alone = multiplied(x.narrow(0, row, 1), weights);
        for (int i = 0; i < weights.size(); i++) {
          float[] expected = alone.get(i).floats();
          assertArrayEquals(expected, together.get(i).narrow(0, row, 1).floats(), "row " + row);
        }
      }
    }
  }

  /// Weights of which some take sixteen vectors at once where there are tiles, and others eight.
  @Test
  void rowsOfWeightsInSeveralOrdersHaveTheBitsThatTheyHaveAlone() {
    try (var _ = Scope.withoutGradient()) {
      var x = Tensor.of(gaussian(13 * COLUMNS), 13, COLUMNS);
      var weights = new ArrayList<StoredMatrix>();
      for (var format :
          List.of(WeightFormat.Q4_0, WeightFormat.Q5_K, WeightFormat.Q4_K, WeightFormat.F32)) {
        var matrix = matrix(format, 48);
        weights.add(matrix.isToBePacked() ? matrix.packed(matrix.data()) : matrix);
      }
      var together = multiplied(x, weights);
      for (int row = 0; row < 13; row++) {
        var alone = multiplied(x.narrow(0, row, 1), weights);
        for (int i = 0; i < weights.size(); i++) {
          float[] expected = alone.get(i).floats();
          assertArrayEquals(expected, together.get(i).narrow(0, row, 1).floats(), "row " + row);
        }
      }
    }
  }

  /// Weights in strips stay what they are beside others of the same input.
  @Test
  void weightsDoNotDependOnTheirCompany() {
    try (var _ = Scope.withoutGradient()) {
      var x = Tensor.of(gaussian(37 * COLUMNS), 37, COLUMNS);
      var rows = matrix(WeightFormat.Q4_K, 48);
      var first = rows.isToBePacked() ? rows.packed(rows.data()) : rows;
      var second = matrix(WeightFormat.BF16, 20);
      var both = multiplied(x, List.of(first, second));
      var alone = List.of(multiplied(x, List.of(first)), multiplied(x, List.of(second)));
      for (int i = 0; i < 2; i++) {
        assertArrayEquals(alone.get(i).getFirst().floats(), both.get(i).floats());
      }
    }
  }

  private static List<Tensor> multiplied(Tensor x, List<StoredMatrix> weights) {
    return StoredProduct.apply(x, weights, ElementType.FLOAT32, ElementType.FLOAT32);
  }
}
