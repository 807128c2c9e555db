package dev.sluice.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.training.RunConfig;
import java.util.ArrayList;
import org.junit.jupiter.api.Test;

class SettingFlagsTest {
  @Test
  void everySettingHasAFlagWithHelp() {
    assertEquals(
        new ArrayList<>(RunConfig.DEFAULTS.settings().keySet()),
        RunConfig.declared().stream().map(setting -> setting.name()).toList());
    String help = Cli.run("train", "--help").out();
    for (var setting : RunConfig.declared()) {
      assertFalse(setting.about().help().isBlank(), setting.name());
      assertTrue(help.contains("--" + setting.name().replace('_', '-')), setting.name());
    }
  }
}
