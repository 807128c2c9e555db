package dev.sluice.tensor;

import java.util.Optional;
import org.bytedeco.pytorch.Stat;
import org.bytedeco.pytorch.cuda.CUDAAllocator;
import org.bytedeco.pytorch.global.torch_cuda;

/// Counts the memory of tensors on a device, in bytes.
public interface DeviceMemory {
  /// Of all that there are now.
  long held();

  /// The most of all at a time since [#begin].
  long peak();

  /// Begins to look for the most.
  void begin();

  /// What libtorch's allocator counts of a card, which is less than it keeps from the card: blocks
  /// of tensors that are gone are kept for later ones. Empty for the CPU, whose memory is the
  /// process's.
  static Optional<DeviceMemory> of(Device device) {
    return switch (device.kind()) {
      case CPU -> Optional.empty();
      case CUDA -> Optional.of(new OfCard((byte) device.index()));
    };
  }

  /// Through libtorch.
  ///
  /// @param index the device's
  record OfCard(byte index) implements DeviceMemory {
    @Override
    public long held() {
      try (var _ = Scope.open()) {
        return allocated().current();
      }
    }

    @Override
    public long peak() {
      try (var _ = Scope.open()) {
        return allocated().peak();
      }
    }

    @Override
    public void begin() {
      try (var _ = Scope.open()) {
        allocator().resetPeakStats(index);
      }
    }

    private static CUDAAllocator allocator() {
      return torch_cuda.getAllocator();
    }

    /// The first of several counts, which is of all.
    private Stat allocated() {
      return allocator().getDeviceStats(index).allocated_bytes();
    }
  }
}
