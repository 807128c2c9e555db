package dev.sluice.tensor;

import java.io.IOException;
import java.lang.foreign.AddressLayout;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.util.Objects;
import java.util.concurrent.atomic.AtomicInteger;
import org.jspecify.annotations.Nullable;

/// The functions of oneDNN's C interface that [MatrixProduct] calls. libtorch has a oneDNN of its
/// own, but hides it; this one comes from the preset's native library.
@SuppressWarnings("restricted")
final class OneDnn {
  private static final AddressLayout POINTER = ValueLayout.ADDRESS;
  private static final Linker LINKER = Linker.nativeLinker();

  private static final int BFLOAT16 = 2;
  private static final int FLOAT32 = 3;
  private static final int CPU = 1;
  private static final int IN_ORDER = 1;
  private static final int USER_SCRATCHPAD = 1;
  private static final int QUERY_SCRATCHPAD = 136;
  private static final int OUT_OF_MEMORY = 1;
  private static final int[] ARGUMENTS = {
    1, 33, 17, 80
  }; // source, weights, destination, scratchpad
  private static final long BYTES_OF_ARGUMENT = 16;

  private static final SymbolLookup LIBRARY = Library.functions();
  private static final MethodHandle CREATE_DESCRIPTOR =
      status(
          "dnnl_memory_desc_create_with_strides",
          POINTER,
          ValueLayout.JAVA_INT,
          POINTER,
          ValueLayout.JAVA_INT,
          POINTER);
  private static final MethodHandle CREATE_ATTRIBUTES =
      status("dnnl_primitive_attr_create", POINTER);
  private static final MethodHandle SET_SCRATCHPAD_MODE =
      status("dnnl_primitive_attr_set_scratchpad_mode", POINTER, ValueLayout.JAVA_INT);
  private static final MethodHandle QUERY_DESCRIPTOR =
      function(
          "dnnl_primitive_desc_query_md",
          POINTER,
          POINTER,
          ValueLayout.JAVA_INT,
          ValueLayout.JAVA_INT);
  private static final MethodHandle CLONE_DESCRIPTOR =
      status("dnnl_memory_desc_clone", POINTER, POINTER);
  private static final MethodHandle DESCRIBED_BYTES =
      function("dnnl_memory_desc_get_size", ValueLayout.JAVA_LONG, POINTER);
  private static final MethodHandle CREATE_STREAM =
      status("dnnl_stream_create", POINTER, POINTER, ValueLayout.JAVA_INT);
  private static final MethodHandle CREATE_POST_OPERATIONS =
      status("dnnl_post_ops_create", POINTER);
  private static final MethodHandle APPEND_SUM =
      status(
          "dnnl_post_ops_append_sum",
          POINTER,
          ValueLayout.JAVA_FLOAT,
          ValueLayout.JAVA_INT,
          ValueLayout.JAVA_INT);
  private static final MethodHandle SET_POST_OPERATIONS =
      status("dnnl_primitive_attr_set_post_ops", POINTER, POINTER);
  private static final MethodHandle DESCRIBE_PRODUCT =
      status(
          "dnnl_matmul_primitive_desc_create",
          POINTER,
          POINTER,
          POINTER,
          POINTER,
          POINTER,
          POINTER,
          POINTER);
  private static final MethodHandle CREATE_PRIMITIVE =
      status("dnnl_primitive_create", POINTER, POINTER);
  private static final MethodHandle CREATE_MEMORY =
      status("dnnl_memory_create", POINTER, POINTER, POINTER, POINTER);
  private static final MethodHandle SET_DATA =
      status("dnnl_memory_set_data_handle", POINTER, POINTER);
  private static final MethodHandle EXECUTE =
      status("dnnl_primitive_execute", POINTER, POINTER, ValueLayout.JAVA_INT, POINTER);
  private static final MethodHandle DESTROY_POST_OPERATIONS =
      status("dnnl_post_ops_destroy", POINTER);
  private static final MethodHandle DESTROY_ATTRIBUTES =
      status("dnnl_primitive_attr_destroy", POINTER);
  private static final MethodHandle DESTROY_DESCRIPTION =
      status("dnnl_primitive_desc_destroy", POINTER);
  private static final MethodHandle DESTROY_DESCRIPTOR =
      status("dnnl_memory_desc_destroy", POINTER);
  private static final MethodHandle DESTROY_PRIMITIVE = status("dnnl_primitive_destroy", POINTER);
  private static final MethodHandle DESTROY_STREAM = status("dnnl_stream_destroy", POINTER);
  private static final MethodHandle DESTROY_MEMORY = status("dnnl_memory_destroy", POINTER);
  private static final MethodHandle SET_OPENMP_THREADS =
      LINKER.downcallHandle(
          LIBRARY.findOrThrow("omp_set_num_threads"),
          FunctionDescriptor.ofVoid(ValueLayout.JAVA_INT));
  private static final MethodHandle OPENMP_THREADS =
      LINKER.downcallHandle(
          LIBRARY.findOrThrow("omp_get_max_threads"), FunctionDescriptor.of(ValueLayout.JAVA_INT));

  /// Bits of `dnnl_cpu_isa_t` that AMX for bfloat16 and bytes has beyond AVX-512.
  private static final int MATRIX_UNITS = 0xE00;

  /// Whether products of bfloat16 run in AMX tiles.
  static final boolean HAS_MATRIX_UNITS = (instructions() & MATRIX_UNITS) == MATRIX_UNITS;

  private static final MemorySegment ENGINE = engine();

  private OneDnn() {}

  /// The instructions that the library uses here, a `dnnl_cpu_isa_t`.
  private static int instructions() {
    try {
      return (int) function("dnnl_get_effective_cpu_isa", ValueLayout.JAVA_INT).invokeExact();
    } catch (Throwable e) {
      throw NativeCall.failed("oneDNN", e);
    }
  }

  /// The native library, or why there is none. A class of its own, as an exception while [OneDnn]
  /// is initialised would hide the reason, and at its second use say another one.
  static final class Library {
    private static final String NAME = "libdnnl.so.3";

    private static @Nullable SymbolLookup functions;
    private static @Nullable Throwable failure;

    static {
      try {
        var file = ClassPathLibrary.of("dnnl", NAME);
        if (file == null) {
          failure = new IOException("no " + NAME + " on the class path");
        } else {
          var openMp = ClassPathLibrary.of("pytorch", "libgomp.so.1");
          if (openMp == null) {
            Libtorch.load(); // brings the OpenMP library that both use
          } else {
            SymbolLookup.libraryLookup(openMp, Arena.global()); // the same
          }
          functions = SymbolLookup.libraryLookup(file, Arena.global());
        }
      } catch (RuntimeException | LinkageError e) {
        failure = e;
      }
    }

    static SymbolLookup functions() {
      if (functions == null) {
        throw Libtorch.missing("oneDNN", Objects.requireNonNull(failure));
      }
      return functions;
    }
  }

  private static MethodHandle status(String name, MemoryLayout... arguments) {
    return function(name, ValueLayout.JAVA_INT, arguments);
  }

  private static MethodHandle function(
      String name, MemoryLayout result, MemoryLayout... arguments) {
    return LINKER.downcallHandle(
        LIBRARY.findOrThrow(name), FunctionDescriptor.of(result, arguments));
  }

  /// A product's compiled code. Any thread may run it, and several at once, each with a [Call] of
  /// its own.
  static final class Product implements AutoCloseable {
    private static final AtomicInteger OPEN = new AtomicInteger();

    private final MemorySegment primitive;
    private final MemorySegment[] descriptors;
    private final long scratchpadBytes;

    /// @param a rows, columns, strides of rows and columns; likewise b and c
    /// @param bfloat16 of a and b
    /// @param add whether the product is added to c
    Product(long[] a, long[] b, long[] c, boolean bfloat16, boolean bfloat16Result, boolean add) {
      Library.functions();
      try (var local = Arena.ofConfined()) {
        var out = local.allocate(POINTER);
        descriptors = new MemorySegment[ARGUMENTS.length];
        descriptors[0] = descriptor(local, a, bfloat16);
        descriptors[1] = descriptor(local, b, bfloat16);
        descriptors[2] = descriptor(local, c, bfloat16Result);
        check(CREATE_ATTRIBUTES.invoke(out));
        var attributes = out.get(POINTER, 0);
        // The library's own scratchpad belongs to the thread that compiles.
        check(SET_SCRATCHPAD_MODE.invoke(attributes, USER_SCRATCHPAD));
        if (add) {
          check(CREATE_POST_OPERATIONS.invoke(out));
          var operations = out.get(POINTER, 0);
          check(APPEND_SUM.invoke(operations, 1f, 0, 0));
          check(SET_POST_OPERATIONS.invoke(attributes, operations));
          check(DESTROY_POST_OPERATIONS.invoke(operations));
        }
        var description = describe(out, attributes);
        check(CREATE_PRIMITIVE.invoke(out, description));
        primitive = out.get(POINTER, 0);
        check(
            CLONE_DESCRIPTOR.invoke(
                out, (MemorySegment) QUERY_DESCRIPTOR.invoke(description, QUERY_SCRATCHPAD, 0)));
        descriptors[3] = out.get(POINTER, 0);
        scratchpadBytes = (long) DESCRIBED_BYTES.invoke(descriptors[3]);
        check(DESTROY_DESCRIPTION.invoke(description));
        check(DESTROY_ATTRIBUTES.invoke(attributes));
        OPEN.incrementAndGet();
      } catch (Throwable e) {
        throw NativeCall.failed("a matrix product", e);
      }
    }

    /// How many are not closed.
    static int open() {
      return OPEN.get();
    }

    private MemorySegment describe(MemorySegment out, MemorySegment attributes) throws Throwable {
      // The number of threads is fixed here: one, since we split products ourselves.
      int threads = (int) OPENMP_THREADS.invoke();
      SET_OPENMP_THREADS.invoke(1);
      try {
        check(
            DESCRIBE_PRODUCT.invoke(
                out,
                ENGINE,
                descriptors[0],
                descriptors[1],
                MemorySegment.NULL,
                descriptors[2],
                attributes));
        return out.get(POINTER, 0);
      } finally {
        SET_OPENMP_THREADS.invoke(threads);
      }
    }

    /// To be called when none of its calls is left.
    @Override
    public void close() {
      OPEN.decrementAndGet();
      try {
        check(DESTROY_PRIMITIVE.invoke(primitive));
        for (var descriptor : descriptors) {
          check(DESTROY_DESCRIPTOR.invoke(descriptor));
        }
      } catch (Throwable e) {
        throw NativeCall.failed("a matrix product", e);
      }
    }
  }

  /// What one thread at a time needs to run a product: a stream, and what names the memories that
  /// it works on.
  static final class Call implements AutoCloseable {
    private final Product product;
    private final MemorySegment stream;
    private final MemorySegment[] memories = new MemorySegment[ARGUMENTS.length];
    private final MemorySegment arguments =
        Arena.ofAuto().allocate(BYTES_OF_ARGUMENT * ARGUMENTS.length, 8);

    Call(Product product) {
      this.product = product;
      try (var local = Arena.ofConfined()) {
        var out = local.allocate(POINTER);
        for (int i = 0; i < memories.length; i++) {
          check(CREATE_MEMORY.invoke(out, product.descriptors[i], ENGINE, MemorySegment.NULL));
          memories[i] = out.get(POINTER, 0);
          arguments.set(ValueLayout.JAVA_INT, BYTES_OF_ARGUMENT * i, ARGUMENTS[i]);
          arguments.set(POINTER, BYTES_OF_ARGUMENT * i + 8, memories[i]);
        }
        check(CREATE_STREAM.invoke(out, ENGINE, IN_ORDER));
        stream = out.get(POINTER, 0);
      } catch (Throwable e) {
        throw NativeCall.failed("a matrix product", e);
      }
    }

    void run(MemorySegment a, MemorySegment b, MemorySegment c) {
      try {
        check((int) SET_DATA.invokeExact(memories[0], a));
        check((int) SET_DATA.invokeExact(memories[1], b));
        check((int) SET_DATA.invokeExact(memories[2], c));
        if (product.scratchpadBytes > 0) {
          long floats = Math.ceilDiv(product.scratchpadBytes, Float.BYTES);
          var scratchpad = Scratch.numbers("product", floats, false).memory();
          check((int) SET_DATA.invokeExact(memories[3], scratchpad));
        }
        check((int) EXECUTE.invokeExact(product.primitive, stream, memories.length, arguments));
      } catch (Throwable e) {
        throw NativeCall.failed("a matrix product", e);
      }
    }

    @Override
    public void close() {
      try {
        check(DESTROY_STREAM.invoke(stream));
        for (var memory : memories) {
          check(DESTROY_MEMORY.invoke(memory));
        }
      } catch (Throwable e) {
        throw NativeCall.failed("a matrix product", e);
      }
    }
  }

  private static MemorySegment descriptor(Arena arena, long[] matrix, boolean bfloat16)
      throws Throwable {
    var out = arena.allocate(POINTER);
    var sizes = arena.allocateFrom(ValueLayout.JAVA_LONG, matrix[0], matrix[1]);
    var strides = arena.allocateFrom(ValueLayout.JAVA_LONG, matrix[2], matrix[3]);
    check(CREATE_DESCRIPTOR.invoke(out, 2, sizes, bfloat16 ? BFLOAT16 : FLOAT32, strides));
    return out.get(POINTER, 0);
  }

  private static MemorySegment engine() {
    try (var local = Arena.ofConfined()) {
      var out = local.allocate(POINTER);
      check(
          status("dnnl_engine_create", POINTER, ValueLayout.JAVA_INT, ValueLayout.JAVA_LONG)
              .invoke(out, CPU, 0L));
      return out.get(POINTER, 0);
    } catch (Throwable e) {
      throw NativeCall.failed("a matrix product", e);
    }
  }

  private static void check(Object status) {
    check((int) status);
  }

  private static void check(int status) {
    if (status == OUT_OF_MEMORY) {
      throw new OutOfMemoryError("no memory for a matrix product");
    }
    if (status != 0) {
      throw new IllegalStateException("oneDNN answered status " + status);
    }
  }
}
