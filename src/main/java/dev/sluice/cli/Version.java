package dev.sluice.cli;

import picocli.CommandLine.IVersionProvider;

/// What `--version` prints.
final class Version implements IVersionProvider {
  @Override
  public String[] getVersion() {
    return new String[] {"sluice 0.1.0 (commit " + commit() + ")"};
  }

  /// The commit that the launcher names.
  static String commit() {
    return System.getProperty("sluice.commit", "unknown");
  }
}
