package dev.sluice.tensor;

import java.io.IOException;
import java.io.UncheckedIOException;

/// An exchange with the other processes of a job failed inside libtorch: one of them, or the store
/// that they meet at, is gone, does not answer, or closed the connection. Whatever fails in a
/// [ProcessGroup] and is not for lack of memory is this.
public final class LostContactException extends UncheckedIOException {
  private static final long serialVersionUID = 1L;

  LostContactException(RuntimeException cause) {
    this(
        "contact with the other ranks is lost ("
            + String.valueOf(cause.getMessage()).lines().findFirst().orElse("")
            + ")",
        cause);
  }

  private LostContactException(String message, RuntimeException cause) {
    super(message, new IOException(message, cause));
  }
}
