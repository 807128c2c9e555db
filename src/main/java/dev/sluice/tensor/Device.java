package dev.sluice.tensor;

import dev.sluice.InvalidInputException;
import org.bytedeco.pytorch.global.torch;

/// Where a tensor lives: the CPU, or one CUDA device.
public record Device(Kind kind, int index) {
  /// The kinds of device.
  public enum Kind {
    CPU,
    CUDA
  }

  public static final Device CPU = new Device(Kind.CPU, 0);

  public Device {
    if (index < 0 || (kind == Kind.CPU && index != 0)) {
      throw new InvalidInputException("no device has the index " + index);
    }
  }

  /// Reads `cpu`, `cuda`, `cuda:1` or `auto` (CUDA when this build and machine have it, else the
  /// CPU).
  public static Device parse(String text) {
    if (text.equals("cpu")) {
      return CPU;
    }
    if (text.equals("auto")) {
      return CudaDriver.isThere() && Libtorch.cudaAvailable() ? new Device(Kind.CUDA, 0) : CPU;
    }
    if (!text.matches("cuda(:\\d{1,3})?")) {
      throw new InvalidInputException(
          "unknown device '" + text + "'; use cpu, cuda, cuda:INDEX or auto");
    }
    if (!Libtorch.cudaAvailable()) {
      throw new InvalidInputException(
          "device '%s' is not available: %s; or use --device cpu"
              .formatted(text, Libtorch.whyNoCuda()));
    }
    int index = text.length() > 5 ? Integer.parseInt(text.substring(5)) : 0;
    if (index >= Libtorch.cudaDevices()) {
      throw new InvalidInputException(
          "device '%s' is not there: the driver shows %d, counted from 0"
              .formatted(text, Libtorch.cudaDevices()));
    }
    return new Device(Kind.CUDA, index);
  }

  @Override
  public String toString() {
    return kind == Kind.CPU ? "cpu" : "cuda:" + index;
  }

  org.bytedeco.pytorch.Device raw() {
    Libtorch.load();
    return new org.bytedeco.pytorch.Device(
        kind == Kind.CPU ? torch.DeviceType.CPU : torch.DeviceType.CUDA, (byte) index);
  }
}
