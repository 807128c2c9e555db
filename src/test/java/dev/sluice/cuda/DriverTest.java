package dev.sluice.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class DriverTest {
  @TempDir private Path folder;

  /// Calls a driver that says what it is asked, in a process of its own, as there the system's
  /// loader finds it.
  static final class Calls {
    public static void main(String[] ignored) {
      var driver = Driver.load();
      var card = driver.card(1);
      System.out.println(card.architecture());
      byte[] cubin = "cubin".getBytes(StandardCharsets.US_ASCII);
      var module = driver.module(card, cubin, "norm");
      var function = driver.function(card, module, "residual_norm");
      try (var arena = Arena.ofConfined()) {
        driver.launch(
            card,
            function,
            "residual_norm",
            new Launcher.Grid(123456, 96, 1024),
            MemorySegment.ofAddress(77),
            Arguments.of(arena, 5, 2.5f, 1L << 40, 0.125, null).pointers());
      }
      sayWhatIsWrong(() -> driver.card(3));
      sayWhatIsWrong(() -> driver.module(card, new byte[8], "norm"));
    }

    private static void sayWhatIsWrong(Runnable work) {
      try {
        work.run();
      } catch (InvalidInputException e) {
        System.out.println(e.getMessage());
      }
    }
  }

  @Test
  void theDriverIsAskedAsItsHeaderSays() throws IOException, InterruptedException {
    EmulatedLauncher.assumeThatItRuns();
    Path source = folder.resolve("driver.cpp");
    try (var in = DriverTest.class.getResourceAsStream("pretended_driver.cpp")) {
      Files.copy(in, source);
    }
    assertEquals(
        "",
        said(
            new ProcessBuilder(
                "g++",
                "-std=c++17",
                "-shared",
                "-fPIC",
                "-I/usr/local/cuda/include",
                "-o",
                folder.resolve("libcuda.so.1").toString(),
                source.toString())));
    var java =
        new ProcessBuilder(
            ProcessHandle.current().info().command().orElseThrow(),
            "--enable-native-access=ALL-UNNAMED",
            "--add-modules=jdk.incubator.vector",
            "-cp",
            System.getProperty("java.class.path"),
            Calls.class.getName());
    java.environment().put("LD_LIBRARY_PATH", folder.toString());
    var lines = said(java).lines().filter(line -> !line.startsWith("WARNING")).sorted().toList();
    assertEquals(
        List.of(
            "CUDA's driver cannot find the device 3: invalid device ordinal"
                + " (CUDA_ERROR_INVALID_DEVICE)",
            "CUDA's driver cannot load the kernels of norm: device kernel image is invalid"
                + " (CUDA_ERROR_INVALID_IMAGE)",
            "function residual_norm of 7",
            "init 0",
            "launch 8: 123456 1 1, 96 1 1, 1024 bytes, stream 77, arguments 5 2.50 1099511627776"
                + " 0.125 (nil), extra (nil)",
            "sm_90"),
        lines);
  }

  private static String said(ProcessBuilder builder) throws IOException, InterruptedException {
    var process = builder.redirectErrorStream(true).start();
    String said = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(0, process.waitFor(), said);
    return said;
  }

  /// Where there is no driver one sentence says so; where there is one it is loaded.
  @Test
  void aMissingDriverIsSaid() {
    try {
      Driver.load();
    } catch (InvalidInputException e) {
      assertEquals(1, e.getMessage().lines().count());
      assertTrue(
          e.getMessage().startsWith("libcuda.so.1 cannot be loaded")
              || e.getMessage().startsWith("CUDA's driver cannot be initialised: "),
          e.getMessage());
    }
  }

  /// On a card alone: a kernel runs after what libtorch has started, and before what it starts
  /// next.
  @Test
  void kernelsRunInOrderWithLibtorchs() {
    Assumptions.assumeTrue(TestedCard.isACard(), "only with -Dsluice.test.device=cuda");
    try (var _ = Scope.withoutGradient()) {
      var x = Tensor.zeros(ElementType.FLOAT32, 1 << 20).to(TestedCard.DEVICE);
      var factor = Tensor.of(new float[] {2}, 1).to(TestedCard.DEVICE);
      var launcher = new DriverLauncher();
      x.fill(1);
      for (int i = 0; i < 20; i++) {
        launcher.launch(
            KernelFamily.LOSS.kernel("scaled", ElementType.FLOAT32),
            Launcher.Grid.of(x.elements()),
            x,
            factor,
            x.elements());
        x.addInPlace(x, -0.5);
      }
      assertEquals(1, x.max().item());
    }
  }

  @Test
  void gridsThatNoCardRunsAreRefused() {
    for (var grid :
        new long[][] {{0, 32, 0}, {1L << 31, 32, 0}, {1, 33, 0}, {1, 2048, 0}, {1, 32, 1 << 16}}) {
      assertThrows(
          IllegalArgumentException.class,
          () -> new Launcher.Grid(grid[0], (int) grid[1], (int) grid[2]));
    }
  }
}
