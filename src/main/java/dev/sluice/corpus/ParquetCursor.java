package dev.sluice.corpus;

import dev.sluice.InvalidInputException;
import dev.sluice.files.Failures;
import java.io.IOException;
import java.io.StringReader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileSystemException;
import java.nio.file.Path;
import org.jspecify.annotations.Nullable;

/// Each row of a Parquet file is a document, the text of one string column; no other column is
/// read.
final class ParquetCursor implements DocumentCursor {
  private static final byte[] REPLACEMENT = "\uFFFD".getBytes(StandardCharsets.UTF_8);

  private final String name;
  private final String textField;
  private final Utf8Judge judge;
  private final ParquetFile file;
  private final ParquetPages rows;
  private long row;
  private long bytes;

  ParquetCursor(Path path, String name, String textField) {
    this.name = name;
    this.textField = textField;
    this.judge = new Utf8Judge("%s: the column '%s'".formatted(name, textField));
    try {
      this.file = new ParquetFile(path, name, textField);
    } catch (IOException | RuntimeException | OutOfMemoryError e) {
      throw unreadable(e);
    }
    this.rows = new ParquetPages(file, name);
  }

  @Override
  public @Nullable Document next() {
    try {
      if (!rows.advance()) {
        judge.end(bytes);
        return null;
      }
      row++;
      ParquetValues value = rows.value();
      if (value == null) {
        throw new InvalidInputException(
            "%s: row %d has no '%s'; remove the rows without text."
                .formatted(name, row, textField));
      }
      String text = text(value.bytes, value.from, value.to);
      return new Document(name + ":" + row, new StringReader(text));
    } catch (IOException | RuntimeException | OutOfMemoryError e) {
      throw unreadable(e);
    }
  }

  private String text(byte[] values, int from, int to) {
    String text = new String(values, from, to - from, StandardCharsets.UTF_8);
    if (text.indexOf('\uFFFD') >= 0) {
      long broken =
          text.chars().filter(c -> c == '\uFFFD').count() - replacements(values, from, to);
      for (long i = 0; i < broken; i++) {
        judge.broken(bytes + (to - from) * i / broken, "row " + row);
      }
    }
    bytes += to - from;
    return text;
  }

  /// How often the text itself holds U+FFFD, which is then not broken.
  private static long replacements(byte[] values, int from, int to) {
    long count = 0;
    for (int i = from; i + 2 < to; i++) {
      if (values[i] == REPLACEMENT[0]
          && values[i + 1] == REPLACEMENT[1]
          && values[i + 2] == REPLACEMENT[2]) {
        count++;
      }
    }
    return count;
  }

  private InvalidInputException unreadable(Throwable e) {
    return switch (e) {
      case InvalidInputException known -> known;
      case OutOfMemoryError _ ->
          new InvalidInputException(
              "%s cannot be read as Parquet (a page of it takes more memory than there is); write it again with smaller pages, convert it to .jsonl, or give Java a larger heap"
                  .formatted(name),
              e);
      case FileSystemException failure ->
          new InvalidInputException(
              "%s cannot be read (%s); check that it exists and its permissions"
                  .formatted(name, Failures.words(failure)),
              e);
      default ->
          new InvalidInputException(
              "%s cannot be read as Parquet (%s); copy it again, or convert it to .jsonl"
                  .formatted(
                      name,
                      e instanceof IOException
                          ? String.valueOf(e.getMessage())
                          : "its contents contradict each other"),
              e);
    };
  }

  @Override
  public long broken() {
    return judge.broken();
  }

  @Override
  public void close() {
    try {
      file.close();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
