package dev.sluice.tensor;

import dev.sluice.InvalidInputException;
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
import org.bytedeco.javacpp.Loader;

/// The functions of oneDNN's C interface that [MatrixProduct] calls. libtorch has a oneDNN of its
/// own, but hides it; this one comes from the preset's native library.
@SuppressWarnings("restricted")
final class OneDnn {
  private static final AddressLayout POINTER = ValueLayout.ADDRESS;
  private static final Linker LINKER = Linker.nativeLinker();
  private static final Arena FOREVER = Arena.global();

  private static final int BFLOAT16 = 2;
  private static final int FLOAT32 = 3;
  private static final int CPU = 1;
  private static final int IN_ORDER = 1;
  private static final int[] ARGUMENTS = {1, 33, 17}; // source, weights, destination

  private static final SymbolLookup LIBRARY = load();
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

  private static final MemorySegment ENGINE =
      create("dnnl_engine_create", ValueLayout.JAVA_INT, CPU, ValueLayout.JAVA_LONG, 0L);

  private OneDnn() {}

  private static SymbolLookup load() {
    String name = "/org/bytedeco/dnnl/" + Loader.getPlatform() + "/libdnnl.so.3";
    try {
      Libtorch.load(); // brings the OpenMP library that both use
      var file = Loader.cacheResource(OneDnn.class, name);
      if (file == null) {
        throw new InvalidInputException(
            "oneDNN is missing for "
                + Loader.getPlatform()
                + "; the tested platform is Linux on x86-64");
      }
      return SymbolLookup.libraryLookup(file.toPath(), FOREVER);
    } catch (IOException e) {
      throw new InvalidInputException("oneDNN cannot be unpacked: " + e.getMessage(), e);
    }
  }

  private static MethodHandle status(String name, MemoryLayout... arguments) {
    return LINKER.downcallHandle(
        LIBRARY.findOrThrow(name), FunctionDescriptor.of(ValueLayout.JAVA_INT, arguments));
  }

  /// A product's compiled code with the three memories it works on; of one thread.
  static final class Product implements AutoCloseable {
    private final Arena arena = Arena.ofConfined();
    private final MemorySegment primitive;
    private final MemorySegment stream;
    private final MemorySegment arguments;
    private final MemorySegment[] memories = new MemorySegment[3];

    /// @param a rows, columns, strides of rows and columns; likewise b and c
    /// @param bfloat16 of a and b
    /// @param add whether the product is added to c
    Product(long[] a, long[] b, long[] c, boolean bfloat16, boolean bfloat16Result, boolean add) {
      try (var local = Arena.ofConfined()) {
        var out = local.allocate(POINTER);
        var descriptors =
            new MemorySegment[] {
              descriptor(local, a, bfloat16),
              descriptor(local, b, bfloat16),
              descriptor(local, c, bfloat16Result)
            };
        check(CREATE_ATTRIBUTES.invoke(out));
        var attributes = out.get(POINTER, 0);
        if (add) {
          check(CREATE_POST_OPERATIONS.invoke(out));
          var operations = out.get(POINTER, 0);
          check(APPEND_SUM.invoke(operations, 1f, 0, 0));
          check(SET_POST_OPERATIONS.invoke(attributes, operations));
          check(DESTROY_POST_OPERATIONS.invoke(operations));
        }
        primitive = primitive(out, descriptors, attributes);
        check(DESTROY_ATTRIBUTES.invoke(attributes));
        stream = create("dnnl_stream_create", POINTER, ENGINE, ValueLayout.JAVA_INT, IN_ORDER);
        arguments = arena.allocate(16L * memories.length, 8);
        for (int i = 0; i < memories.length; i++) {
          check(CREATE_MEMORY.invoke(out, descriptors[i], ENGINE, MemorySegment.NULL));
          memories[i] = out.get(POINTER, 0);
          arguments.set(ValueLayout.JAVA_INT, 16L * i, ARGUMENTS[i]);
          arguments.set(POINTER, 16L * i + 8, memories[i]);
          check(DESTROY_DESCRIPTOR.invoke(descriptors[i]));
        }
      } catch (Throwable e) {
        throw NativeCall.failed("a matrix product", e);
      }
    }

    private static MemorySegment primitive(
        MemorySegment out, MemorySegment[] descriptors, MemorySegment attributes) throws Throwable {
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
        var description = out.get(POINTER, 0);
        check(CREATE_PRIMITIVE.invoke(out, description));
        check(DESTROY_DESCRIPTION.invoke(description));
        return out.get(POINTER, 0);
      } finally {
        SET_OPENMP_THREADS.invoke(threads);
      }
    }

    void run(MemorySegment a, MemorySegment b, MemorySegment c) {
      try {
        check((int) SET_DATA.invokeExact(memories[0], a));
        check((int) SET_DATA.invokeExact(memories[1], b));
        check((int) SET_DATA.invokeExact(memories[2], c));
        check((int) EXECUTE.invokeExact(primitive, stream, 3, arguments));
      } catch (Throwable e) {
        throw NativeCall.failed("a matrix product", e);
      }
    }

    /// To be called by the thread that made it.
    @Override
    public void close() {
      try {
        check(DESTROY_PRIMITIVE.invoke(primitive));
        check(DESTROY_STREAM.invoke(stream));
        for (var memory : memories) {
          check(DESTROY_MEMORY.invoke(memory));
        }
        arena.close();
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

  private static MemorySegment create(
      String function, MemoryLayout first, Object one, MemoryLayout second, Object two) {
    try (var arena = Arena.ofConfined()) {
      var out = arena.allocate(POINTER);
      check(status(function, POINTER, first, second).invoke(out, one, two));
      return out.get(POINTER, 0);
    } catch (Throwable e) {
      throw NativeCall.failed("a matrix product", e);
    }
  }

  private static void check(Object status) {
    check((int) status);
  }

  private static void check(int status) {
    if (status != 0) {
      throw new IllegalStateException("oneDNN answered status " + status);
    }
  }
}
