package dev.sluice.corpus;

import org.jspecify.annotations.Nullable;

/// Walks once over the documents of a source, in its order.
public interface DocumentCursor extends AutoCloseable {
  /// The next document, or null after the last.
  @Nullable Document next();

  @Override
  void close();
}
