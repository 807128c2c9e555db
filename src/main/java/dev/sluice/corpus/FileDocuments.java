package dev.sluice.corpus;

import dev.sluice.InvalidInputException;
import dev.sluice.files.Failures;
import dev.sluice.files.RegularFile;
import dev.sluice.files.Sha256;
import java.io.IOException;
import java.nio.file.FileVisitOption;
import java.nio.file.FileVisitResult;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.SimpleFileVisitor;
import java.nio.file.attribute.BasicFileAttributes;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.SequencedMap;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/// The documents of one file or of a folder's files.
///
/// @param others names of files in the folder that are of no kind that is read
record FileDocuments(Path data, String textField, List<DataFile> files, List<String> others)
    implements Documents {
  private static final String READABLE =
      ".txt, .text, .md, .jsonl and .json, each also with .gz or .zst, and .parquet";

  /// A file and its name relative to the data's root, with `/` on every system.
  record DataFile(Path path, String name, Format format) {
    DocumentCursor open(String textField) {
      return switch (format) {
        case TEXT -> new TextCursor(path, name);
        case JSON -> new JsonCursor(path, name, textField);
        case PARQUET -> new ParquetCursor(path, name, textField);
      };
    }
  }

  enum Format {
    TEXT,
    JSON,
    PARQUET;

    static @Nullable Format of(String fileName) {
      String name = fileName.toLowerCase(Locale.ROOT);
      if (name.endsWith(".parquet")) {
        return PARQUET;
      }
      String bare = name.replaceFirst("\\.(gz|zst)$", "");
      return switch (bare.substring(bare.lastIndexOf('.') + 1)) {
        case "txt", "text", "md" -> TEXT;
        case "jsonl", "json" -> JSON;
        default -> null;
      };
    }
  }

  static FileDocuments at(Path data, String textField) {
    if (Files.isDirectory(data)) {
      return inFolder(data, textField);
    }
    RegularFile.require(data, "give a file or a folder with texts");
    String name = String.valueOf(data.getFileName());
    Format format = Format.of(name);
    if (format == null) {
      throw new InvalidInputException(
          "%s is of a kind that Sluice does not read; it reads %s.".formatted(data, READABLE));
    }
    return new FileDocuments(data, textField, List.of(new DataFile(data, name, format)), List.of());
  }

  /// Links are followed, since sets of data often consist of them.
  private static FileDocuments inFolder(Path folder, String textField) {
    List<DataFile> files = new ArrayList<>();
    List<String> others = new ArrayList<>();
    try {
      Files.walkFileTree(
          folder,
          Set.of(FileVisitOption.FOLLOW_LINKS),
          Integer.MAX_VALUE,
          new SimpleFileVisitor<>() {
            @Override
            public FileVisitResult preVisitDirectory(Path path, BasicFileAttributes attributes) {
              return hidden(path) ? FileVisitResult.SKIP_SUBTREE : FileVisitResult.CONTINUE;
            }

            @Override
            public FileVisitResult visitFile(Path path, BasicFileAttributes attributes) {
              if (hidden(path)) {
                return FileVisitResult.CONTINUE;
              }
              String name = String.join("/", parts(folder.relativize(path)));
              Format format = Format.of(name);
              if (format == null) {
                others.add(name);
              } else {
                RegularFile.require(path, "remove it, or put the file there");
                files.add(new DataFile(path, name, format));
              }
              return FileVisitResult.CONTINUE;
            }

            @Override
            public FileVisitResult visitFileFailed(Path path, IOException e) throws IOException {
              if (hidden(path)) {
                return FileVisitResult.CONTINUE;
              }
              throw e;
            }

            private boolean hidden(Path path) {
              return !path.equals(folder) && String.valueOf(path.getFileName()).startsWith(".");
            }
          });
    } catch (IOException e) {
      throw new InvalidInputException(
          "The folder %s cannot be read (%s); correct that, or give another."
              .formatted(folder, Failures.words(e)),
          e);
    }
    if (files.isEmpty()) {
      throw new InvalidInputException(
          "The folder %s has no file to read; Sluice reads %s.".formatted(folder, READABLE));
    }
    files.sort(Comparator.comparing(DataFile::name).thenComparing(DataFile::path));
    others.sort(Comparator.naturalOrder());
    return new FileDocuments(folder, textField, List.copyOf(files), List.copyOf(others));
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
            "%s cannot be read (%s); check its permissions."
                .formatted(file.path(), Failures.words(e)),
            e);
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
            "%s cannot be read (%s); check its permissions."
                .formatted(file.path(), Failures.words(e)),
            e);
      }
      parts.put(file.name(), Sha256.hex(digest));
    }
    return parts;
  }

  @Override
  public List<String> notes() {
    return others.isEmpty()
        ? List.of()
        : List.of(
            "Files of %s that are left out, as Sluice does not read their kind: %d, such as %s."
                .formatted(data, others.size(), others.getFirst()));
  }

  @Override
  public DocumentCursor open() {
    var remaining = files.iterator();
    return new DocumentCursor() {
      private @Nullable DocumentCursor file;
      private long brokenInClosed;

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
      public long broken() {
        return brokenInClosed + (file == null ? 0 : file.broken());
      }

      @Override
      public void close() {
        if (file != null) {
          brokenInClosed += file.broken();
          file.close();
          file = null;
        }
      }
    };
  }
}
