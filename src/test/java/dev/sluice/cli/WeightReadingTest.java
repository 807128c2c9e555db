package dev.sluice.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.api.Test;

class WeightReadingTest {
  @Test
  void aShareIsNeverMoreThanAll() {
    var reading = new WeightReading(3 << 28, 1 << 28, 8.0 * (1 << 30));
    assertEquals(
        ", 50 % of what reading 768 MiB of weights and 256 MiB of state a token at 8.00 GiB/s"
            + " allows",
        reading.words(4));
    assertEquals(
        ", which reads 768 MiB of weights and 256 MiB of state a token; memory gave 8.00 GiB/s"
            + " afterwards, as others used it, too",
        reading.words(16));
  }
}
