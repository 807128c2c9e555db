package dev.sluice.tensor;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Queue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.function.BiConsumer;
import java.util.function.Consumer;
import java.util.function.Supplier;
import org.bytedeco.javacpp.FunctionPointer;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.pytorch.AutogradState;
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
/// libtorch's `autograd::Function` cannot be subclassed from Java, but hooks can. The results are
/// computed without gradients and then tied to a knot, a tensor without elements that depends on
/// the inputs, by an `index_add_` of no rows: a no-op forwards and an edge backwards. A hook on
/// each result notes the ∂L/∂y that libtorch's operations send; a hook on the knot, which the
/// engine runs when everything that uses the results is done, computes all input gradients.
///
/// Where an input is itself the result of a fused operation, the knot depends on that operation's
/// knot, and the gradient is handed over directly. Any other input gets an alias, and a hook on it
/// replaces the zeros that arrive there by our gradient.
///
/// Gradients of weights take no edge: the backward pass adds them where they belong, see
/// [#gradientOf].
public final class FusedOp {
  /// What the backward pass of an operation with one result computes: one gradient per input, in
  /// the inputs' order, shapes and element types.
  @FunctionalInterface
  public interface Backward {
    /// @param upstream ∂L/∂y, contiguous, of y's shape and element type
    Tensor[] gradients(Tensor upstream);
  }

  /// [Backward] of an operation with several results.
  @FunctionalInterface
  public interface BackwardOfAll {
    /// @param upstreams for each result ∂L/∂y, contiguous, of y's shape and element type; null for
    ///   a result that the loss does not depend on
    Tensor[] gradients(List<@Nullable Tensor> upstreams);
  }

  /// What a forward pass leaves.
  ///
  /// @param outputs the results
  /// @param saved the tensors that `backward` reads, kept alive until it has run or until the graph
  ///   is dropped; of a result only its [Tensor#detach], else the graph would hold itself
  public record Forward(List<Tensor> outputs, List<Tensor> saved, BackwardOfAll backward) {}

  /// The name of an operation that is made of others, which are seen by their own names.
  public static final String UNNAMED = "";

  // Gradients that the engine has taken over; let go at the next hook, as a hook cannot free what
  // it returns.
  private static final ThreadLocal<Deque<Tensor>> TAKEN = ThreadLocal.withInitial(ArrayDeque::new);

  /// What a hook threw on this thread, which on the CPU is the one that runs the engine: libtorch
  /// would leave its words only.
  private static final ThreadLocal<@Nullable Throwable> THROWN = new ThreadLocal<>();

  private static final ThreadLocal<@Nullable Consumer<Tensor>> WATCHER = new ThreadLocal<>();

  /// Weights that the operation whose backward pass runs adds to: it may do so after it has asked
  /// for the memory.
  private static final ThreadLocal<List<Tensor>> ADDED_TO = ThreadLocal.withInitial(ArrayList::new);

  private FusedOp() {}

  /// That a tensor is a fused operation's result, or a view of all of it.
  static final class Origin {
    private final Pending pending;
    private final int output;
    final org.bytedeco.pytorch.Tensor knot;

    private Origin(Pending pending, int output, org.bytedeco.pytorch.Tensor knot) {
      this.pending = pending;
      this.output = output;
      this.knot = knot;
    }
  }

  /// An operation with one result and without weights.
  ///
  /// @param name for profiles, see [Operation], or [#UNNAMED]
  /// @param inputs the tensors that `backward` gives gradients for, each of at least one dimension
  /// @param saved as in [Forward]
  /// @param forward computes y; gradients are not recorded inside
  public static Tensor apply(
      String name,
      List<Tensor> inputs,
      List<Tensor> saved,
      Supplier<Tensor> forward,
      Backward backward) {
    return apply(
            name,
            inputs,
            List.of(),
            () ->
                new Forward(
                    List.of(forward.get()),
                    saved,
                    upstreams -> backward.gradients(Objects.requireNonNull(upstreams.getFirst()))))
        .getFirst();
  }

  /// Runs `forward` and, when an input or a weight requires a gradient and gradients are recorded,
  /// ties its backward in.
  ///
  /// @param name for profiles, see [Operation], or [#UNNAMED]
  /// @param inputs the tensors that backward gives gradients for, each of at least one dimension
  /// @param weights leaves that backward itself adds the gradients of
  /// @param forward gradients are not recorded inside
  public static List<Tensor> apply(
      String name, List<Tensor> inputs, List<Tensor> weights, Supplier<Forward> forward) {
    boolean recorded = recording(inputs, weights);
    releaseDropped();
    try (var scope = Scope.open();
        var _ = named(name, Operation.FORWARD)) {
      Forward done;
      Pending pending;
      try (var inner = Scope.withoutGradient()) {
        done = forward.get();
        done.outputs.forEach(inner::keep);
        if (!recorded) {
          done.outputs.forEach(scope::keep);
          return done.outputs;
        }
        pending = new Pending(name, inputs, done);
      }
      var knot = pending.knot(inputs);
      var noRows = Tensor.uninitialized(done.outputs.getFirst(), ElementType.INT64, 0);
      var outputs = new ArrayList<Tensor>();
      for (int i = 0; i < done.outputs.size(); i++) {
        var y = done.outputs.get(i);
        long[] shape = y.shape();
        shape[0] = 0;
        y.raw().index_add_(0, noRows.raw(), knot.reshape(shape).to(y.raw()));
        y.raw().register_hook(pending.noteUpstream(i));
        outputs.add(scope.keep(new Tensor(y.raw(), new Origin(pending, i, knot))));
      }
      return outputs;
    }
  }

  private static Operation.@Nullable Timed named(String name, String pass) {
    return name.equals(UNNAMED) ? null : Operation.begin(name, pass);
  }

  /// Whether an operation on these would record a backward pass.
  public static boolean recording(List<Tensor> inputs, List<Tensor> weights) {
    return Libtorch.isLoaded() // else there are none
        && isEnabled()
        && (inputs.stream().anyMatch(Tensor::requiresGradient)
            || weights.stream().anyMatch(Tensor::requiresGradient));
  }

  private static boolean isEnabled() {
    Libtorch.load();
    return GradMode.is_enabled();
  }

  /// Where a backward pass puts the gradient of a weight: the memory of its `gradient()`, made when
  /// there is none yet.
  ///
  /// @param sum told whether there is one already, which is to be added to, or whether the memory
  ///   is to be overwritten
  public static void gradientOf(Tensor weight, BiConsumer<Tensor, Boolean> sum) {
    var gradient = weight.gradient();
    if (gradient != null) {
      sum.accept(gradient, true);
    } else {
      var made = Tensor.uninitialized(weight, weight.type(), weight.shape());
      sum.accept(made, false);
      weight.raw().mutable_grad().put(made.raw());
    }
    if (WATCHER.get() != null) {
      ADDED_TO.get().add(weight);
    }
  }

  /// Lets `watcher` hear of every weight to whose gradient an operation's backward pass on this
  /// thread has added, when that is done, or nobody if it is null.
  public static void watchGradients(@Nullable Consumer<Tensor> watcher) {
    WATCHER.set(watcher);
  }

  private static void tellWatcher() {
    var weights = List.copyOf(ADDED_TO.get());
    ADDED_TO.get().clear();
    var watcher = WATCHER.get();
    if (watcher != null) {
      weights.forEach(watcher);
    }
  }

  /// Runs libtorch's engine on this thread alone, for a device too; what an operation's backward
  /// pass throws comes out as it is.
  ///
  /// On a thread of the engine's own, which it starts for each device, hooks would find neither
  /// this thread's scope nor what it holds, and an exception of C++ would pass from thread to
  /// thread while the other one goes on.
  static void differentiate(Runnable engine) {
    THROWN.remove();
    var state = AutogradState.get_tls_state();
    boolean severalThreads = state.get_multithreading_enabled();
    state.set_multithreading_enabled(false);
    try {
      engine.run();
    } catch (RuntimeException e) {
      switch (THROWN.get()) {
        case Error error -> throw error;
        case RuntimeException exception -> throw exception;
        case null, default -> throw e;
      }
    } finally {
      state.set_multithreading_enabled(severalThreads);
      THROWN.remove();
      releaseFinished();
    }
  }

  private static void inHook(Runnable work) {
    try {
      work.run();
    } catch (RuntimeException | Error e) {
      THROWN.set(e);
      throw e;
    }
  }

  /// Frees what finished backward passes of this thread and dropped graphs still hold.
  static void releaseFinished() {
    releaseTaken();
    releaseDropped();
  }

  private static void releaseDropped() {
    if (Libtorch.isLoaded()) { // else there is no graph
      Pending.releaseDropped();
    }
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

    private final String name;
    private final List<Tensor> saved;
    private final BackwardOfAll backward;
    private final List<long[]> shapes;
    private final boolean[] wanted;
    private final @Nullable Origin[] origins;
    private final @Nullable Tensor[] gradients;
    private final @Nullable Tensor[] upstreams;
    private final List<FunctionPointer> hooks = new ArrayList<>();
    private boolean ran;

    Pending(String name, List<Tensor> inputs, Forward done) {
      this.name = name;
      this.saved = new ArrayList<>(done.saved);
      this.backward = done.backward;
      this.shapes = done.outputs.stream().map(Tensor::shape).toList();
      this.wanted = new boolean[inputs.size()];
      this.origins = new @Nullable Origin[wanted.length];
      for (int i = 0; i < wanted.length; i++) {
        wanted[i] = inputs.get(i).requiresGradient();
        origins[i] = inputs.get(i).origin;
      }
      this.gradients = new @Nullable Tensor[wanted.length];
      this.upstreams = new @Nullable Tensor[done.outputs.size()];
      saved.forEach(Tensor::retain);
    }

    /// The tensor without elements that depends on all inputs.
    org.bytedeco.pytorch.Tensor knot(List<Tensor> inputs) {
      var knot = token().narrow(0, 0, 0);
      for (int i = 0; i < wanted.length; i++) {
        if (!wanted[i]) {
          continue;
        }
        var origin = origins[i];
        if (origin != null) {
          knot = knot.add(origin.knot);
          continue;
        }
        var x = inputs.get(i).raw();
        var alias = x.view_as(x);
        alias.register_hook(replaceGradient(i));
        var end = alias.narrow(0, 0, 0).reshape(0);
        // the knot is on the CPU, and libtorch adds no tensors of two devices, not even of no
        // numbers
        knot =
            knot.add(
                x.is_cpu()
                    ? end.to(torch.ScalarType.Float)
                    : end.to(Device.CPU.raw(), torch.ScalarType.Float));
      }
      knot.register_hook(computeGradients());
      return knot;
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
    private org.bytedeco.pytorch.Tensor token() {
      var memory = Pointer.malloc(Float.BYTES);
      BY_TOKEN.put(memory.address(), this);
      var token =
          torch.from_blob(
              memory, new long[] {1}, NOTE_DROPPED, new TensorOptions(torch.ScalarType.Float));
      token.zero_();
      token.set_requires_grad(true);
      return token;
    }

    VoidTensorHook noteUpstream(int output) {
      var hook =
          new VoidTensorHook() {
            @Override
            public void call(TensorBase upstream) {
              inHook(() -> noteUpstream(output, upstream));
            }
          };
      return hold(hook);
    }

    private void noteUpstream(int output, TensorBase upstream) {
      try (var _ = Scope.withoutGradient()) {
        add(output, new Tensor(new org.bytedeco.pytorch.Tensor(upstream)).contiguous());
      }
    }

    /// Adds to ∂L/∂y.
    private void add(int output, Tensor given) {
      var before = upstreams[output];
      var one = given.reshape(shapes.get(output));
      upstreams[output] = (before == null ? one : before.plus(one)).retain();
      discard(before);
    }

    private VoidTensorHook computeGradients() {
      var hook =
          new VoidTensorHook() {
            @Override
            public void call(TensorBase ignored) {
              inHook(Pending.this::runBackward);
            }
          };
      return hold(hook);
    }

    private void runBackward() {
      if (ran) {
        throw new IllegalStateException(
            "the backward pass ran a second time over a graph; its saved tensors are freed");
      }
      ran = true;
      releaseTaken();
      try (var _ = Scope.withoutGradient();
          var _ = named(name, Operation.BACKWARD)) {
        var result = backward.gradients(Arrays.asList(upstreams));
        tellWatcher();
        for (int i = 0; i < wanted.length; i++) {
          var origin = origins[i];
          if (wanted[i] && origin != null) {
            origin.pending.add(origin.output, result[i]);
          } else if (wanted[i]) {
            gradients[i] = result[i].retain();
          }
        }
      } finally {
        releaseSaved();
      }
    }

    private TensorTensorHook replaceGradient(int input) {
      var hook =
          new TensorTensorHook() {
            @Override
            public TensorBase call(TensorBase zeros) {
              var gradient = Objects.requireNonNull(gradients[input]);
              gradients[input] = null;
              TAKEN.get().add(gradient);
              return gradient.raw();
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
      for (int i = 0; i < upstreams.length; i++) {
        discard(upstreams[i]);
        upstreams[i] = null;
      }
      Arrays.fill(origins, null);
    }

    private void close() {
      releaseSaved();
      for (Tensor gradient : gradients) {
        discard(gradient);
      }
      hooks.forEach(Pointer::releaseReference);
    }

    private static void discard(@Nullable Tensor tensor) {
      if (tensor != null) {
        tensor.close();
      }
    }
  }
}
