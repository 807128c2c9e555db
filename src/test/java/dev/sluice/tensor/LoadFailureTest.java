package dev.sluice.tensor;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/// Why a library or a card cannot be used: the first cause, and not what follows from it.
class LoadFailureTest {
  private static final String NONE = ": cannot open shared object file: No such file or directory";

  @TempDir private Path directory;

  /// The loader names a library that is there; what that one needs is missing.
  @Test
  void theLibraryThatIsMissingIsNamed() throws Exception {
    Path jni = directory.resolve("libjnitorch.so");
    Path cuda = Files.writeString(directory.resolve("libtorch_cuda.so"), "");
    Path linalg = Files.writeString(directory.resolve("libtorch_cuda_linalg.so"), "");
    String missing = linalg + ": libcudnn.so.9" + NONE;
    var said = Map.of(cuda, cuda + ": libtorch_cuda_linalg.so" + NONE, linalg, missing);
    assertEquals(missing, LoadFailure.reason(jni + ": libtorch_cuda.so" + NONE, said::get));
  }

  @Test
  void whatIsNotBesideIsTheReasonItself() {
    String said = directory.resolve("libjnitorch.so") + ": libnccl.so.2" + NONE;
    assertEquals(said, LoadFailure.reason(said, _ -> "not asked"));
    assertEquals(
        "no jnitorch in java.library.path",
        LoadFailure.reason("no jnitorch in java.library.path", _ -> "not asked"));
    Path loads = directory.resolve("libtorch_cuda.so");
    String loaded = directory.resolve("libjnitorch.so") + ": " + loads.getFileName() + NONE;
    assertEquals(loaded, LoadFailure.reason(loaded, _ -> null));
  }

  /// The loader's error stands behind one that says nothing.
  @Test
  void theFirstOfTheCausesIsTold() throws Exception {
    Path broken = Files.writeString(directory.resolve("libtorch_cuda.so"), "no library");
    var first =
        new UnsatisfiedLinkError(directory.resolve("libjnitorch.so") + ": libtorch_cuda.so" + NONE);
    var last = new UnsatisfiedLinkError("no jnitorch in java.library.path");
    last.initCause(first);
    String reason = LoadFailure.reason(last);
    assertTrue(reason.startsWith(broken + ": "), reason);
    String told = Libtorch.missing("libtorch", last).getMessage();
    assertTrue(told.contains(reason), told);
    assertEquals(1, told.lines().count());
  }

  @Test
  void aMachineWithoutDriverSaysSo() {
    assertEquals(
        "this machine has no CUDA driver, as libnone.so.1 cannot be opened",
        CudaDriver.complaint("libnone.so.1", 13030).orElseThrow());
  }

  @Test
  void aBuildWithoutCudaSaysSo() {
    var refused = assertThrows(InvalidInputException.class, () -> Device.parse("cuda:1"));
    assertEquals(
        "device 'cuda:1' is not available: this build has no CUDA libraries; build with"
            + " SLUICE_MAVEN_OPTIONS=-Pcuda; or use --device cpu",
        refused.getMessage());
  }
}
