package dev.sluice.serving;

import dev.sluice.checkpoint.SafetensorsDirectory;
import dev.sluice.files.Sha256;
import dev.sluice.gguf.GgufFile;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.BasicFileAttributes;
import java.nio.file.attribute.FileTime;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// The files of weights that are read in place for as long as a model runs. What is written over
/// them, as `cp` does, is another model from one token to the next, or the end of the program; a
/// file that takes the place of one, as `mv` puts it, changes nothing.
public final class FilesInPlace {
  /// Where nothing is read in place.
  public static final FilesInPlace NONE = new FilesInPlace(List.of());

  private final List<Open> files;

  /// One file as it was.
  private static final class Open {
    private final Path path;
    private final @Nullable Object key;
    private final long size;
    private final String samples;
    private volatile FileTime time;

    Open(Path path) throws IOException {
      var attributes = Files.readAttributes(path, BasicFileAttributes.class);
      this.path = path;
      this.key = attributes.fileKey();
      this.size = attributes.size();
      this.time = attributes.lastModifiedTime();
      this.samples = samples(path);
    }

    boolean isChanged() {
      try {
        var now = Files.readAttributes(path, BasicFileAttributes.class);
        if (key != null && !key.equals(now.fileKey())) {
          return false;
        }
        if (now.size() != size) {
          return true;
        }
        if (!now.lastModifiedTime().equals(time)) {
          if (!samples(path).equals(samples)) {
            return true;
          }
          time = now.lastModifiedTime();
        }
        return false;
      } catch (IOException _) {
        return false; // it has no name any more, and what is open stays
      }
    }

    private static String samples(Path path) throws IOException {
      var digest = Sha256.digest();
      Sha256.updateSampled(digest, path);
      return Sha256.hex(digest);
    }
  }

  private FilesInPlace(List<Open> files) {
    this.files = files;
  }

  /// Those of a checkpoint's directory or of a GGUF file with its other parts, as they are now.
  public static FilesInPlace of(Path checkpoint) {
    try {
      var files = new ArrayList<Open>();
      for (Path path : paths(checkpoint)) {
        files.add(new Open(path));
      }
      return new FilesInPlace(files);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private static List<Path> paths(Path checkpoint) {
    if (Files.isDirectory(checkpoint)) {
      return SafetensorsDirectory.files(checkpoint);
    }
    try (var file = GgufFile.open(checkpoint)) {
      return file.files();
    }
  }

  /// @throws RefusedException if one was written over since
  public void requireUnchanged() {
    for (var file : files) {
      if (file.isChanged()) {
        throw RefusedException.ending(
            "%s was written over while the model runs; begin anew"
                .formatted(file.path.getFileName()));
      }
    }
  }
}
