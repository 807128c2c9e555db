package dev.sluice.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/// That the kernels compile for cards, which needs none: by `nvcc`, and by NVRTC, where this
/// machine has them.
class KernelSourcesTest {
  /// Ampere, Hopper, Blackwell.
  private static final List<String> ARCHITECTURES = List.of("sm_80", "sm_90", "sm_100");

  /// The names of functions in machine code.
  private static final Pattern SECTION = Pattern.compile("\\.text\\.(\\w+)");

  @TempDir private Path folder;

  private static void assertHasAllKernels(Collection<String> kernels, byte[] cubin) {
    var found = new TreeSet<String>();
    var names = SECTION.matcher(new String(cubin, StandardCharsets.ISO_8859_1));
    while (names.find()) {
      found.add(names.group(1));
    }
    assertEquals(new TreeSet<>(kernels), found);
  }

  /// All families in one text, as a start of `nvcc` takes longer than a family, and all
  /// architectures side by side. No register may overflow into memory.
  @Test
  void nvccTakesThem() throws IOException, InterruptedException {
    Assumptions.assumeTrue(
        EmulatedLauncher.runs("nvcc", "--version"),
        "the CUDA kernels are not compiled for cards here: there is no nvcc");
    var text = new StringBuilder(KernelFamily.text("common.cuh"));
    var kernels = new ArrayList<String>();
    for (var family : KernelFamily.values()) {
      text.append(KernelFamily.text(family.word() + ".cu"));
      kernels.addAll(family.kernels());
    }
    Path source = Files.writeString(folder.resolve("all.cu"), text);
    Map<String, Process> running = new LinkedHashMap<>();
    for (String architecture : ARCHITECTURES) {
      var command =
          List.of(
              "nvcc",
              "-std=c++17",
              "-arch=" + architecture,
              "-cubin",
              "-Werror=all-warnings",
              "-Wno-deprecated-gpu-targets",
              "-Xptxas=-warn-spills,-Werror",
              "-o",
              folder.resolve(architecture).toString(),
              source.toString());
      running.put(
          architecture,
          new ProcessBuilder(command)
              .redirectErrorStream(true)
              .redirectOutput(folder.resolve(architecture + ".txt").toFile())
              .start());
    }
    for (var each : running.entrySet()) {
      int code = each.getValue().waitFor();
      assertEquals("", Files.readString(folder.resolve(each.getKey() + ".txt")), each.getKey());
      assertEquals(0, code, each.getKey());
      assertHasAllKernels(kernels, Files.readAllBytes(folder.resolve(each.getKey())));
    }
  }

  private static Nvrtc nvrtc() {
    Nvrtc found = found();
    Assumptions.assumeTrue(
        found != null,
        "the CUDA kernels are not compiled by NVRTC here: there is none; mvn -Pcuda brings it");
    return found;
  }

  private static @Nullable Nvrtc found() {
    try {
      return Nvrtc.load();
    } catch (InvalidInputException e) {
      assertTrue(e.getMessage().startsWith("libnvrtc.so.13 or"), e.getMessage());
      return null;
    }
  }

  @ParameterizedTest
  @EnumSource
  void nvrtcTakesThem(KernelFamily family) {
    var nvrtc = nvrtc();
    for (String architecture : ARCHITECTURES) {
      var compiled = nvrtc.compile(family, architecture);
      assertEquals("", compiled.log());
      assertHasAllKernels(family.kernels(), compiled.cubin());
    }
  }

  @Test
  void anUnknownCardIsSaid() {
    var nvrtc = nvrtc();
    String said =
        assertThrows(InvalidInputException.class, () -> nvrtc.compile(KernelFamily.SWIGLU, "sm_20"))
            .getMessage();
    assertTrue(said.contains("swiglu.cu for sm_20"), said);
    assertTrue(said.contains("leave swiglu out of SLUICE_CUDA_KERNELS"), said);
    assertEquals(1, said.lines().count(), said);
  }

  @Test
  void kernelsThatAreNotThereAreRefused() {
    assertThrows(IllegalArgumentException.class, () -> KernelFamily.GATE.kernel("adamw"));
    assertThrows(IllegalArgumentException.class, () -> KernelFamily.GATE.kernel("gate_forward"));
  }
}
