package dev.sluice.tensor;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.tensor.MatrixProduct.Matrix;
import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/// Native libraries that cannot be loaded: the same sentence at each use, in processes of their
/// own.
class MissingLibraryTest {
  @TempDir private Path directory;

  /// Each use prints the exception that it throws.
  static final class Uses {
    public static void main(String[] libraries) {
      for (int i = 0; i < 2; i++) {
        switch (libraries[0]) {
          case "libtorch" -> {
            print(() -> Tensor.zeros(ElementType.FLOAT32, 1).exp());
            print(() -> Tensor.of(new float[2], 2).times(2));
            print(() -> Tensor.of(new long[2], 2).to(ElementType.INT32));
            print(Uses::inScope);
            print(() -> Tensor.zeros(ElementType.FLOAT32, 1).requireGradient(true));
            print(Libtorch::threads);
          }
          case "nothing" -> {
            print(() -> Libtorch.threads(1));
            print(() -> Tensor.zeros(ElementType.FLOAT32, 3).memory().fill((byte) 1));
            print(Uses::plain);
          }
          default -> print(Uses::product);
        }
      }
      System.exit(0);
    }

    private static void inScope() {
      try (var scope = Scope.withoutGradient()) {
        var x = scope.keep(Tensor.of(new float[] {1, 2, 3, 4}, 2, 2));
        x.transpose(0, 1).exp();
      }
    }

    private static void plain() {
      try (var scope = Scope.withoutGradient()) {
        var x = scope.keep(Tensor.of(new float[] {1, 2, 3, 4}, 2, 2));
        var y = Tensor.concatenate(List.of(x.narrow(0, 1, 1).detach(), x), 0).plus(1);
        if (y.reshape(6).narrow(0, 1, 2).floats()[0] != 5 || x.requiresGradient()) {
          throw new AssertionError(y);
        }
      }
    }

    private static void product() {
      var x = Matrix.of(Tensor.of(new float[4], 2, 2));
      MatrixProduct.split(x, x, Matrix.of(Tensor.of(new float[4], 2, 2)), false);
    }

    private static void print(Runnable use) {
      try {
        use.run();
        System.out.println("nothing");
      } catch (Throwable e) {
        System.out.println(e.getClass().getName() + ": " + e.getMessage());
      }
    }
  }

  private static String classPathWithout(String jar) {
    var without = Pattern.compile(jar);
    return Arrays.stream(System.getProperty("java.class.path").split(File.pathSeparator))
        .filter(entry -> !without.matcher(Path.of(entry).getFileName().toString()).matches())
        .collect(Collectors.joining(File.pathSeparator));
  }

  private static List<String> uses(String library, String classPath, String... flags)
      throws IOException, InterruptedException {
    List<String> command = new ArrayList<>();
    command.add(ProcessHandle.current().info().command().orElseThrow());
    command.addAll(List.of("--enable-native-access=ALL-UNNAMED", "-XX:TieredStopAtLevel=1"));
    command.addAll(List.of("--add-modules=jdk.incubator.vector", "-Xmx256m"));
    command.addAll(List.of(flags));
    command.addAll(List.of("-cp", classPath, Uses.class.getName(), library));
    var process =
        new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.DISCARD).start();
    var lines =
        new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8)
            .lines()
            .toList();
    assertEquals(0, process.waitFor());
    assertFalse(lines.isEmpty());
    return lines;
  }

  private static void assertSaid(List<String> lines, String library, String reason) {
    for (String line : lines) {
      assertTrue(
          line.startsWith(InvalidInputException.class.getName() + ": " + library + " cannot"),
          line);
      assertTrue(line.contains("linux-x86_64"), line);
      assertTrue(line.contains(reason), line);
    }
  }

  @Test
  void libtorchIsNotThere() throws Exception {
    assertSaid(uses("libtorch", classPathWithout("pytorch-.*-linux.*")), "libtorch", "jnitorch");
  }

  /// Tensors are memory until an operation of libtorch's own is asked for.
  @Test
  void libtorchIsNotMissedWhereItIsNotAskedFor() throws Exception {
    for (String line : uses("nothing", classPathWithout("(pytorch|openblas|dnnl)-.*-linux.*"))) {
      assertEquals("nothing", line);
    }
  }

  @Test
  void oneDnnIsNotThere() throws Exception {
    assertSaid(uses("oneDNN", classPathWithout("dnnl-.*")), "oneDNN", "libdnnl.so.3");
  }

  /// Libraries are unpacked before they are loaded.
  @Test
  void oneDnnCannotBeLoadedFromWhereItIs() throws Exception {
    Path broken = directory.resolve("org/bytedeco/dnnl/linux-x86_64/libdnnl.so.3");
    Files.createDirectories(broken.getParent());
    Files.writeString(broken, "no library");
    assertSaid(
        uses(
            "oneDNN",
            directory + File.pathSeparator + classPathWithout("dnnl-.*"),
            "-Dorg.bytedeco.javacpp.cachedir=" + directory.resolve("cache")),
        "oneDNN",
        "libdnnl.so.3");
  }

  @Test
  void nothingCanBeUnpacked() throws Exception {
    Path file = Files.writeString(directory.resolve("file"), "");
    assertSaid(
        uses(
            "libtorch",
            System.getProperty("java.class.path"),
            "-Dorg.bytedeco.javacpp.cachedir=" + file.resolve("cache"),
            "-Duser.home=" + file.resolve("home"),
            "-Djava.io.tmpdir=" + file.resolve("tmp")),
        "libtorch",
        "org.bytedeco.javacpp.cachedir");
  }
}
