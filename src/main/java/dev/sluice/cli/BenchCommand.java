package dev.sluice.cli;

import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Spec;

/// `sluice bench`: how fast this machine is.
@Command(
    name = "bench",
    description = "Measures how fast this machine trains.",
    subcommands = BenchTrainCommand.class,
    synopsisSubcommandLabel = "COMMAND",
    mixinStandardHelpOptions = true,
    footer = {
      "",
      "Example:",
      "  ./sluice bench train --gate none,sdpa-elementwise --match-parameters"
    })
final class BenchCommand implements Runnable {
  @Spec private CommandSpec spec;

  @SuppressWarnings("NullAway.Init") // picocli sets the spec
  BenchCommand() {}

  @Override
  public void run() {
    spec.commandLine().usage(spec.commandLine().getOut());
  }
}
