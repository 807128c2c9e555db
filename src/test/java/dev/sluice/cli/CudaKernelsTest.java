package dev.sluice.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.cuda.KernelFamily;
import java.nio.file.Path;
import java.util.EnumSet;
import java.util.Map;
import org.junit.jupiter.api.Test;

class CudaKernelsTest {
  @Test
  void familiesAreLeftOutByName() {
    assertEquals(EnumSet.noneOf(KernelFamily.class), CudaKernels.named(""));
    assertEquals(EnumSet.allOf(KernelFamily.class), CudaKernels.named("all"));
    assertEquals(EnumSet.of(KernelFamily.GATE, KernelFamily.NORM), CudaKernels.named("gate, norm"));
    for (String wrong : new String[] {"gates", "GATE", "gate,", "all,gate", " "}) {
      String said =
          assertThrows(InvalidInputException.class, () -> CudaKernels.named(wrong)).getMessage();
      assertTrue(said.startsWith("SLUICE_CUDA_KERNELS names the unknown CUDA kernels '"), said);
      assertTrue(said.contains("gate, norm, heads, swiglu, loss, optimizer, delta, and all"), said);
    }
  }

  @Test
  void kernelsAreKeptInTheUsersCache() {
    assertEquals(
        Path.of("/cache/sluice/cuda"), CudaKernels.folder(Map.of("XDG_CACHE_HOME", "/cache")));
    Path home = Path.of(System.getProperty("user.home"), ".cache", "sluice", "cuda");
    assertEquals(home, CudaKernels.folder(Map.of()));
    assertEquals(home, CudaKernels.folder(Map.of("XDG_CACHE_HOME", "not/absolute")));
  }
}
