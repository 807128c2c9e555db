package dev.sluice.cli;

import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class ThreadsOptionTest {
  /// OpenMP would end the process.
  @ParameterizedTest
  @ValueSource(strings = {"2147483647", "1000000", "0", "-2"})
  void threadsThatCannotBeStartedAreRefused(String threads) {
    for (String command :
        new String[] {"train", "study", "generate x", "parity x", "bench train"}) {
      var arguments = (command + " --threads " + threads).split(" ");
      String sentence = Cli.run((Object[]) arguments).refusal();
      assertTrue(sentence.contains("--threads must be from 1 to "), sentence);
      assertTrue(sentence.contains("not " + threads), sentence);
    }
  }

  @ParameterizedTest
  @CsvSource({
    "OMP_STACKSIZE,1000G",
    "OMP_STACKSIZE,2 g",
    "OMP_STACKSIZE,99999999999999999999999999",
    "GOMP_STACKSIZE,1048577",
    "OMP_STACKSIZE,1073741825B"
  })
  void stacksThatNoThreadCanHaveAreRefused(String name, String size) {
    var failure =
        assertThrows(
            InvalidInputException.class, () -> ThreadsOption.requireStack(Map.of(name, size)));
    assertTrue(failure.getMessage().startsWith(name + " is '" + size + "'"), failure::getMessage);
  }

  @Test
  void otherStacksAreOpenMpsMatter() {
    for (String size : new String[] {"", "16M", "1G", "4096", "nonsense", "-1", "1T"}) {
      ThreadsOption.requireStack(Map.of("OMP_STACKSIZE", size));
    }
    ThreadsOption.requireStack(Map.of());
  }
}
