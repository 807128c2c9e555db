package dev.sluice.cli;

import dev.sluice.report.Cell;
import dev.sluice.report.Table;
import dev.sluice.report.TextTable;
import dev.sluice.training.RunCheck;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Objects;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Parameters;

/// `sluice verify`: reads a run directory through and names what is damaged.
@Command(
    name = "verify",
    description = {
      "Reads every checkpoint and corpus shard of a run, or of all runs below a directory, and"
          + " compares their checksums.",
      "",
      "Exit code 1 when something is damaged."
    },
    mixinStandardHelpOptions = true,
    footer = {"", "Example:  ./sluice verify runs/NAME"})
final class VerifyCommand implements Callable<Integer> {
  @Parameters(paramLabel = "RUN", description = "A run directory, or one with runs below it.")
  private @Nullable Path run;

  @Override
  public Integer call() throws IOException {
    Path directory = Objects.requireNonNull(run);
    var parts =
        RunCheck.check(directory, path -> Console.note("reading " + directory.relativize(path)));
    var table = Table.titled("What " + directory + " holds").columns("part", "MB", "");
    long damaged = 0;
    for (var part : parts) {
      String damage = part.damage();
      damaged += damage == null ? 0 : 1;
      table =
          table.row(
              Cell.of(directory.relativize(part.path()).toString()),
              Cell.of(part.bytes() / 1e6, 2),
              Cell.of(damage != null ? "DAMAGED" : part.note().isEmpty() ? "ok" : part.note()));
    }
    Console.print(TextTable.of(table).toString());
    for (var part : parts) {
      if (part.damage() != null) {
        Console.error(Main.sentence(part.damage()));
      }
    }
    Console.print(
        damaged == 0
            ? "Everything is as it was written."
            : "%d of %d parts are damaged.".formatted(damaged, parts.size()));
    return damaged == 0 ? 0 : Main.FAILED;
  }
}
