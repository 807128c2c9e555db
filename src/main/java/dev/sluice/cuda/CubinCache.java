package dev.sluice.cuda;

import dev.sluice.InvalidInputException;
import dev.sluice.files.Failures;
import dev.sluice.files.Sha256;
import dev.sluice.files.WholeFile;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.function.Supplier;

/// Machine code that was compiled once, in a folder. A file is named by all that decides its
/// content, and begins with the content's checksum: one that is not whole is compiled again.
///
/// @param folder made when something is kept
record CubinCache(Path folder) {
  private static final int CHECKSUM = 64;

  /// What was kept, else what `compile` gives, which is kept.
  ///
  /// @param name begins the file's name
  /// @param decisive what decides the content
  byte[] of(String name, List<String> decisive, Supplier<byte[]> compile) {
    var digest = Sha256.digest();
    decisive.forEach(text -> Sha256.update(digest, text));
    Path file = folder.resolve(name + "-" + Sha256.hex(digest) + ".cubin");
    try {
      if (Files.isRegularFile(file)) {
        byte[] bytes = Files.readAllBytes(file);
        if (isWhole(bytes)) {
          return Arrays.copyOfRange(bytes, CHECKSUM, bytes.length);
        }
      }
      byte[] cubin = compile.get();
      Files.createDirectories(folder);
      WholeFile.write(
          file,
          out -> {
            out.write(Sha256.hex(cubin).getBytes(StandardCharsets.US_ASCII));
            out.write(cubin);
          });
      return cubin;
    } catch (IOException e) {
      throw new InvalidInputException(
          "compiled CUDA kernels cannot be kept in %s (%s); name a folder that can be written with XDG_CACHE_HOME"
              .formatted(folder, Failures.words(e)),
          e);
    }
  }

  private static boolean isWhole(byte[] bytes) {
    return bytes.length > CHECKSUM
        && new String(bytes, 0, CHECKSUM, StandardCharsets.US_ASCII)
            .equals(Sha256.hex(Arrays.copyOfRange(bytes, CHECKSUM, bytes.length)));
  }
}
