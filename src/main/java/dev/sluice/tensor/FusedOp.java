package dev.sluice.tensor;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Queue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.function.Supplier;
import org.bytedeco.javacpp.FunctionPointer;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.pytorch.GradMode;
import org.bytedeco.pytorch.PointerConsumer;
import org.bytedeco.pytorch.TensorBase;
import org.bytedeco.pytorch.TensorOptions;
import org.bytedeco.pytorch.TensorTensorHook;
import org.bytedeco.pytorch.VoidTensorHook;
import org.bytedeco.pytorch.global.torch;
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

  // The engine has taken these gradients over; they are let go at the next hook, since a hook
  // cannot free what it
  // returns.
  private static final ThreadLocal<Deque<Tensor>> TAKEN = ThreadLocal.withInitial(ArrayDeque::new);

  private FusedOp() {}

  /// Runs `forward` and, when an input requires a gradient and gradients are recorded, ties
  /// `backward` in.
  ///
  /// @param inputs the tensors that `backward` gives gradients for, each of at least one dimension
  /// @param saved the tensors that `backward` reads; they are kept alive until it has run, or until
  ///   the graph is dropped
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
    Pending.releaseDropped();
    var pending = new Pending(inputs, saved, backward);
    long[] noRows = y.shape();
    noRows[0] = 0;
    try (var _ = Scope.open()) {
      var index = Tensor.zeros(ElementType.INT64, 0).to(y.device());
      var token = pending.token();
      boolean tied = false;
      for (int i = 0; i < inputs.size(); i++) {
        var x = inputs.get(i).raw;
        if (!x.requires_grad()) {
          continue;
        }
        var alias = x.view_as(x);
        alias.register_hook(pending.replaceGradient(i));
        var edge = alias.narrow(0, 0, 0).reshape(noRows).to(y.raw.scalar_type());
        if (!tied) {
          edge = edge.add(token);
          tied = true;
        }
        y.raw.index_add_(0, index.raw, edge);
      }
    }
    y.raw.register_hook(pending.computeGradients());
    return y;
  }

  /// Frees what finished backward passes of this thread and dropped graphs still hold.
  static void releaseFinished() {
    releaseTaken();
    Pending.releaseDropped();
  }

  private static void releaseTaken() {
    var taken = TAKEN.get();
    while (!taken.isEmpty()) {
      taken.remove().close();
    }
  }

  /// What one forward pass keeps until its graph is gone.
  private static final class Pending {
    private static final Map<Long, Pending> BY_TOKEN = new ConcurrentHashMap<>();
    private static final Queue<Long> DROPPED = new ConcurrentLinkedQueue<>();

    /// Hears from libtorch, on whatever thread drops the last use, that a token is no longer held.
    private static final PointerConsumer NOTE_DROPPED =
        new PointerConsumer() {
          @Override
          public void call(Pointer token) {
            DROPPED.add(token.address());
          }
        };

    static {
      NOTE_DROPPED.retainReference(); // else the scope that happens to be open frees it
    }

    private final List<Tensor> saved;
    private final Backward backward;
    private final boolean[] wanted;
    private final @Nullable Tensor[] gradients;
    private final List<FunctionPointer> hooks = new ArrayList<>();
    private boolean ran;

    Pending(List<Tensor> inputs, List<Tensor> saved, Backward backward) {
      this.saved = new ArrayList<>(saved);
      this.backward = backward;
      this.wanted = new boolean[inputs.size()];
      for (int i = 0; i < wanted.length; i++) {
        wanted[i] = inputs.get(i).requiresGradient();
      }
      this.gradients = new @Nullable Tensor[wanted.length];
      saved.forEach(Tensor::retain);
    }

    static void releaseDropped() {
      Long address;
      // Letting go of saved tensors can drop the graph that they come from, which adds to the
      // queue.
      while ((address = DROPPED.poll()) != null) {
        var pending = Objects.requireNonNull(BY_TOKEN.remove(address));
        Pointer.free(new Token(address));
        pending.close();
      }
    }

    /// Memory that a token's number stands in.
    private static final class Token extends Pointer {
      Token(long address) {
        this.address = address;
      }
    }

    /// The graph's token; whoever ties it in holds this until the graph is dropped.
    org.bytedeco.pytorch.Tensor token() {
      var memory = Pointer.malloc(Float.BYTES);
      BY_TOKEN.put(memory.address(), this);
      var token =
          torch.from_blob(
              memory, new long[0], NOTE_DROPPED, new TensorOptions(torch.ScalarType.Float));
      token.zero_();
      token.set_requires_grad(true);
      return token;
    }

    VoidTensorHook computeGradients() {
      var hook =
          new VoidTensorHook() {
            @Override
            public void call(TensorBase upstream) {
              if (ran) {
                throw new IllegalStateException(
                    "the backward pass ran a second time over a graph; its saved tensors are"
                        + " freed");
              }
              ran = true;
              releaseTaken();
              try (var _ = Scope.withoutGradient()) {
                var given = new Tensor(new org.bytedeco.pytorch.Tensor(upstream)).contiguous();
                var result = backward.gradients(given);
                for (int i = 0; i < wanted.length; i++) {
                  if (wanted[i]) {
                    gradients[i] = result[i].retain();
                  }
                }
              } finally {
                releaseSaved();
              }
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

    private void close() {
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
