package dev.sluice.gguf;

import dev.sluice.files.WholeFile;
import dev.sluice.gguf.GgufMetadata.Kind;
import dev.sluice.kernel.WeightFormat;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/// Writes a GGUF file of version 3 with the alignment of 32, which is there whole or not at all.
/// Metadata stand in the order in which they were given.
public final class GgufWriter {
  private static final int ALIGNMENT = 32;
  private static final int VERSION = 3;

  /// Bytes that are written at a time.
  private static final int CHUNK = 1 << 20;

  private final ByteArrayOutputStream metadata = new ByteArrayOutputStream();
  private final Set<String> keys = new HashSet<>();

  /// A tensor before its blocks are there.
  ///
  /// @param shape row-major
  public record Planned(String name, WeightFormat format, List<Long> shape) {
    public Planned {
      shape = List.copyOf(shape);
    }

    /// How many bytes its blocks have.
    public long bytes() {
      return format.bytes(GgufTensor.elements(shape));
    }
  }

  /// Gives a tensor's blocks, when it is their turn to be written.
  @FunctionalInterface
  public interface Blocks {
    /// @param out takes the bytes in order, in pieces of any size
    void writeTo(Planned tensor, Data out) throws IOException;
  }

  /// Takes bytes.
  @FunctionalInterface
  public interface Data {
    void write(MemorySegment bytes) throws IOException;
  }

  // ---------------------------------------------------------------- metadata

  public GgufWriter whole(String key, long value) {
    begin(key, Kind.U32);
    if (value < 0 || value > 0xFFFF_FFFFL) {
      throw new IllegalArgumentException("%s %d is no u32".formatted(key, value));
    }
    put(4, value);
    return this;
  }

  public GgufWriter number(String key, double value) {
    begin(key, Kind.F32);
    put(4, Float.floatToRawIntBits((float) value));
    return this;
  }

  public GgufWriter flag(String key, boolean value) {
    begin(key, Kind.BOOL);
    metadata.write(value ? 1 : 0);
    return this;
  }

  public GgufWriter text(String key, String value) {
    begin(key, Kind.STRING);
    put(value);
    return this;
  }

  public GgufWriter texts(String key, List<String> values) {
    list(key, Kind.STRING, values.size());
    values.forEach(this::put);
    return this;
  }

  public GgufWriter wholes(String key, int[] values) {
    list(key, Kind.I32, values.length);
    for (int value : values) {
      put(4, value);
    }
    return this;
  }

  public GgufWriter numbers(String key, double[] values) {
    list(key, Kind.F32, values.length);
    for (double value : values) {
      put(4, Float.floatToRawIntBits((float) value));
    }
    return this;
  }

  public GgufWriter flags(String key, boolean[] values) {
    list(key, Kind.BOOL, values.length);
    for (boolean value : values) {
      metadata.write(value ? 1 : 0);
    }
    return this;
  }

  private void list(String key, Kind kind, int count) {
    begin(key, Kind.ARRAY);
    put(4, kind.number);
    put(8, count);
  }

  private void begin(String key, Kind kind) {
    if (!keys.add(key)) {
      throw new IllegalArgumentException(key + " is given twice");
    }
    put(key);
    put(4, kind.number);
  }

  private void put(String text) {
    put(metadata, text);
  }

  private void put(int bytes, long value) {
    put(metadata, bytes, value);
  }

  private static void put(ByteArrayOutputStream out, String text) {
    byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
    put(out, 8, bytes.length);
    out.writeBytes(bytes);
  }

  /// The lowest bytes of a number, little-endian.
  private static void put(ByteArrayOutputStream out, int bytes, long value) {
    out.write(
        ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN).putLong(value).array(), 0, bytes);
  }

  // ---------------------------------------------------------------- the file

  /// Writes the file in place of what `target` holds.
  public void write(Path target, List<Planned> tensors, Blocks blocks) throws IOException {
    byte[] header = header(tensors);
    WholeFile.write(
        target,
        out -> {
          out.write(header);
          pad(out, header.length);
          for (var tensor : tensors) {
            long[] written = new long[1];
            blocks.writeTo(
                tensor,
                bytes -> {
                  written[0] += bytes.byteSize();
                  write(out, bytes);
                });
            if (written[0] != tensor.bytes()) {
              throw new IllegalStateException(
                  "%d bytes were written of %s, which has %d"
                      .formatted(written[0], tensor, tensor.bytes()));
            }
            pad(out, written[0]);
          }
        });
  }

  private byte[] header(List<Planned> tensors) {
    var out = new ByteArrayOutputStream();
    put(out, 4, GgufHeader.MAGIC);
    put(out, 4, VERSION);
    put(out, 8, tensors.size());
    put(out, 8, keys.size());
    out.writeBytes(metadata.toByteArray());
    Set<String> names = new HashSet<>();
    long offset = 0;
    for (var tensor : tensors) {
      if (!names.add(tensor.name)) {
        throw new IllegalArgumentException(tensor.name + " is given twice");
      }
      put(out, tensor.name);
      put(out, 4, tensor.shape.size());
      tensor.shape.reversed().forEach(dimension -> put(out, 8, dimension));
      put(out, 4, tensor.format.number());
      put(out, 8, offset);
      offset += Math.ceilDiv(tensor.bytes(), ALIGNMENT) * ALIGNMENT;
    }
    return out.toByteArray();
  }

  private static void pad(OutputStream out, long written) throws IOException {
    out.write(new byte[(int) (Math.ceilDiv(written, ALIGNMENT) * ALIGNMENT - written)]);
  }

  private static void write(OutputStream out, MemorySegment bytes) throws IOException {
    for (long at = 0; at < bytes.byteSize(); at += CHUNK) {
      out.write(
          bytes.asSlice(at, Math.min(CHUNK, bytes.byteSize() - at)).toArray(ValueLayout.JAVA_BYTE));
    }
  }
}
