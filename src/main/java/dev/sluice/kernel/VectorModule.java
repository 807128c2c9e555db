package dev.sluice.kernel;

/// The Vector API's module, which a virtual machine resolves only if it is asked to.
///
/// `--add-modules jdk.incubator.vector` asks for it at the start, which prints a warning before
/// anything of ours runs and forbids profiles in the cache for a fast start. The launcher opens the
/// JDK's own way of adding one of its modules later instead, which does neither; see
/// `docs/decisions/0017-the-vector-module-is-loaded-late.md`.
final class VectorModule {
  private static final String NAME = "jdk.incubator.vector";

  private VectorModule() {}

  /// The kernels with the Vector API where the module is there, else the definition.
  static Kernels kernels() {
    var log = System.getLogger(Kernels.class.getName());
    if (!load()) {
      log.log(
          System.Logger.Level.WARNING,
          "Slow kernels: start Java with --add-modules jdk.incubator.vector for the fast ones.");
      return new ScalarKernels();
    }
    log.log(System.Logger.Level.DEBUG, "Vector kernels.");
    return new VectorKernels();
  }

  /// Whether the module is there; adds it where the JDK lets us.
  private static boolean load() {
    if (ModuleLayer.boot().findModule(NAME).isPresent()) {
      return true;
    }
    try {
      var modules = Class.forName("jdk.internal.module.Modules");
      return modules.getMethod("loadModule", String.class).invoke(null, NAME) != null;
    } catch (ReflectiveOperationException e) {
      return false; // started without the launcher's options, or by a JDK that has no such method
    }
  }
}
