package dev.sluice.tensor;

import java.lang.foreign.MemorySegment;
import org.bytedeco.pytorch.global.torch;

/// The stream that libtorch starts its operations on.
public final class CudaStream {
  private CudaStream() {}

  /// This thread's on a device, as CUDA's driver takes it.
  public static MemorySegment current(int device) {
    try (var _ = Scope.open()) {
      var stream = torch.getCurrentStream((byte) device);
      return stream.id() == 0 // the default stream, which has no handle
          ? MemorySegment.NULL
          : MemorySegment.ofAddress(stream.native_handle().address());
    }
  }
}
