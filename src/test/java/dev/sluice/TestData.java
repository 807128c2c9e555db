package dev.sluice;

import java.nio.file.Path;

/// Where tests find what they compare with.
public final class TestData {
  /// Small random checkpoints and what reference implementations answer for them.
  public static final Path GOLDEN = Path.of("src/test/resources/golden");

  /// Texts, curves and more checkpoints that may not be passed on with the repository. What reads
  /// them has the tag `shared`; the Maven profile of that name runs it.
  public static final Path SHARED = Path.of("../shared");

  private TestData() {}
}
