package dev.sluice.tensor;

import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
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
  private final @Nullable Boolean gradient;
  private final List<Tensor> tensors = new ArrayList<>();

  // what libtorch's objects need, once it is loaded
  private @Nullable PointerScope pointers;
  private @Nullable AutoGradMode gradientMode;

  /// @param gradient whether gradients are recorded; null as in the enclosing scope
  private Scope(@Nullable Boolean gradient) {
    this.enclosing = INNERMOST.get();
    this.gradient = gradient;
    if (Libtorch.isLoaded()) {
      reachLibtorch();
    }
    INNERMOST.set(this);
  }

  /// Lets what this thread makes of libtorch's objects live as long as the scopes that are open,
  /// and record gradients as they say.
  static void reach() {
    var innermost = INNERMOST.get();
    if (innermost != null) {
      innermost.reachLibtorch();
    }
  }

  private void reachLibtorch() {
    if (pointers == null) {
      if (enclosing != null) {
        enclosing.reachLibtorch();
      }
      pointers = new PointerScope();
      gradientMode = gradient == null ? null : new AutoGradMode(gradient);
    }
  }

  /// Lets a tensor in memory of our own live until the innermost scope closes.
  static void attach(Tensor tensor) {
    Objects.requireNonNull(INNERMOST.get()).tensors.add(tensor.retain());
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
    if (tensor.isHost()) {
      enclosing.tensors.add(tensor.retain());
      return tensor;
    }
    enclosing.reachLibtorch();
    var outer = Objects.requireNonNull(enclosing.pointers);
    outer.attach(tensor.raw());
    if (tensor.origin != null) {
      outer.attach(tensor.origin.knot);
    }
    return tensor;
  }

  @Override
  public void close() {
    if (INNERMOST.get() != this) {
      throw new IllegalStateException("scopes must be closed in reverse order of opening");
    }
    tensors.forEach(Tensor::close);
    if (pointers != null) {
      if (gradientMode != null) {
        gradientMode.close();
      }
      pointers.close();
    }
    INNERMOST.set(enclosing);
  }
}
