package dev.sluice.serving;

/// An [Engine] takes a request not now, or will take none any more. The message is a sentence for
/// whoever asked.
public final class RefusedException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  private final int retrySeconds;

  private RefusedException(String message, int retrySeconds) {
    super(message);
    this.retrySeconds = retrySeconds;
  }

  static RefusedException busy(int waiting, int retrySeconds) {
    return new RefusedException(
        "%d requests are waiting already; ask again later".formatted(waiting), retrySeconds);
  }

  static RefusedException ending(String why) {
    return new RefusedException(why, 0);
  }

  /// Seconds after which asking again makes sense; 0 where it makes none.
  public int retrySeconds() {
    return retrySeconds;
  }
}
