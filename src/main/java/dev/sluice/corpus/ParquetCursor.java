package dev.sluice.corpus;

import dev.hardwood.InputFile;
import dev.hardwood.metadata.PhysicalType;
import dev.hardwood.reader.ParquetFileReader;
import dev.hardwood.reader.RowReader;
import dev.hardwood.schema.ColumnProjection;
import dev.hardwood.schema.ColumnSchema;
import dev.sluice.InvalidInputException;
import java.io.IOException;
import java.io.StringReader;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// Each row of a Parquet file is a document, the text of one string column; no other column is
/// read.
final class ParquetCursor implements DocumentCursor {
  private final String name;
  private final String textField;
  private final ParquetFileReader file;
  private final RowReader rows;
  private long rowNumber;

  ParquetCursor(Path path, String name, String textField) {
    this.name = name;
    this.textField = textField;
    this.file = open(path);
    try {
      requireStrings(file.getFileSchema().getColumns());
      this.rows = file.buildRowReader().projection(ColumnProjection.columns(textField)).build();
    } catch (RuntimeException e) {
      close(file);
      throw e instanceof InvalidInputException ? e : damaged(e);
    }
  }

  private ParquetFileReader open(Path path) {
    try {
      return ParquetFileReader.open(InputFile.of(path));
    } catch (IOException | RuntimeException e) {
      throw damaged(e);
    }
  }

  private void requireStrings(List<ColumnSchema> columns) {
    for (ColumnSchema column : columns) {
      if (column.fieldPath().toString().equals(textField)) {
        if (column.type() == PhysicalType.BYTE_ARRAY && column.maxRepetitionLevel() == 0) {
          return;
        }
        throw new InvalidInputException(
            "%s: the column '%s' holds no strings but %s; name the column that has the text."
                .formatted(name, textField, column.type()));
      }
    }
    throw new InvalidInputException(
        "%s has no column '%s' but %s; name the column that has the text."
            .formatted(
                name, textField, columns.stream().map(c -> c.fieldPath().toString()).toList()));
  }

  @Override
  public @Nullable Document next() {
    String text;
    try {
      if (!rows.hasNext()) {
        return null;
      }
      rows.next();
      rowNumber++;
      text = rows.isNull(textField) ? null : rows.getString(textField);
    } catch (RuntimeException e) {
      throw damaged(e);
    }
    if (text == null) {
      throw new InvalidInputException(
          "%s: row %d has no '%s'; remove the rows without text."
              .formatted(name, rowNumber, textField));
    }
    return new Document(name + ":" + rowNumber, new StringReader(text));
  }

  private InvalidInputException damaged(Exception e) {
    return new InvalidInputException(
        "%s cannot be read as Parquet (%s); check the file, or convert it to .jsonl."
            .formatted(name, String.valueOf(e.getMessage()).lines().findFirst().orElse("")),
        e);
  }

  @Override
  public void close() {
    rows.close();
    close(file);
  }

  private static void close(ParquetFileReader file) {
    try {
      file.close();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
