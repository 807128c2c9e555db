package dev.sluice.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// A text after a short prompt on the CPU needs neither libtorch nor oneDNN: they are taken off the
/// class path.
class WithoutLibtorchTest {
  private static final Pattern NATIVE = Pattern.compile("(pytorch|openblas|dnnl)-.*-linux.*");

  @TempDir private Path directory;

  private String run(int code, Object... arguments) throws Exception {
    List<String> command = new ArrayList<>();
    command.add(ProcessHandle.current().info().command().orElseThrow());
    command.addAll(List.of("--enable-native-access=ALL-UNNAMED", "-XX:TieredStopAtLevel=1"));
    command.addAll(List.of("--add-modules=jdk.incubator.vector", "-Xmx256m", "-cp"));
    command.add(
        Arrays.stream(System.getProperty("java.class.path").split(File.pathSeparator))
            .filter(entry -> !NATIVE.matcher(Path.of(entry).getFileName().toString()).matches())
            .collect(Collectors.joining(File.pathSeparator)));
    command.add(Main.class.getName());
    Arrays.stream(arguments).map(String::valueOf).forEach(command::add);
    Path errors = directory.resolve("errors.txt");
    var process = new ProcessBuilder(command).redirectError(errors.toFile()).start();
    var out = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(code, process.waitFor(), () -> SluiceProcess.read(errors));
    return code == 0 ? out : SluiceProcess.read(errors);
  }

  /// A hybrid in blocks, and one in float32: the text that a process with libtorch writes. Its keys
  /// are moved to more room meanwhile.
  @ParameterizedTest
  @ValueSource(strings = {"samples/tiny-qwen35.gguf", "samples/tiny-chat"})
  void aTextIsWritten(String model) throws Exception {
    Object[] arguments = {"generate", model, "--prompt", "The whale", "--max-tokens", 70};
    String expected = Cli.run(arguments).out();
    assertTrue(expected.startsWith("The whale"), expected);
    assertEquals(expected, run(0, arguments));
  }

  /// A longer prompt's products are oneDNN's.
  @Test
  void whatIsMissedIsSaid() throws Exception {
    String prompt = "Call me Ishmael. ".repeat(12);
    String said = run(2, "generate", "samples/tiny-qwen35.gguf", "--prompt", prompt);
    assertTrue(said.contains("sluice: oneDNN cannot be loaded"), said);
  }
}
