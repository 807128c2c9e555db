package dev.sluice.tensor;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import org.bytedeco.javacpp.Loader;
import org.jspecify.annotations.Nullable;

/// Native libraries that a preset's jar brings, unpacked where JavaCPP unpacks its own.
public final class ClassPathLibrary {
  private ClassPathLibrary() {}

  /// The unpacked file, or null where the class path has none.
  ///
  /// @param preset such as `cuda`
  /// @param file such as `libnvrtc.so.13`
  public static @Nullable Path of(String preset, String file) {
    Libtorch.settleJavaCpp();
    try {
      var unpacked =
          Loader.cacheResource(
              ClassPathLibrary.class,
              "/org/bytedeco/" + preset + "/" + Loader.getPlatform() + "/" + file);
      return unpacked == null ? null : unpacked.toPath();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
