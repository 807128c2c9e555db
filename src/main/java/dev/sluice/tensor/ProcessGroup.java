package dev.sluice.tensor;

import dev.sluice.InvalidInputException;
import java.time.Duration;
import java.util.List;
import java.util.Objects;
import java.util.function.Supplier;
import org.bytedeco.javacpp.chrono.Milliseconds;
import org.bytedeco.pytorch.BackendOptional;
import org.bytedeco.pytorch.BroadcastOptions;
import org.bytedeco.pytorch.PrefixStore;
import org.bytedeco.pytorch.ProcessGroup.BackendType;
import org.bytedeco.pytorch.ProcessGroupGloo;
import org.bytedeco.pytorch.ReduceOptions;
import org.bytedeco.pytorch.StringVector;
import org.bytedeco.pytorch.TCPStore;
import org.bytedeco.pytorch.TCPStoreOptions;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch.DeviceType;
import org.bytedeco.pytorch.gloo.Device;
import org.bytedeco.pytorch.nccl.ProcessGroupNCCL;
import org.jspecify.annotations.Nullable;

/// The ranks of a job, through libtorch's own engine (c10d): Gloo between CPUs, NCCL between GPUs.
/// All ranks must call the same collectives in the same order.
public final class ProcessGroup implements AutoCloseable {
  /// Keys and values that all ranks see, in a server that one process runs.
  public static final class Store implements AutoCloseable {
    private final org.bytedeco.pytorch.Store raw;
    private final TCPStore connection;

    private Store(TCPStore connection, String prefix) {
      this.connection = connection;
      this.raw = new PrefixStore(prefix, connection);
      raw.retainReference();
    }

    /// Connects, and starts the server first where this process is to run it.
    ///
    /// @param prefix of all keys
    /// @param timeout of connecting and of [#await]
    public static Store connect(
        String host, int port, boolean server, String prefix, Duration timeout) {
      Libtorch.load();
      var options = new TCPStoreOptions();
      options
          .port((short) port)
          .isServer(server)
          .waitWorkers(false)
          .timeout(new Milliseconds(timeout.toMillis()));
      return exchanged(
          () -> {
            var connection = new TCPStore(host, options);
            connection.retainReference();
            return new Store(connection, prefix);
          });
    }

    public void set(String key, String value) {
      exchanged(
          () -> {
            raw.set(key, value);
            return true;
          });
    }

    /// The value of a key, or null where there is none yet.
    public @Nullable String get(String key) {
      try (var keys = new StringVector(key)) {
        return exchanged(() -> raw.check(keys)) ? await(key) : null;
      }
    }

    /// The value of a key, once there is one.
    public String await(String key) {
      return exchanged(() -> raw.get_to_str(key));
    }

    @Override
    public void close() {
      raw.releaseReference();
      connection.releaseReference();
    }
  }

  /// A collective that is under way.
  public static final class Work {
    private final org.bytedeco.pytorch.Work raw;
    private final TensorVector tensors;

    private Work(org.bytedeco.pytorch.Work raw, TensorVector tensors) {
      this.raw = raw;
      this.tensors = tensors;
      raw.retainReference();
      tensors.retainReference();
    }

    /// Whether it has ended, well or not.
    public boolean isDone() {
      return raw.isCompleted();
    }

    /// Waits for its end. Call it once.
    public void await() {
      try {
        var _ = exchanged(raw::_wait);
      } finally {
        tensors.get(0).unsafeGetTensorImpl().bump_version(); // the processes write past libtorch
        raw.releaseReference();
        tensors.releaseReference();
      }
    }
  }

  private static final String INTERFACE = "interface:";

  private final org.bytedeco.pytorch.ProcessGroup raw;
  private final List<org.bytedeco.javacpp.Pointer> backends;

  private ProcessGroup(
      org.bytedeco.pytorch.ProcessGroup raw, List<org.bytedeco.javacpp.Pointer> backends) {
    this.raw = raw;
    this.backends = backends;
  }

  /// Joins the group; returns when all ranks have.
  ///
  /// @param hostOrInterface what to listen on: a name or address of this host, `interface:NAME`, or
  ///   null for the address of this host's name
  /// @param cuda whether tensors on a GPU take part
  /// @param timeout after which a collective fails
  public static ProcessGroup join(
      Store store,
      int rank,
      int size,
      @Nullable String hostOrInterface,
      boolean cuda,
      Duration timeout) {
    var options = ProcessGroupGloo.Options.create(new Milliseconds(timeout.toMillis()));
    options.devices().push_back(device(hostOrInterface));
    return exchanged(() -> join(store, rank, size, options, cuda));
  }

  private static Device device(@Nullable String hostOrInterface) {
    try {
      if (hostOrInterface == null) {
        return ProcessGroupGloo.createDefaultDevice();
      }
      return hostOrInterface.startsWith(INTERFACE)
          ? ProcessGroupGloo.createDeviceForInterface(hostOrInterface.substring(INTERFACE.length()))
          : ProcessGroupGloo.createDeviceForHostname(hostOrInterface);
    } catch (RuntimeException e) {
      throw new InvalidInputException(
          "this rank cannot listen on %s (%s); set GLOO_SOCKET_IFNAME to the name of a network interface of this machine"
              .formatted(
                  hostOrInterface == null ? "the address of its host's name" : hostOrInterface,
                  String.valueOf(e.getMessage()).lines().findFirst().orElse("")),
          e);
    }
  }

  private static ProcessGroup join(
      Store store, int rank, int size, ProcessGroupGloo.Options options, boolean cuda) {
    // The constructor that takes the store aborts the process: it hands over a reference that is
    // not counted.
    var group = new org.bytedeco.pytorch.ProcessGroup(rank, size);
    group.retainReference();
    var gloo = new ProcessGroupGloo(store.raw, rank, size, options);
    gloo.retainReference();
    group.setBackend(DeviceType.CPU, BackendType.GLOO, new BackendOptional(gloo));
    if (!cuda) {
      return new ProcessGroup(group, List.of(gloo));
    }
    var nccl = new ProcessGroupNCCL(store.raw, rank, size);
    nccl.retainReference();
    group.setBackend(DeviceType.CUDA, BackendType.NCCL, new BackendOptional(nccl));
    return new ProcessGroup(group, List.of(nccl, gloo));
  }

  /// Begins to make `tensor`, contiguous, the sum of all ranks'.
  public Work allReduce(Tensor tensor) {
    var tensors = new TensorVector(tensor.raw());
    return new Work(exchanged(() -> raw.allreduce(tensors)), tensors);
  }

  /// Begins to make `tensor` of `root` the sum of all ranks'; what it is elsewhere is not defined.
  public Work reduce(Tensor tensor, int root) {
    var tensors = new TensorVector(tensor.raw());
    return new Work(
        exchanged(() -> raw.reduce(tensors, new ReduceOptions().rootRank(root))), tensors);
  }

  /// Begins to make `tensor` of every rank that of `root`.
  public Work broadcast(Tensor tensor, int root) {
    var tensors = new TensorVector(tensor.raw());
    return new Work(
        exchanged(() -> raw.broadcast(tensors, new BroadcastOptions().rootRank(root))), tensors);
  }

  /// What a call to the other processes gives; its failure is theirs, unless memory ran out.
  private static <T> T exchanged(Supplier<T> call) {
    try {
      return call.get();
    } catch (RuntimeException e) {
      throw NativeCall.isNative(e) && !NativeCall.ranOutOfMemory(e)
          ? new LostContactException(e)
          : e;
    }
  }

  @Override
  public void close() {
    raw.releaseReference();
    backends.forEach(backend -> Objects.requireNonNull(backend).releaseReference());
  }
}
