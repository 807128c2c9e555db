package dev.sluice.corpus;

import org.jspecify.annotations.Nullable;

/// Walks once over the documents of a source, in its order.
public interface DocumentCursor extends AutoCloseable {
  /// The next document, or null after the last.
  @Nullable Document next();

  /// How many characters so far were no UTF-8 and read as U+FFFD.
  default long broken() {
    return 0;
  }

  @Override
  void close();
}
