package dev.sluice.corpus;

import dev.sluice.InvalidInputException;
import dev.sluice.files.Sha256;
import java.io.IOException;
import java.io.InputStream;
import java.io.StringReader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Objects;
import java.util.SequencedMap;
import java.util.zip.GZIPInputStream;
import org.jspecify.annotations.Nullable;

/// A source of documents that can be walked any number of times, always in the same order.
public interface Documents {
  /// What messages call the source.
  String name();

  /// SHA-256 over the names and contents: equal fingerprints mean equal documents.
  String fingerprint();

  /// SHA-256 of each file's content, or each document's, by its name, in order: so that what
  /// changed can be named.
  SequencedMap<String, String> parts();

  DocumentCursor open();

  /// What the user should know of the choice of documents, such as files that were left out.
  default List<String> notes() {
    return List.of();
  }

  /// A file, or all files in a folder and below, hidden ones left out, in the order of their names:
  ///
  /// - `.txt`, `.text`, `.md`: one document a file;
  /// - `.jsonl`, `.json`: JSON objects, one a line or in one array, whose `textField` is the
  ///   document; or strings, which are documents;
  /// - `.parquet`: the string column `textField`.
  ///
  /// All but Parquet may end in `.gz` or `.zst` as well. `meta.text` is the field or column of that
  /// name, or else `text` within `meta`.
  ///
  /// @throws InvalidInputException here or while reading, if something is missing, unreadable,
  ///   damaged, not text, or without the field
  static Documents at(Path data, String textField) {
    return FileDocuments.at(data, textField);
  }

  /// Melville's *Moby-Dick*, 1.2 MB, which comes with Sluice.
  static Documents mobyDick() {
    return of("Moby-Dick", List.of(bundledBook()));
  }

  /// The [BigramBackcopy] task, made from that book.
  ///
  /// @param length characters of a document, at least 2
  static BigramBackcopy bigramBackcopy(int length) {
    return new BigramBackcopy(length, bundledBook());
  }

  private static String bundledBook() {
    try (InputStream resource =
            Objects.requireNonNull(
                Documents.class.getResourceAsStream("/dev/sluice/data/moby-dick.txt.gz"));
        InputStream text = new GZIPInputStream(resource)) {
      return new String(text.readAllBytes(), StandardCharsets.UTF_8);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /// Documents in memory, named `name:1`, `name:2`, …
  static Documents of(String name, List<String> texts) {
    List<String> copy = List.copyOf(texts);
    return new Documents() {
      @Override
      public String name() {
        return name;
      }

      @Override
      public String fingerprint() {
        MessageDigest digest = Sha256.digest();
        Sha256.update(digest, name);
        copy.forEach(text -> Sha256.update(digest, text));
        return Sha256.hex(digest);
      }

      @Override
      public SequencedMap<String, String> parts() {
        var parts = new LinkedHashMap<String, String>();
        for (int i = 0; i < copy.size(); i++) {
          MessageDigest digest = Sha256.digest();
          Sha256.update(digest, copy.get(i));
          parts.put(name + ":" + (i + 1), Sha256.hex(digest));
        }
        return parts;
      }

      @Override
      public DocumentCursor open() {
        Iterator<String> remaining = copy.iterator();
        return new DocumentCursor() {
          private int number;

          @Override
          public @Nullable Document next() {
            return remaining.hasNext()
                ? new Document(name + ":" + ++number, new StringReader(remaining.next()))
                : null;
          }

          @Override
          public void close() {}
        };
      }
    };
  }
}
