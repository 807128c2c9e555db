package dev.sluice.corpus;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import org.jspecify.annotations.Nullable;

/// A text file is one document.
final class TextCursor implements DocumentCursor {
  private final String name;
  private final Utf8Reader text;
  private boolean taken;

  TextCursor(Path file, String name) {
    this.name = name;
    this.text = TextInput.open(file, name);
  }

  @Override
  public @Nullable Document next() {
    if (taken) {
      return null;
    }
    taken = true;
    return new Document(name, text);
  }

  @Override
  public long broken() {
    return text.broken();
  }

  @Override
  public void close() {
    try {
      text.close();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
