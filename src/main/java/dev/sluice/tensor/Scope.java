package dev.sluice.tensor;

import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.AutoGradMode;
import org.jspecify.annotations.Nullable;

/// A lexical lifetime: every tensor made while a scope is open is freed when it closes, except
/// those handed to the enclosing scope with [#keep]. Scopes nest per thread and are closed in
/// reverse order.
///
/// ```java
/// try (var scope = Scope.open()) {
///   return scope.keep(x.plus(y).sigmoid());
/// }
/// ```
public final class Scope implements AutoCloseable {
  private static final ThreadLocal<@Nullable Scope> INNERMOST = new ThreadLocal<>();

  private final @Nullable Scope enclosing;
  private final PointerScope pointers;
  private final @Nullable AutoGradMode gradientMode;

  /// @param gradient whether gradients are recorded; null as in the enclosing scope
  private Scope(@Nullable Boolean gradient) {
    Libtorch.load();
    this.enclosing = INNERMOST.get();
    this.pointers = new PointerScope();
    this.gradientMode = gradient == null ? null : new AutoGradMode(gradient);
    INNERMOST.set(this);
  }

  static boolean isOpen() {
    return INNERMOST.get() != null;
  }

  /// Opens a scope.
  public static Scope open() {
    return new Scope(null);
  }

  /// Opens a scope in which no gradients are recorded.
  public static Scope withoutGradient() {
    return new Scope(false);
  }

  /// Opens a scope in which gradients are recorded, inside a backward pass too.
  public static Scope withGradient() {
    return new Scope(true);
  }

  /// Hands a tensor to the enclosing scope; without one, the caller owns it and must close it.
  public Tensor keep(Tensor tensor) {
    if (enclosing == null) {
      return tensor.retain();
    }
    enclosing.pointers.attach(tensor.raw);
    if (tensor.origin != null) {
      enclosing.pointers.attach(tensor.origin.knot);
    }
    return tensor;
  }

  @Override
  public void close() {
    if (INNERMOST.get() != this) {
      throw new IllegalStateException("scopes must be closed in reverse order of opening");
    }
    if (gradientMode != null) {
      gradientMode.close();
    }
    pointers.close();
    INNERMOST.set(enclosing);
  }
}
