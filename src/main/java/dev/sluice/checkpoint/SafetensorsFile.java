package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.files.Failures;
import dev.sluice.files.RegularFile;
import dev.sluice.tensor.ElementType;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SequencedMap;
import java.util.Set;

/// A safetensors file, mapped into memory and read only.
///
///     8 bytes   N, the length of the header, little-endian
///     N bytes   JSON: name → dtype, shape, data_offsets; `__metadata__` → free text
///     the rest  the tensors' data, little-endian, without gap or overlap
///
/// Opening checks the whole header against the file's size and reads no tensor, so it takes the
/// same time whatever the file's size. The segments end with [#close()].
public final class SafetensorsFile implements AutoCloseable {
  private static final ValueLayout.OfLong LENGTH =
      ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  private final Path path;
  private final Arena arena;
  private final Map<String, String> metadata;
  private final SequencedMap<String, Entry> entries;

  /// A tensor's name, type, shape and bytes.
  ///
  /// @param data row-major and little-endian; where another program's file holds an odd header it
  ///   need not be aligned to the element size
  public record Entry(String name, ElementType type, List<Long> shape, MemorySegment data) {
    public Entry {
      shape = List.copyOf(shape);
      for (long dimension : shape) {
        if (dimension < 0) {
          throw new IllegalArgumentException(
              "tensor %s has shape %s".formatted(Listing.quoted(name), shape));
        }
      }
      long needed = SafetensorsHeader.bytes(type, shape);
      if (data.byteSize() != needed) {
        throw new IllegalArgumentException(
            "tensor %s of shape %s and type %s needs %d bytes, not %d"
                .formatted(Listing.quoted(name), shape, type, needed, data.byteSize()));
      }
    }
  }

  private SafetensorsFile(
      Path path, Arena arena, Map<String, String> metadata, SequencedMap<String, Entry> entries) {
    this.path = path;
    this.arena = arena;
    this.metadata = metadata;
    this.entries = entries;
  }

  /// Maps a file and checks its header; a file that is no good is an error that says why.
  @SuppressWarnings("MustBeClosedChecker") // close() closes the arena
  public static SafetensorsFile open(Path path) {
    return open(path, false);
  }

  /// @param takesFloat8 whether F8_E4M3 is a type of tensors, which are then entries of bytes: it
  ///   means something only with scales that the file does not tell of
  @SuppressWarnings("MustBeClosedChecker")
  static SafetensorsFile open(Path path, boolean takesFloat8) {
    RegularFile.require(path, "name a .safetensors file");
    Arena arena = Arena.ofShared();
    try (var channel = FileChannel.open(path, StandardOpenOption.READ)) {
      var mapped = channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size(), arena);
      return parse(path, arena, mapped, takesFloat8);
    } catch (IOException e) {
      arena.close();
      throw new InvalidInputException(
          path + " cannot be read (" + Failures.words(e) + "); check its permissions and its disk",
          e);
    } catch (RuntimeException | Error e) {
      arena.close();
      throw e;
    }
  }

  private static SafetensorsFile parse(
      Path path, Arena arena, MemorySegment mapped, boolean takesFloat8) {
    long size = mapped.byteSize();
    if (size < Long.BYTES) {
      throw new InvalidInputException(
          path
              + " has "
              + size
              + " bytes, too few for a safetensors file, so it is truncated; fetch or save it"
              + " again");
    }
    long headerBytes = mapped.get(LENGTH, 0);
    if (headerBytes < 0 || headerBytes > SafetensorsHeader.MAX_BYTES) {
      throw new InvalidInputException(
          path
              + " says that its header has "
              + Long.toUnsignedString(headerBytes)
              + " bytes, more than the "
              + SafetensorsHeader.MAX_BYTES
              + " that the format allows, so it is not a safetensors file; "
              + (isPointer(mapped)
                  ? "it is a Git LFS pointer: run git lfs pull"
                  : "name one or fetch it again"));
    }
    long dataBegin = Long.BYTES + headerBytes;
    if (dataBegin > size) {
      throw truncated(path, dataBegin, size);
    }
    var header =
        SafetensorsHeader.parse(
            path,
            mapped.asSlice(Long.BYTES, headerBytes).toArray(ValueLayout.JAVA_BYTE),
            takesFloat8);
    long expected = dataBegin + header.dataBytes();
    if (expected > size || expected < 0) {
      throw truncated(path, expected, size);
    }
    if (expected < size) {
      throw new InvalidInputException(
          ("%s has %d bytes but its header describes only %d, so %d bytes belong to no tensor;"
                  + " fetch or save it again")
              .formatted(path, size, expected, size - expected));
    }
    SequencedMap<String, Entry> entries = new LinkedHashMap<>();
    for (var slot : header.slots()) {
      var data = mapped.asSlice(dataBegin + slot.begin(), slot.end() - slot.begin());
      entries.put(slot.name(), new Entry(slot.name(), slot.type(), slot.shape(), data));
    }
    return new SafetensorsFile(path, arena, header.metadata(), entries);
  }

  private static InvalidInputException truncated(Path path, long expected, long size) {
    return new InvalidInputException(
        "%s has %d bytes but its header describes %s, so it is truncated; fetch or save it again"
            .formatted(path, size, Long.toUnsignedString(expected)));
  }

  /// What a clone without Git LFS leaves in place of a large file.
  private static boolean isPointer(MemorySegment mapped) {
    byte[] pointer = "version https://git-lfs".getBytes(StandardCharsets.US_ASCII);
    return mapped.byteSize() >= pointer.length
        && mapped.asSlice(0, pointer.length).mismatch(MemorySegment.ofArray(pointer)) < 0;
  }

  public Path path() {
    return path;
  }

  /// The free text of the file, in its order; empty if it has none.
  public Map<String, String> metadata() {
    return metadata;
  }

  /// All tensors in the order of their data.
  public List<Entry> entries() {
    return List.copyOf(entries.values());
  }

  /// The names of all tensors in the order of their data.
  public Set<String> names() {
    return Collections.unmodifiableSet(entries.keySet());
  }

  /// The tensor of that name; if there is none, an error that says so.
  public Entry entry(String name) {
    Entry entry = entries.get(name);
    if (entry == null) {
      throw new InvalidInputException(
          "%s holds no tensor %s among its %d; check that it belongs to this model"
              .formatted(path, Listing.quoted(name), entries.size()));
    }
    return entry;
  }

  /// Unmaps the file; a segment of it that is still in use elsewhere fails from here on.
  @Override
  public void close() {
    if (arena.scope().isAlive()) {
      arena.close();
    }
  }
}
