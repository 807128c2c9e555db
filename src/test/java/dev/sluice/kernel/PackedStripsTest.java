package dev.sluice.kernel;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Random;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class PackedStripsTest {
  /// Strips have the bytes of their definition, whoever wrote them, and their rows are those that
  /// they were made of.
  @ParameterizedTest
  @CsvSource({
    "Q8_0, 16, 128",
    "Q8_0, 48, 384",
    "Q8_0, 1040, 1152",
    "Q4_0, 16, 128",
    "Q4_0, 48, 384",
    "Q4_0, 1040, 1152",
    "Q4_K, 16, 256",
    "Q4_K, 48, 768",
    "Q6_K, 16, 256",
    "Q6_K, 1040, 1024"
  })
  void codeWritesTheDefinition(WeightFormat format, long rows, long columns) {
    assumeTrue(MachineProducts.here() != null, "the machine runs no code that was made here");
    try (var arena = Arena.ofShared()) {
      long bytes = format.bytes(rows * columns);
      var data = arena.allocate(bytes, 1);
      byte[] random = new byte[(int) bytes];
      new Random(rows).nextBytes(random);
      data.copyFrom(MemorySegment.ofArray(random));
      var matrix = new StoredMatrix(format, data, rows, columns);
      var expected = arena.allocate(bytes, 64);
      PackedStrips.pack(matrix, expected, null);
      var found = arena.allocate(bytes, 64).fill((byte) 0x5A);
      var code = PackedStrips.code(matrix);
      assertNotNull(code);
      PackedStrips.pack(matrix, found, code);
      assertEquals(-1, expected.mismatch(found));

      var strips = matrix.packed(arena.allocate(bytes, 64));
      assertEquals(-1, strips.data().mismatch(found));
      long stripBytes = PackedStrips.ROWS * matrix.rowBytes();
      for (long strip = 0; strip < rows / PackedStrips.ROWS; strip++) {
        var its = PackedStrips.rows(strips, strip * PackedStrips.ROWS, PackedStrips.ROWS);
        assertEquals(-1, data.asSlice(strip * stripBytes, stripBytes).mismatch(its.data()));
        var two = PackedStrips.rows(strips, strip * PackedStrips.ROWS + 13, 2);
        long from = strip * stripBytes + 13 * matrix.rowBytes();
        assertEquals(-1, data.asSlice(from, 2 * matrix.rowBytes()).mismatch(two.data()));
      }
      matrix.packed(data); // in its own place
      assertEquals(-1, data.mismatch(found));
    }
  }
}
