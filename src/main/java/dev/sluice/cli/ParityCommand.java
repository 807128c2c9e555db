package dev.sluice.cli;

import dev.sluice.evaluation.Parity;
import dev.sluice.report.Cell;
import dev.sluice.report.Table;
import dev.sluice.report.TextTable;
import dev.sluice.tensor.Device;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/// `sluice parity`: compares checkpoints with a reference's answers.
@Command(
    name = "parity",
    description = {
      "Compares checkpoint folders with what a reference implementation answers for them.",
      "",
      "A folder holds config.json, model.safetensors, golden.safetensors (input_ids, logits,"
          + " hidden.i, greedy, optionally attention.i; prompt_tokens in its metadata) and"
          + " optionally training.json.",
      "Exit code 1 when a difference is out of tolerance."
    },
    mixinStandardHelpOptions = true,
    footer = {
      "",
      "Example:  ./sluice parity golden/qwen3 golden/paper-elementwise --tolerance 1e-5"
    })
final class ParityCommand implements Callable<Integer> {
  @Parameters(arity = "1..*", paramLabel = "DIR", description = "Checkpoint folders.")
  private List<Path> directories = List.of();

  @Option(
      names = "--tolerance",
      paramLabel = "X",
      description =
          "Largest absolute difference of logits, hidden states and attention. Default:"
              + " ${DEFAULT-VALUE}.")
  private double tolerance = 2e-4;

  @Option(names = "--device", paramLabel = "DEVICE", description = "cpu, cuda, cuda:INDEX or auto.")
  private String device = "cpu";

  @Mixin private ThreadsOption threads = new ThreadsOption();

  @Override
  public Integer call() {
    Parity.requireTolerance(tolerance);
    threads.apply();
    var table =
        Table.titled("Differences from the reference, float32")
            .columns("checkpoint", "quantity", "largest difference", "tolerance", "");
    boolean passed = true;
    for (Path directory : directories) {
      var result = Parity.check(directory, tolerance, Device.parse(device));
      result.notes().forEach(Console::note);
      passed &= result.passed();
      for (var line : result.lines()) {
        table =
            table.row(
                Cell.of(String.valueOf(directory.getFileName())),
                Cell.of(line.quantity()),
                Cell.of(String.format(Locale.ROOT, "%.1e", line.difference())),
                Cell.of(String.format(Locale.ROOT, "%.0e", line.tolerance())),
                Cell.of(line.passed() ? "ok" : "OUT OF TOLERANCE"));
      }
    }
    Console.print(TextTable.of(table).toString());
    return passed ? 0 : Main.FAILED;
  }
}
