package dev.sluice.tensor;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import java.util.function.Supplier;
import org.bytedeco.pytorch.AutogradState;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/// Exceptions of C++ in a backward pass: they come out as exceptions, the process lives on and ends
/// with the code that it chooses. In a process of its own, as what is tested for is a crash.
class BackwardFailureTest {
  @TempDir private Path directory;

  /// Fails backwards again and again, in libtorch's own operations and in ours, and goes on.
  static final class Fails {
    public static void main(String[] none) {
      for (int i = 0; i < 20; i++) {
        expect("modified by an inplace operation", Fails::changedAfterwards);
        expect("must match the size", Fails::inAHook);
        try (var _ = Scope.open()) {
          var x = Tensor.of(new float[] {1, 2}, 2).requireGradient(true);
          x.square().sum().backward();
          var gradient = x.gradient();
          if (gradient == null || gradient.floats()[1] != 4) {
            throw new IllegalStateException("the engine does not go on");
          }
        }
      }
      System.out.println("went on");
      System.exit(1);
    }

    /// What the backward pass of eˣ reads was overwritten.
    private static Tensor changedAfterwards() {
      var x = Tensor.of(new float[3], 3).requireGradient(true);
      var y = x.times(1).exp();
      y.addInPlace(Tensor.of(new float[3], 3), 1);
      return y.sum();
    }

    /// An operation of ours calls libtorch backwards with shapes that do not fit; libtorch's own
    /// nodes stand before and after it.
    private static Tensor inAHook() {
      var x = Tensor.of(new float[3], 3).requireGradient(true);
      return FusedOp.apply(
              "test",
              List.of(x.times(2)),
              List.of(),
              () -> x.times(3),
              upstream -> new Tensor[] {upstream.plus(Tensor.of(new float[2], 2))})
          .times(4)
          .sum();
    }

    private static void expect(String words, Supplier<Tensor> loss) {
      try (var _ = Scope.open()) {
        loss.get().backward();
        throw new IllegalStateException("nothing was thrown");
      } catch (RuntimeException e) {
        if (!NativeCall.isNative(e) || !NativeCall.words(e).contains(words)) {
          throw e;
        }
      }
    }
  }

  @Test
  void theProcessEndsAsItWants() throws Exception {
    var process =
        new ProcessBuilder(
                ProcessHandle.current().info().command().orElseThrow(),
                "--enable-native-access=ALL-UNNAMED",
                "--add-modules=jdk.incubator.vector",
                "-Xmx256m",
                "-XX:ErrorFile=" + directory.resolve("crash"),
                "-cp",
                System.getProperty("java.class.path"),
                Fails.class.getName())
            .redirectErrorStream(true)
            .start();
    String said = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(1, process.waitFor(), said);
    assertTrue(said.contains("went on"), said);
    assertTrue(directory.resolve("crash").toFile().length() == 0, said);
  }

  /// For a device too libtorch's engine runs on the thread that asks: it starts no work on others,
  /// from which hooks would find neither scope nor exception.
  @Test
  void theEngineHasOneThread() {
    try (var _ = Scope.open()) {
      boolean[] several = {true};
      var threads = new Thread[1];
      var x = Tensor.of(new float[3], 3).requireGradient(true);
      FusedOp.apply(
              "test",
              List.of(x),
              List.of(),
              () -> x.times(3),
              upstream -> {
                threads[0] = Thread.currentThread();
                several[0] = AutogradState.get_tls_state().get_multithreading_enabled();
                return new Tensor[] {upstream.times(3)};
              })
          .sum()
          .backward();
      assertEquals(Thread.currentThread(), threads[0]);
      assertEquals(false, several[0]);
      assertTrue(AutogradState.get_tls_state().get_multithreading_enabled(), "given back");
    }
  }
}
