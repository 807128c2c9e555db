package dev.sluice.cli;

import dev.sluice.checkpoint.Conversion;

/// Shows how far a model's weights were gone through, where it takes long.
final class ConversionProgress implements Conversion.Listener {
  private static final long MEGABYTE = 1_000_000;

  private final SlowProgress progress = new SlowProgress("MB");

  @Override
  public void advanced(String doing, long done, long total) {
    progress.advanced(done / MEGABYTE, total / MEGABYTE, doing);
  }

  @Override
  public boolean isStopping() {
    return Interruption.requested();
  }
}
