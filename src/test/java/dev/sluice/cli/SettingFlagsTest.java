package dev.sluice.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.sluice.training.RunConfig;
import java.util.ArrayList;
import org.junit.jupiter.api.Test;

class SettingFlagsTest {
  @Test
  void everySettingHasAFlagWithHelp() {
    assertEquals(
        new ArrayList<>(RunConfig.DEFAULTS.settings().keySet()),
        new ArrayList<>(SettingFlags.HELP.keySet()));
  }
}
