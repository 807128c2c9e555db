package dev.sluice.tensor;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.Objects;
import java.util.function.Supplier;
import org.bytedeco.javacpp.FunctionPointer;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.pytorch.GradMode;
import org.bytedeco.pytorch.TensorBase;
import org.bytedeco.pytorch.TensorTensorHook;
import org.bytedeco.pytorch.VoidTensorHook;
import org.jspecify.annotations.Nullable;

/// Joins an operation with its own forward and backward to libtorch's automatic differentiation.
///
/// libtorch's `autograd::Function` cannot be subclassed from Java, but hooks can: the result is
/// computed without gradients; each input gets an alias that is tied to the result by an
/// `index_add_` of no rows, a no-op forwards and an edge backwards. A hook on the result receives
/// ∂L/∂y and computes all input gradients; a hook on each alias replaces the zeros that arrive
/// there by ours.
public final class FusedOp {
  /// What the backward pass computes: one gradient per input, in the inputs' order, shapes and
  /// element types.
  @FunctionalInterface
  public interface Backward {
    /// @param upstream ∂L/∂y, contiguous, of y's shape and element type
    Tensor[] gradients(Tensor upstream);
  }

  // Hooks and saved tensors of forward passes whose backward pass has not run yet; a pass runs on
  // one thread.
  private static final ThreadLocal<Deque<Pending>> PENDING =
      ThreadLocal.withInitial(ArrayDeque::new);

  // Gradients that the engine has taken over; they are let go at the next hook, since a hook cannot
  // free what it returns.
  private static final ThreadLocal<Deque<Tensor>> TAKEN = ThreadLocal.withInitial(ArrayDeque::new);

  private FusedOp() {}

  /// Runs `forward` and, when an input requires a gradient and gradients are recorded, ties
  /// `backward` in.
  ///
  /// @param inputs the tensors that `backward` gives gradients for, each of at least one dimension
  /// @param saved the tensors that `backward` reads; they are kept alive until it has run
  /// @param forward computes y; gradients are not recorded inside
  public static Tensor apply(
      List<Tensor> inputs, List<Tensor> saved, Supplier<Tensor> forward, Backward backward) {
    Tensor y;
    try (var scope = Scope.withoutGradient()) {
      y = scope.keep(forward.get());
    }
    if (!GradMode.is_enabled() || inputs.stream().noneMatch(Tensor::requiresGradient)) {
      return y;
    }
    var pending = new Pending(inputs.size(), saved, backward);
    PENDING.get().add(pending);
    long[] noRows = y.shape();
    noRows[0] = 0;
    try (var _ = Scope.open()) {
      var index = Tensor.zeros(ElementType.INT64, 0);
      var placed =
          y.isOnCpu() ? index : new Tensor(index.raw.to(y.raw.device(), index.raw.scalar_type()));
      for (int i = 0; i < inputs.size(); i++) {
        var x = inputs.get(i).raw;
        if (!x.requires_grad()) {
          continue;
        }
        var alias = x.view_as(x);
        alias.register_hook(pending.replaceGradient(i));
        var edge = alias.narrow(0, 0, 0).reshape(noRows).to(y.raw.scalar_type());
        y.raw.index_add_(0, placed.raw, edge);
      }
    }
    y.raw.register_hook(pending.computeGradients());
    return y;
  }

  /// Frees what finished (or abandoned) passes of this thread still hold.
  static void releaseHooks() {
    releaseTaken();
    var pending = PENDING.get();
    while (!pending.isEmpty()) {
      pending.remove().close();
    }
  }

  private static void releaseTaken() {
    var taken = TAKEN.get();
    while (!taken.isEmpty()) {
      taken.remove().close();
    }
  }

  private static final class Pending {
    private final List<Tensor> saved;
    private final Backward backward;
    private final @Nullable Tensor[] gradients;
    private final List<FunctionPointer> hooks = new ArrayList<>();

    Pending(int inputs, List<Tensor> saved, Backward backward) {
      this.saved = new ArrayList<>(saved);
      this.backward = backward;
      this.gradients = new @Nullable Tensor[inputs];
      saved.forEach(Tensor::retain);
    }

    VoidTensorHook computeGradients() {
      var hook =
          new VoidTensorHook() {
            @Override
            public void call(TensorBase upstream) {
              releaseTaken();
              try (var _ = Scope.withoutGradient()) {
                var given = new Tensor(new org.bytedeco.pytorch.Tensor(upstream)).contiguous();
                var result = backward.gradients(given);
                for (int i = 0; i < result.length; i++) {
                  gradients[i] = result[i].retain();
                }
              }
              releaseSaved();
            }
          };
      return hold(hook);
    }

    TensorTensorHook replaceGradient(int input) {
      var hook =
          new TensorTensorHook() {
            @Override
            public TensorBase call(TensorBase zeros) {
              var gradient = Objects.requireNonNull(gradients[input]);
              gradients[input] = null;
              TAKEN.get().add(gradient);
              return gradient.raw;
            }
          };
      return hold(hook);
    }

    private <H extends FunctionPointer> H hold(H hook) {
      hook.retainReference();
      hooks.add(hook);
      return hook;
    }

    private void releaseSaved() {
      saved.forEach(Tensor::close);
      saved.clear();
    }

    void close() {
      releaseSaved();
      for (Tensor gradient : gradients) {
        if (gradient != null) {
          gradient.close();
        }
      }
      hooks.forEach(Pointer::releaseReference);
    }
  }
}
