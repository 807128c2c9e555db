package dev.sluice.tensor;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.function.Function;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;

/// Why a native library could not be loaded: of the errors that follow from one another the first.
///
/// A loader says that the last library is not there, though it is: what that one needs is missing.
/// So libraries that are said to be missing are looked for beside the one that needs them, and
/// asked themselves.
final class LoadFailure {
  private static final Pattern NOT_THERE =
      Pattern.compile("(\\S+): (\\S+): cannot open shared object file.*");

  /// Libraries that need one another.
  private static final int MOST = 16;

  private LoadFailure() {}

  static String reason(Throwable failure) {
    var first = failure;
    for (int i = 0; i < MOST && first.getCause() != null; i++) {
      first = first.getCause();
    }
    return reason(line(first), LoadFailure::load);
  }

  /// @param said by the loader
  /// @param load tries to load a file and gives what the loader says, or null where it is loaded
  static String reason(String said, Function<Path, @Nullable String> load) {
    String reason = said;
    for (int i = 0; i < MOST; i++) {
      var missing = NOT_THERE.matcher(reason);
      if (!missing.matches()) {
        return reason;
      }
      var beside = Path.of(missing.group(1)).resolveSibling(missing.group(2));
      String own = Files.exists(beside) ? load.apply(beside) : null;
      if (own == null || own.equals(reason)) {
        return reason;
      }
      reason = own;
    }
    return reason;
  }

  @SuppressWarnings("restricted")
  private static @Nullable String load(Path library) {
    try {
      System.load(library.toAbsolutePath().toString());
      return null;
    } catch (UnsatisfiedLinkError e) {
      return line(e);
    }
  }

  private static String line(Throwable e) {
    return String.valueOf(e.getMessage()).lines().findFirst().orElse("");
  }
}
