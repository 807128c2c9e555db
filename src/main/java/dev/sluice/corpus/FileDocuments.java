package dev.sluice.corpus;

import dev.sluice.InvalidInputException;
import dev.sluice.files.Sha256;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.SequencedMap;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;

/// The documents of one file or of a folder's files.
record FileDocuments(Path data, String textField, List<DataFile> files) implements Documents {
  private static final String READABLE =
      ".txt, .text, .md, .jsonl and .json, each also with .gz or .zst, and .parquet";

  /// A file and its name relative to the data's root, with `/` on every system.
  record DataFile(Path path, String name, Format format) {
    DocumentCursor open(String textField) {
      return switch (format) {
        case TEXT -> new TextCursor(path, name);
        case JSON_LINES -> new JsonLinesCursor(path, name, textField);
        case PARQUET -> new ParquetCursor(path, name, textField);
      };
    }
  }

  enum Format {
    TEXT,
    JSON_LINES,
    PARQUET;

    static @Nullable Format of(String fileName) {
      String name = fileName.toLowerCase(Locale.ROOT);
      if (name.endsWith(".parquet")) {
        return PARQUET;
      }
      String bare = name.replaceFirst("\\.(gz|zst)$", "");
      return switch (bare.substring(bare.lastIndexOf('.') + 1)) {
        case "txt", "text", "md" -> TEXT;
        case "jsonl", "json" -> JSON_LINES;
        default -> null;
      };
    }
  }

  static FileDocuments at(Path data, String textField) {
    if (Files.isDirectory(data)) {
      List<DataFile> files = inFolder(data);
      if (files.isEmpty()) {
        throw new InvalidInputException(
            "The folder %s has no file to read; Sluice reads %s.".formatted(data, READABLE));
      }
      return new FileDocuments(data, textField, files);
    }
    if (!Files.exists(data)) {
      throw new InvalidInputException(
          "There is no data at %s; give a file or a folder.".formatted(data));
    }
    String name = String.valueOf(data.getFileName());
    Format format = Format.of(name);
    if (format == null) {
      throw new InvalidInputException(
          "%s is of a kind that Sluice does not read; it reads %s.".formatted(data, READABLE));
    }
    return new FileDocuments(data, textField, List.of(new DataFile(data, name, format)));
  }

  private static List<DataFile> inFolder(Path folder) {
    try (Stream<Path> paths = Files.walk(folder)) {
      return paths
          .filter(path -> Files.isRegularFile(path))
          .<DataFile>mapMulti(
              (path, files) -> {
                Path relative = folder.relativize(path);
                Format format = Format.of(String.valueOf(path.getFileName()));
                if (format != null
                    && Stream.of(parts(relative)).noneMatch(p -> p.startsWith("."))) {
                  files.accept(new DataFile(path, String.join("/", parts(relative)), format));
                }
              })
          .sorted(Comparator.comparing(DataFile::name))
          .toList();
    } catch (IOException | UncheckedIOException e) {
      throw new InvalidInputException(
          "The folder %s cannot be read (%s); check its permissions.".formatted(folder, e), e);
    }
  }

  private static String[] parts(Path path) {
    String[] parts = new String[path.getNameCount()];
    for (int i = 0; i < parts.length; i++) {
      parts[i] = path.getName(i).toString();
    }
    return parts;
  }

  @Override
  public String name() {
    return data.toString();
  }

  @Override
  public String fingerprint() {
    MessageDigest digest = Sha256.digest();
    Sha256.update(digest, textField);
    for (DataFile file : files) {
      Sha256.update(digest, file.name());
      try {
        Sha256.update(digest, file.path());
      } catch (IOException e) {
        throw new InvalidInputException(
            "%s cannot be read (%s); check its permissions.".formatted(file.path(), e), e);
      }
    }
    return Sha256.hex(digest);
  }

  @Override
  public SequencedMap<String, String> parts() {
    var parts = new LinkedHashMap<String, String>();
    for (DataFile file : files) {
      MessageDigest digest = Sha256.digest();
      try {
        Sha256.updateContent(digest, file.path());
      } catch (IOException e) {
        throw new InvalidInputException(
            "%s cannot be read (%s); check its permissions.".formatted(file.path(), e), e);
      }
      parts.put(file.name(), Sha256.hex(digest));
    }
    return parts;
  }

  @Override
  public DocumentCursor open() {
    var remaining = files.iterator();
    return new DocumentCursor() {
      private @Nullable DocumentCursor file;

      @Override
      public @Nullable Document next() {
        while (true) {
          if (file == null) {
            if (!remaining.hasNext()) {
              return null;
            }
            file = remaining.next().open(textField);
          }
          Document document = file.next();
          if (document != null) {
            return document;
          }
          close();
        }
      }

      @Override
      public void close() {
        if (file != null) {
          file.close();
          file = null;
        }
      }
    };
  }
}
