package dev.sluice.tensor;

import dev.sluice.kernel.Floats;
import dev.sluice.kernel.HeadRows;
import dev.sluice.kernel.Kernels;
import dev.sluice.kernel.Threads;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.BoolOptional;
import org.bytedeco.pytorch.DeviceOptional;
import org.bytedeco.pytorch.DoubleOptional;
import org.bytedeco.pytorch.MemoryFormatOptional;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.ScalarTypeOptional;
import org.bytedeco.pytorch.TensorArrayRefOptional;
import org.bytedeco.pytorch.TensorOptional;
import org.bytedeco.pytorch.TensorOptions;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.jspecify.annotations.Nullable;

/// A dense array on a [Device], with libtorch's automatic differentiation. Only the operations that
/// the models use.
///
/// A tensor lives until the innermost [Scope] at its making closes, unless kept; made outside any
/// scope it belongs to the caller, who closes it.
public final class Tensor implements AutoCloseable {
  /// Elements for which a thread is worth its start.
  private static final long COPY_GRAIN = 1 << 14;

  /// What libtorch has of it; null as long as it is only [#host] and no operation of libtorch has
  /// asked.
  private volatile org.bytedeco.pytorch.@Nullable Tensor raw;

  /// What it shows of memory of our own, or null.
  private final HostMemory.@Nullable View host;

  final FusedOp.@Nullable Origin origin;

  /// Who holds a tensor in memory of our own; none when it is freed. Guarded by this.
  private int holds;

  /// Whether [#memory] can only be read, as that of a [Weight].
  private boolean onlyRead;

  // What never changes and is asked for often, once it has been: a call to libtorch each. Several
  // threads may ask, and none may see an array that is not filled.
  private volatile long @Nullable [] shape;
  private volatile long @Nullable [] strides;
  private @Nullable ElementType type;
  private @Nullable Boolean onCpu;
  private @Nullable MemorySegment writable;

  Tensor(org.bytedeco.pytorch.Tensor raw) {
    this(raw, null);
  }

  Tensor(org.bytedeco.pytorch.Tensor raw, FusedOp.@Nullable Origin origin) {
    this.raw = raw;
    this.host = null;
    this.origin = origin;
    Traffic.result(this);
    if (!Scope.isOpen()) {
      retain(); // by the caller, else who retains and lets go of it frees it
    }
  }

  private Tensor(HostMemory.View host) {
    this.raw = null;
    this.host = host;
    this.origin = null;
    this.shape = host.shape();
    this.strides = host.strides();
    this.type = host.type();
    this.onCpu = true;
    host.memory().hold();
    if (Scope.isOpen()) {
      Scope.attach(this);
    } else {
      retain(); // by the caller
    }
  }

  /// What libtorch's operations take; loads it.
  org.bytedeco.pytorch.Tensor raw() {
    Libtorch.load();
    var known = raw;
    return known != null ? known : shown();
  }

  private synchronized org.bytedeco.pytorch.Tensor shown() {
    var known = raw;
    if (known == null) {
      requireHeld();
      try (var _ = new PointerScope()) {
        known = Objects.requireNonNull(host).toLibtorch();
        known.retainReference(); // until this is freed, whatever scope is open
      }
      raw = known;
    }
    return known;
  }

  /// Whether it is in memory of our own, whatever libtorch knows of it.
  boolean isHost() {
    return host != null;
  }

  /// What it shows of memory of our own as long as libtorch knows nothing of it, or null.
  private HostMemory.@Nullable View onlyHost() {
    return raw == null ? host : null;
  }

  // ---------------------------------------------------------------- making

  /// A tensor of zeros on the CPU.
  public static Tensor zeros(ElementType type, long... shape) {
    if (Libtorch.isLoaded()) {
      return new Tensor(torch.zeros(shape, options(type)));
    }
    var made = empty(type, shape);
    made.memory().fill((byte) 0);
    return made;
  }

  /// A tensor on the CPU with any content.
  private static Tensor empty(ElementType type, long... shape) {
    return Libtorch.isLoaded()
        ? new Tensor(torch.empty(shape, options(type), null))
        : inHostMemory(type, shape);
  }

  /// A tensor with any content, of which libtorch knows nothing until one of its operations asks.
  static Tensor inHostMemory(ElementType type, long... shape) {
    return new Tensor(HostMemory.View.made(type, shape));
  }

  /// A tensor on `like`'s device whose elements are to be overwritten; NaN under test, see
  /// [Libtorch#poisonUninitialized].
  public static Tensor uninitialized(Tensor like, ElementType type, long... shape) {
    if (!Libtorch.isLoaded()) {
      var made = inHostMemory(type, shape);
      if (Libtorch.poisoned() && type.isFloatingPoint()) {
        made.memory().fill((byte) 0xFF); // NaN in all of them
      }
      return made;
    }
    var made =
        new Tensor(
            like.isOnCpu()
                ? MemoryPool.uninitialized(options(type), type.bytes(), shape)
                : torch.empty(
                    shape, options(type).device(new DeviceOptional(like.raw().device())), null));
    made.shape = shape.clone();
    made.type = type;
    made.onCpu = like.isOnCpu();
    return Libtorch.poisoned() && type.isFloatingPoint() ? made.fill(Double.NaN) : made;
  }

  /// A float32 tensor with a copy of `values`.
  public static Tensor of(float[] values, long... shape) {
    var made = empty(ElementType.FLOAT32, shape);
    made.expectElements(values.length);
    MemorySegment.copy(values, 0, made.memory(), ValueLayout.JAVA_FLOAT, 0, values.length);
    Traffic.upload(values.length);
    return made;
  }

  /// A float64 tensor with a copy of `values`.
  public static Tensor of(double[] values, long... shape) {
    var made = empty(ElementType.FLOAT64, shape);
    made.expectElements(values.length);
    MemorySegment.copy(values, 0, made.memory(), ValueLayout.JAVA_DOUBLE, 0, values.length);
    Traffic.upload(values.length);
    return made;
  }

  /// An int64 tensor with a copy of `values`.
  public static Tensor of(long[] values, long... shape) {
    var made = empty(ElementType.INT64, shape);
    made.expectElements(values.length);
    MemorySegment.copy(values, 0, made.memory(), ValueLayout.JAVA_LONG, 0, values.length);
    Traffic.upload(values.length);
    return made;
  }

  /// An int64 tensor on a device with a copy of `values`, which a device fetches while the caller
  /// goes on.
  public static Tensor of(Device device, long[] values, long... shape) {
    var made = onTheWay(device, ElementType.INT64, values.length, shape);
    MemorySegment.copy(values, 0, made.memory(), ValueLayout.JAVA_LONG, 0, values.length);
    return made.brought(device);
  }

  /// A float32 tensor, likewise.
  public static Tensor of(Device device, float[] values, long... shape) {
    var made = onTheWay(device, ElementType.FLOAT32, values.length, shape);
    MemorySegment.copy(values, 0, made.memory(), ValueLayout.JAVA_FLOAT, 0, values.length);
    return made.brought(device);
  }

  /// An int32 tensor, likewise.
  public static Tensor of(Device device, int[] values, long... shape) {
    var made = onTheWay(device, ElementType.INT32, values.length, shape);
    MemorySegment.copy(values, 0, made.memory(), ValueLayout.JAVA_INT, 0, values.length);
    return made.brought(device);
  }

  /// Memory of this machine that a device fetches from: of pages that stay where they are.
  private static Tensor onTheWay(Device device, ElementType type, int values, long... shape) {
    var made =
        device.equals(Device.CPU)
            ? empty(type, shape)
            : new Tensor(
                torch.empty(shape, options(type).pinned_memory(new BoolOptional(true)), null));
    made.expectElements(values);
    return made;
  }

  private Tensor brought(Device device) {
    Traffic.upload(elements());
    return device.equals(Device.CPU)
        ? this
        : new Tensor(
            raw().to(device.raw(), raw().scalar_type(), true, false, new MemoryFormatOptional()));
  }

  /// An int32 tensor with a copy of `values`.
  public static Tensor of(int[] values, long... shape) {
    var made = empty(ElementType.INT32, shape);
    made.expectElements(values.length);
    MemorySegment.copy(values, 0, made.memory(), ValueLayout.JAVA_INT, 0, values.length);
    Traffic.upload(values.length);
    return made;
  }

  /// The float32 numbers `first`, `first + 1`, … on `like`'s device.
  public static Tensor counting(Tensor like, long first, long count) {
    return new Tensor(
        torch.arange(
            new Scalar(first),
            new Scalar(first + count),
            options(ElementType.FLOAT32).device(new DeviceOptional(like.raw().device()))));
  }

  /// A tensor with a copy of `data`, whose byte order is the machine's.
  public static Tensor of(MemorySegment data, ElementType type, long... shape) {
    var made = empty(type, shape);
    if (data.byteSize() != made.elements() * type.bytes()) {
      throw new IllegalArgumentException(data.byteSize() + " bytes for " + made);
    }
    made.memory().copyFrom(data);
    Traffic.upload(made.elements());
    return made;
  }

  /// The tensors one after the other along `dimension`.
  public static Tensor concatenate(List<Tensor> parts, int dimension) {
    var views = parts.stream().map(Tensor::onlyHost).filter(Objects::nonNull).toList();
    if (views.size() == parts.size() && !Libtorch.isLoaded()) {
      var joined = HostMemory.View.joined(views, dimension);
      if (joined != null) {
        return new Tensor(joined);
      }
    }
    var raws = parts.stream().map(part -> part.raw()).toArray(org.bytedeco.pytorch.Tensor[]::new);
    return new Tensor(torch.cat(new TensorVector(raws), dimension));
  }

  // ---------------------------------------------------------------- asking

  public long[] shape() {
    return lengths().clone();
  }

  private long[] lengths() {
    long[] known = shape;
    if (known == null) {
      known = new long[(int) raw().dim()];
      Arrays.setAll(known, i -> raw().size(i));
      shape = known;
    }
    return known;
  }

  /// The length of a dimension; −1 is the last.
  public long size(int dimension) {
    long[] lengths = lengths();
    return lengths[dimension < 0 ? lengths.length + dimension : dimension];
  }

  public long elements() {
    long elements = 1;
    for (long length : lengths()) {
      elements *= length;
    }
    return elements;
  }

  /// How many elements in memory lie from one index of a dimension to the next; of no meaning for a
  /// dimension of size 1.
  public long stride(int dimension) {
    long[] known = strides;
    if (known == null) {
      known = new long[lengths().length];
      Arrays.setAll(known, i -> raw().stride(i));
      strides = known;
    }
    return known[dimension < 0 ? known.length + dimension : dimension];
  }

  public ElementType type() {
    var known = type;
    if (known == null) {
      known = typeOf(raw().scalar_type());
      type = known;
    }
    return known;
  }

  public Device device() {
    return isOnCpu() ? Device.CPU : new Device(Device.Kind.CUDA, raw().device().index());
  }

  public boolean isOnCpu() {
    var known = onCpu;
    if (known == null) {
      known = raw().is_cpu();
      onCpu = known;
    }
    return known;
  }

  /// The elements' memory; the tensor must be contiguous and on the CPU. Valid as long as the
  /// tensor. That of a [Weight] can only be read, see [Weight#write].
  public MemorySegment memory() {
    return onlyRead ? writable().asReadOnly() : writable();
  }

  /// Where the first element is, on whatever device: for kernels that go by [#stride]. Valid as
  /// long as the tensor.
  public long address() {
    var view = host;
    if (view != null) {
      requireHeld();
      return view.address();
    }
    return raw().data_ptr().address();
  }

  MemorySegment writable() {
    var known = writable;
    if (known == null || isFreed()) { // which is refused there
      known = mapped();
      writable = known;
    }
    return known;
  }

  private boolean isFreed() {
    if (host == null) {
      return Objects.requireNonNull(raw).isNull();
    }
    synchronized (this) {
      return holds == 0;
    }
  }

  private void requireHeld() {
    if (host != null && isFreed()) {
      throw new IllegalStateException("a freed tensor of the shape " + Arrays.toString(shape));
    }
  }

  private boolean isContiguous() {
    return host != null ? host.isContiguous() : raw().is_contiguous();
  }

  @SuppressWarnings("restricted")
  private MemorySegment mapped() {
    if (!isContiguous() || !isOnCpu()) {
      throw new IllegalStateException("memory() needs a contiguous tensor on the CPU, not " + this);
    }
    return elements() == 0 // there is no address then
        ? MemorySegment.NULL
        : MemorySegment.ofAddress(address()).reinterpret(elements() * type().bytes());
  }

  /// [#memory] of a float32 or bfloat16 tensor, as kernels take it.
  public Floats numbers() {
    return numbers(memory());
  }

  private Floats numbers(MemorySegment memory) {
    return switch (type()) {
      case FLOAT32 -> Floats.float32(memory);
      case BFLOAT16 -> Floats.bfloat16(memory);
      case FLOAT16, FLOAT64, INT64, INT32, UINT8, BOOL ->
          throw new IllegalStateException("kernels compute with float32 or bfloat16, not " + this);
    };
  }

  /// What lies in memory from the first element of a view to its last, for readers that go by
  /// [#stride]; the tensor must be float32 or bfloat16 and on the CPU.
  @SuppressWarnings("restricted")
  public Floats spanned() {
    if (!isOnCpu()) {
      throw new IllegalStateException("spanned() needs a tensor on the CPU, not " + this);
    }
    long span = 1;
    for (int i = 0; i < lengths().length; i++) {
      span += (size(i) - 1) * stride(i);
    }
    var memory = MemorySegment.ofAddress(address()).reinterpret(span * type().bytes());
    return numbers(onlyRead ? memory.asReadOnly() : memory);
  }

  /// A copy of the elements as floats, row-major.
  public float[] floats() {
    try (var _ = Scope.withoutGradient()) {
      Traffic.readBack(elements());
      return to(ElementType.FLOAT32).toCpu().contiguous().memory().toArray(ValueLayout.JAVA_FLOAT);
    }
  }

  /// Copies the elements as floats, row by row.
  ///
  /// @param rows of as many elements each as the last dimension has; those beyond the tensor's stay
  public void readRows(float[][] rows) {
    int width = Math.toIntExact(size(-1));
    int count = Math.toIntExact(elements() / width);
    try (var _ = Scope.withoutGradient()) {
      Traffic.readBack(elements());
      var memory = to(ElementType.FLOAT32).toCpu().contiguous().memory();
      Threads.split(
          (long) count * width,
          COPY_GRAIN,
          (from, to) -> {
            for (long at = from; at < to; ) {
              int row = (int) (at / width);
              int column = (int) (at % width);
              int some = (int) Math.min(width - column, to - at);
              MemorySegment.copy(
                  memory, ValueLayout.JAVA_FLOAT, at * Float.BYTES, rows[row], column, some);
              at += some;
            }
          });
    }
  }

  /// A copy of the elements as doubles, row-major.
  public double[] doubles() {
    var view = onlyHost();
    if (view != null && view.isContiguous() && type() == ElementType.FLOAT32) {
      var numbers = memory();
      double[] all = new double[Math.toIntExact(elements())];
      for (int i = 0; i < all.length; i++) {
        all[i] = numbers.getAtIndex(ValueLayout.JAVA_FLOAT, i);
      }
      return all;
    }
    try (var _ = Scope.withoutGradient()) {
      Traffic.readBack(elements());
      return to(ElementType.FLOAT64).toCpu().contiguous().memory().toArray(ValueLayout.JAVA_DOUBLE);
    }
  }

  /// A copy of the elements as longs, row-major.
  public long[] longs() {
    try (var _ = Scope.withoutGradient()) {
      Traffic.readBack(elements());
      return to(ElementType.INT64).toCpu().contiguous().memory().toArray(ValueLayout.JAVA_LONG);
    }
  }

  /// The only element.
  public double item() {
    Traffic.readBack(1);
    return raw().item_double();
  }

  /// The only elements of several tensors of one device, which is waited for once.
  public static double[] items(List<Tensor> numbers) {
    try (var _ = Scope.withoutGradient()) {
      return concatenate(
              numbers.stream().map(one -> one.to(ElementType.FLOAT64).reshape(1)).toList(), 0)
          .doubles();
    }
  }

  // ---------------------------------------------------------------- moving and viewing

  /// This tensor itself when it has that type already.
  public Tensor to(ElementType type) {
    return type == type() ? this : new Tensor(raw().to(scalarType(type)));
  }

  /// In float32, unless it is float64.
  public Tensor wide() {
    return type() == ElementType.FLOAT64 ? this : to(ElementType.FLOAT32);
  }

  /// This tensor itself when it is there already.
  public Tensor to(Device device) {
    return device.equals(device()) ? this : new Tensor(raw().to(device.raw(), raw().scalar_type()));
  }

  private Tensor toCpu() {
    return isOnCpu() ? this : to(Device.CPU);
  }

  /// This tensor itself when it is contiguous already.
  public Tensor contiguous() {
    if (isContiguous()) {
      return this;
    }
    var view = onlyHost();
    return view != null ? new Tensor(view.packed()) : new Tensor(raw().contiguous());
  }

  public Tensor reshape(long... shape) {
    var view = onlyHost();
    return view != null && view.isContiguous()
        ? alias(view.reshaped(shape))
        : alias(raw().reshape(shape), origin);
  }

  public Tensor transpose(int first, int second) {
    var view = onlyHost();
    return view != null
        ? alias(view.transposed(first, second))
        : alias(raw().transpose(first, second), null);
  }

  /// The elements `start … start + length − 1` along `dimension`, as a view.
  public Tensor narrow(int dimension, long start, long length) {
    var view = onlyHost();
    return view != null
        ? alias(view.narrowed(dimension, start, length))
        : alias(raw().narrow(dimension, start, length), null);
  }

  /// The slices at `indices` along the first dimension.
  public Tensor rows(Tensor indices) {
    return new Tensor(raw().index_select(0, indices.raw()));
  }

  /// Each slice along `dimension` repeated `times` times in a row.
  public Tensor repeatInterleave(long times, int dimension) {
    if (times == 1) {
      return this;
    }
    long[] shape = shape();
    int at = dimension < 0 ? dimension + shape.length : dimension;
    long[] apart = new long[shape.length + 1];
    long[] wide = new long[shape.length + 1];
    for (int i = 0, j = 0; i < shape.length; i++) {
      apart[j] = shape[i];
      wide[j++] = shape[i];
      if (i == at) {
        apart[j] = 1;
        wide[j++] = times;
      }
    }
    shape[at] *= times;
    return new Tensor(raw().reshape(apart).expand(wide).reshape(shape));
  }

  // ---------------------------------------------------------------- computing

  public Tensor plus(Tensor other) {
    return new Tensor(raw().add(other.raw()));
  }

  public Tensor plus(double value) {
    var view = onlyHost();
    if (view != null && view.isContiguous() && type() == ElementType.FLOAT32) {
      var sum = uninitialized(this, ElementType.FLOAT32, shape());
      var numbers = memory();
      var sums = sum.memory();
      long count = elements();
      for (long i = 0; i < count; i++) {
        float one = numbers.getAtIndex(ValueLayout.JAVA_FLOAT, i) + (float) value;
        sums.setAtIndex(ValueLayout.JAVA_FLOAT, i, one);
      }
      return sum;
    }
    return new Tensor(raw().add(new Scalar(value)));
  }

  public Tensor minus(Tensor other) {
    return new Tensor(raw().sub(other.raw()));
  }

  public Tensor times(Tensor other) {
    return new Tensor(raw().mul(other.raw()));
  }

  public Tensor times(double value) {
    return new Tensor(raw().mul(new Scalar(value)));
  }

  public Tensor matmul(Tensor other) {
    return raw().dim() > 2
        ? BlasThreads.withOne(() -> new Tensor(raw().matmul(other.raw())))
        : BlasThreads.product(
            elements() * other.size(-1), () -> new Tensor(raw().matmul(other.raw())));
  }

  /// `x Wᵀ` for a weight `[out, in]`.
  public Tensor linear(Tensor weight) {
    return BlasThreads.product(
        elements() * weight.size(0), () -> new Tensor(torch.linear(raw(), weight.raw())));
  }

  public Tensor sigmoid() {
    return new Tensor(raw().sigmoid());
  }

  public Tensor tanh() {
    return new Tensor(raw().tanh());
  }

  /// `x · σ(x)`.
  public Tensor silu() {
    return new Tensor(torch.silu(raw()));
  }

  /// `eˣ`.
  public Tensor exp() {
    return new Tensor(raw().exp());
  }

  /// `ln(1 + eˣ)`.
  public Tensor softplus() {
    return new Tensor(torch.softplus(raw()));
  }

  public Tensor clamp(double low, double high) {
    return new Tensor(
        torch.clamp(
            raw(),
            new org.bytedeco.pytorch.ScalarOptional(new Scalar(low)),
            new org.bytedeco.pytorch.ScalarOptional(new Scalar(high))));
  }

  public Tensor square() {
    return new Tensor(raw().square());
  }

  public Tensor squareRoot() {
    return new Tensor(raw().sqrt());
  }

  public Tensor dividedBy(Tensor other) {
    return new Tensor(raw().div(other.raw()));
  }

  public Tensor absolute() {
    return new Tensor(raw().abs());
  }

  public Tensor softmax(int dimension) {
    return new Tensor(raw().softmax(dimension));
  }

  /// `ln Σ exp` along one dimension, which goes.
  public Tensor logSumExp(int dimension) {
    return new Tensor(raw().logsumexp(dimension));
  }

  public Tensor sum() {
    return new Tensor(raw().sum());
  }

  /// The sum along one dimension, which stays with length 1.
  public Tensor sum(int dimension) {
    return new Tensor(raw().sum(new long[] {dimension}, true, new ScalarTypeOptional()));
  }

  public Tensor mean() {
    return new Tensor(raw().mean());
  }

  /// The mean along one dimension, which stays with length 1.
  public Tensor mean(int dimension) {
    return new Tensor(raw().mean(new long[] {dimension}, true, new ScalarTypeOptional()));
  }

  public Tensor max() {
    return new Tensor(raw().max());
  }

  /// The Euclidean norm of all elements.
  public Tensor norm() {
    return new Tensor(raw().norm());
  }

  /// `x · (mean(x²) + ε)^(−1/2) · w` over the last dimension.
  public Tensor rmsNorm(Tensor weight, double epsilon) {
    return new Tensor(
        torch.rms_norm(
            raw(),
            new long[] {weight.elements()},
            new TensorOptional(weight.raw()),
            new DoubleOptional(epsilon)));
  }

  /// Rows of this `[vocabulary, width]` table at `ids`.
  public Tensor embedding(Tensor ids) {
    return new Tensor(torch.embedding(raw(), ids.raw()));
  }

  /// Mean over rows of −log of the softmax at the target; this is `[rows, classes]`, `targets`
  /// `[rows]` int64.
  public Tensor crossEntropy(Tensor targets) {
    return new Tensor(torch.cross_entropy_loss(raw(), targets.raw()));
  }

  /// libtorch's scaled dot-product attention; this is the query `[B, N, T, H]`, keys and values
  /// `[B, M, S, H]` with N a multiple of M.
  ///
  /// @param causal query i sees keys 0 … i; else all
  public Tensor scaledDotProductAttention(Tensor keys, Tensor values, boolean causal) {
    return BlasThreads.withOne(
        () ->
            new Tensor(
                torch.scaled_dot_product_attention(
                    raw(),
                    keys.raw(),
                    values.raw(),
                    new TensorOptional(),
                    0.0,
                    causal,
                    new DoubleOptional(),
                    keys.size(1) != size(1))));
  }

  // ---------------------------------------------------------------- gradients

  /// Whether it is contiguous and no operation's result to libtorch.
  boolean isPlainLeaf() {
    return isContiguous() && (raw == null || raw().is_leaf());
  }

  /// Says whether gradients are to be computed for this leaf.
  public Tensor requireGradient(boolean required) {
    raw().set_requires_grad(required);
    return this;
  }

  public boolean requiresGradient() {
    return raw != null && raw().requires_grad();
  }

  /// The same elements, cut off from the gradient's path.
  public Tensor detach() {
    var view = onlyHost();
    return view != null ? alias(view) : alias(raw().detach(), null);
  }

  /// The same elements as a tensor of its own, of which libtorch does not know that it is a view: a
  /// fused operation's result must be none.
  public Tensor unlinked() {
    var view = onlyHost();
    return view != null
        ? new Tensor(view)
        : new Tensor(new org.bytedeco.pytorch.Tensor(raw().variable_data()));
  }

  /// The gradient that [#backward] has summed up, or null.
  public @Nullable Tensor gradient() {
    if (raw == null) {
      return null;
    }
    var gradient = raw().grad(); // a reference into this tensor; the copy is a handle of its own
    return gradient.defined() ? new Tensor(new org.bytedeco.pytorch.Tensor(gradient)) : null;
  }

  /// Forgets the gradient and frees its memory.
  public void clearGradient() {
    if (raw == null) {
      return;
    }
    var gradient = raw().mutable_grad();
    if (gradient.defined()) {
      gradient.reset();
    }
  }

  /// Adds ∂this/∂leaf to the gradient of every leaf; this has one element.
  public void backward() {
    FusedOp.differentiate(() -> raw().backward());
  }

  /// Adds Σ upstream · ∂this/∂leaf to the gradient of every leaf.
  public void backward(Tensor upstream) {
    FusedOp.differentiate(
        () ->
            raw()
                .backward(upstream.raw(), new BoolOptional(), false, new TensorArrayRefOptional()));
  }

  /// Adds Σ upstream · ∂result/∂leaf of several results to the gradient of every leaf.
  ///
  /// @param upstreams of each result; null for one that the loss does not depend on
  public static void backward(List<Tensor> results, List<@Nullable Tensor> upstreams) {
    var of = new TensorVector();
    var given = new TensorVector();
    for (int i = 0; i < results.size(); i++) {
      var upstream = upstreams.get(i);
      if (upstream != null) {
        of.push_back(results.get(i).raw());
        given.push_back(upstream.raw());
      }
    }
    FusedOp.differentiate(
        () -> torch.backward(of, given, new BoolOptional(), false, new TensorVector()));
  }

  /// The elements in another type, without a gradient; on the CPU by our own threads.
  Tensor copied(ElementType type) {
    if (!isOnCpu() || type() != ElementType.FLOAT32 || !isContiguous()) {
      return to(type);
    }
    var copy = uninitialized(this, type, shape());
    Floats from = numbers();
    Floats to = copy.numbers();
    Threads.split(
        elements(), COPY_GRAIN, (first, last) -> Kernels.FASTEST.copy(from, to, first, last));
    return copy;
  }

  // ---------------------------------------------------------------- changes

  /// How often libtorch's operations have written to these elements, by whatever view, and
  /// [#changed] has been called.
  long version() {
    return (host == null ? 0 : host.memory().changes()) + (raw == null ? 0 : raw()._version());
  }

  /// Counts what was written past libtorch.
  void changed() {
    if (host != null) {
      host.memory().changed();
    } else {
      raw().unsafeGetTensorImpl().bump_version();
    }
  }

  /// From now on [#memory] can only be read, and that of views that are made of this.
  void onlyRead() {
    onlyRead = true;
  }

  private Tensor alias(org.bytedeco.pytorch.Tensor view, FusedOp.@Nullable Origin ofView) {
    return as(new Tensor(view, ofView));
  }

  private Tensor alias(HostMemory.View view) {
    requireHeld();
    return as(new Tensor(view));
  }

  /// Marks a view of this as what this is.
  private Tensor as(Tensor alias) {
    alias.onlyRead = onlyRead;
    alias.type = type;
    alias.onCpu = onCpu;
    return alias;
  }

  // ---------------------------------------------------------------- in place

  public Tensor fill(double value) {
    var view = onlyHost();
    if (view != null && view.isContiguous() && value == 0) {
      writable().fill((byte) 0);
      changed();
      return this;
    }
    raw().fill_(new Scalar(value));
    return this;
  }

  /// Keeps what stands at column j ≥ i + diagonal of row i of this matrix and makes the rest 0.
  public Tensor keepUpperTriangle(long diagonal) {
    raw().triu_(diagonal);
    return this;
  }

  /// Keeps what stands at column j ≤ i + diagonal of row i of this matrix and makes the rest 0.
  public Tensor keepLowerTriangle(long diagonal) {
    raw().tril_(diagonal);
    return this;
  }

  public Tensor copyFrom(Tensor source) {
    var to = onlyHost();
    var from = source.onlyHost();
    if (to != null && from != null && to.takes(from)) {
      requireHeld();
      source.requireHeld();
      to.take(from);
      changed();
      return this;
    }
    raw().copy_(source.raw());
    return this;
  }

  /// Numbers of [#put] below which a second thread costs more than it saves.
  private static final long PUT_GRAIN = 1 << 15;

  /// this[b, m, start + t, h] ← source[b, m, t, h]; without gradients.
  ///
  /// @param source `[B, M, T, H]`, which may be of another element type
  public void put(long start, Tensor source) {
    if (source.elements() == 0) { // there is no address then
      return;
    }
    long width = size(3);
    boolean isPlain = stride(3) == 1 && stride(2) == width && source.stride(3) == 1;
    if (!isOnCpu() || !isPlain || !isFloats() || !source.isFloats()) {
      narrow(2, start, source.size(2)).copyFrom(source);
      return;
    }
    var to = spanned();
    var from = source.spanned();
    long heads = size(1);
    long numbers = source.size(2) * width;
    Threads.split(
        size(0) * heads,
        Math.ceilDiv(PUT_GRAIN, numbers),
        (first, last) -> {
          for (long i = first; i < last; i++) {
            long at = i / heads * source.stride(0) + i % heads * source.stride(1);
            long into = i / heads * stride(0) + i % heads * stride(1) + start * width;
            var rows =
                new HeadRows(
                    at,
                    source.stride(2),
                    Math.toIntExact(source.size(2)),
                    Math.toIntExact(width),
                    1);
            if (from.bfloat16() == to.bfloat16()) {
              Kernels.FASTEST.gatherRows(from, rows, to.from(into));
            } else {
              var together = Scratch.numbers("put", numbers, from.bfloat16());
              Kernels.FASTEST.gatherRows(from, rows, together);
              Kernels.FASTEST.copy(together, to.from(into), 0, numbers);
            }
          }
        });
  }

  /// Whether kernels take its numbers.
  private boolean isFloats() {
    return type() == ElementType.FLOAT32 || type() == ElementType.BFLOAT16;
  }

  /// this ← this · factor.
  public Tensor scaleInPlace(double factor) {
    raw().mul_(new Scalar(factor));
    return this;
  }

  /// this ← this + factor · other.
  public Tensor addInPlace(Tensor other, double factor) {
    raw().add_(other.raw(), new Scalar(factor));
    return this;
  }

  // ---------------------------------------------------------------- lifetime

  /// Makes this tensor outlive every scope; the caller closes it.
  public Tensor retain() {
    if (host != null) {
      synchronized (this) {
        holds++;
      }
      return this;
    }
    raw().retainReference();
    if (origin != null) {
      origin.knot.retainReference();
    }
    return this;
  }

  /// Gives up the caller's hold on a retained tensor.
  @Override
  public void close() {
    if (host != null) {
      letGo(host);
      return;
    }
    raw().releaseReference();
    if (origin != null) {
      origin.knot.releaseReference();
    }
  }

  private synchronized void letGo(HostMemory.View view) {
    if (holds == 0) {
      throw new IllegalStateException("a tensor was closed more often than retained");
    }
    holds--;
    if (holds == 0) {
      if (raw != null) {
        raw.releaseReference();
      }
      view.memory().letGo();
    }
  }

  @Override
  public String toString() {
    return "Tensor" + Arrays.toString(shape()) + " " + type();
  }

  // ---------------------------------------------------------------- libtorch's types

  private void expectElements(long count) {
    if (elements() != count) {
      throw new IllegalArgumentException(count + " values for " + this);
    }
  }

  private static TensorOptions options(ElementType type) {
    Libtorch.load();
    return new TensorOptions(scalarType(type));
  }

  static ScalarType scalarType(ElementType type) {
    return switch (type) {
      case FLOAT32 -> ScalarType.Float;
      case BFLOAT16 -> ScalarType.BFloat16;
      case FLOAT16 -> ScalarType.Half;
      case FLOAT64 -> ScalarType.Double;
      case INT64 -> ScalarType.Long;
      case INT32 -> ScalarType.Int;
      case UINT8 -> ScalarType.Byte;
      case BOOL -> ScalarType.Bool;
    };
  }

  private static ElementType typeOf(ScalarType type) {
    // JavaCPP returns a value that equals a constant by number, not by identity.
    for (ElementType candidate : ElementType.values()) {
      if (scalarType(candidate).value == type.value) {
        return candidate;
      }
    }
    throw new IllegalStateException("element type " + type.intern() + " is not used by Sluice");
  }
}
