package dev.sluice.cuda;

/// A function that a device runs in many threads.
///
/// @param name in the family's source
public record Kernel(KernelFamily family, String name) {
  public Kernel {
    if (!family.kernels().contains(name)) {
      throw new IllegalArgumentException(
          "there is no kernel '" + name + "' in " + family.word() + ".cu");
    }
  }
}
