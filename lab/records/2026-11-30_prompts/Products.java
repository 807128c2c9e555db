package dev.sluice.kernel;

import java.lang.foreign.Arena;
import java.lang.foreign.ValueLayout;
import java.util.SplittableRandom;

/// Billions of products a second of weights in strips that the second cache holds, 1024 rows and
/// columns. Arguments: numbers of vectors.
public class Products {
  private static final int SIZE = 1024;

  public static void main(String[] arguments) {
    var products = MachineProducts.here();
    var random = new SplittableRandom(1);
    try (var arena = Arena.ofShared()) {
      for (var format :
          new WeightFormat[] {
            WeightFormat.Q8_0, WeightFormat.Q4_0, WeightFormat.Q4_K, WeightFormat.Q6_K
          }) {
        var memory = arena.allocate(format.bytes((long) SIZE * SIZE), 64);
        float[] row = new float[SIZE];
        for (int r = 0; r < SIZE; r++) {
          for (int c = 0; c < SIZE; c++) {
            row[c] = (float) random.nextGaussian();
          }
          format.quantize(row, 0, SIZE, memory, r * format.bytes(SIZE));
        }
        var packed =
            new StoredMatrix(format, memory, SIZE, SIZE)
                .packed(arena.allocate(memory.byteSize(), 64));
        for (int digits = 1; digits <= 2; digits++) {
          for (String argument : arguments) {
            int n = Integer.parseInt(argument);
            var strips = packed.withDigits(digits);
            var x = arena.allocate(4L * SIZE * n, 64);
            for (int i = 0; i < SIZE * n; i++) {
              x.setAtIndex(ValueLayout.JAVA_FLOAT, i, (float) random.nextGaussian());
            }
            var room = arena.allocate(MachineProducts.arrangedBytes(format, SIZE, n), 64);
            var inputs =
                products.arrange(format, strips.order(), digits, x, SIZE, SIZE, n, room);
            var y = arena.allocate(4L * SIZE * n, 64);
            double best = Double.MAX_VALUE;
            for (int round = 0; round < 30; round++) {
              long began = System.nanoTime();
              for (int i = 0; i < 64; i++) {
                Threads.split(
                    SIZE / 16,
                    4,
                    (from, to) ->
                        products.multiplyStrips(
                            strips, 16 * from, 16 * (to - from), inputs, y.asSlice(64 * from), SIZE));
              }
              best = Math.min(best, (System.nanoTime() - began) / 1e9);
            }
            System.out.printf(
                "%s, %d vectors of %d bytes: %.0f%n",
                format, n, digits, 64e-9 * SIZE * SIZE * n / best);
          }
        }
      }
    }
    System.exit(0);
  }
}
