package dev.sluice.cuda;

import dev.sluice.tensor.CudaStream;
import dev.sluice.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/// Starts kernels on a card, on the stream that libtorch's operations run on. A family is compiled
/// for the card's architecture when one of its kernels is first wanted.
public final class DriverLauncher implements Launcher {
  private static volatile @Nullable Path folder;

  private record Loaded(KernelFamily family, int device) {}

  private final Driver driver = Driver.load();
  private @Nullable Nvrtc compiler;
  private final Map<Integer, Driver.Card> cards = new HashMap<>();
  private final Map<Loaded, Map<String, MemorySegment>> functions = new HashMap<>();

  /// Where compiled kernels are kept from one process to the next; nowhere if nobody says.
  public static void keepIn(Path cache) {
    folder = cache;
  }

  @Override
  public void launch(Kernel kernel, Grid grid, @Nullable Object... arguments) {
    int device = device(arguments);
    try (var arena = Arena.ofConfined()) {
      driver.launch(
          card(device),
          function(kernel, device),
          kernel.name(),
          grid,
          CudaStream.current(device),
          Arguments.of(arena, arguments).pointers());
    }
  }

  private static int device(@Nullable Object... arguments) {
    for (var argument : arguments) {
      if (argument instanceof Tensor tensor) {
        return tensor.device().index();
      }
    }
    throw new IllegalArgumentException("a kernel without tensors has no device");
  }

  private synchronized Driver.Card card(int device) {
    return cards.computeIfAbsent(device, driver::card);
  }

  private synchronized MemorySegment function(Kernel kernel, int device) {
    var loaded = new Loaded(kernel.family(), device);
    var all = functions.get(loaded);
    if (all == null) {
      all = load(kernel.family(), card(device));
      functions.put(loaded, all);
    }
    return Objects.requireNonNull(all.get(kernel.name()));
  }

  private Map<String, MemorySegment> load(KernelFamily family, Driver.Card card) {
    var module = driver.module(card, cubin(family, card.architecture()), family.word());
    Map<String, MemorySegment> all = new HashMap<>();
    for (String name : family.kernels()) {
      all.put(name, driver.function(card, module, name));
    }
    return all;
  }

  private byte[] cubin(KernelFamily family, String architecture) {
    if (compiler == null) {
      compiler = Nvrtc.load();
    }
    var nvrtc = compiler;
    var cache = folder;
    if (cache == null) {
      return nvrtc.compile(family, architecture).cubin();
    }
    return new CubinCache(cache)
        .of(
            family.word() + "-" + architecture,
            List.of(
                family.source(), architecture, nvrtc.version(), String.join(" ", nvrtc.options())),
            () -> nvrtc.compile(family, architecture).cubin());
  }
}
