package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.files.Failures;
import dev.sluice.files.WholeFile;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;

/// Writes safetensors files with the bytes that the reference implementation writes for the same
/// tensors, so that two files can be compared by their checksum.
public final class SafetensorsWriter {
  /// Large enough for the disk's full speed, small enough to be nothing beside a model.
  private static final long CHUNK = 8 << 20;

  private SafetensorsWriter() {}

  /// Gives a tensor's bytes, as many as it has, when it is their turn to be written.
  @FunctionalInterface
  interface Numbers {
    void writeTo(StoredTensor tensor, Data out) throws IOException;
  }

  /// Takes a tensor's bytes.
  @FunctionalInterface
  interface Data {
    void write(MemorySegment bytes) throws IOException;
  }

  /// Writes a new file and returns when it is on the disk. An existing file is refused rather than
  /// overwritten: it may be mapped, and truncating a mapped file kills whoever reads it. What a
  /// failure leaves is removed.
  ///
  /// @param metadata written in its order; none if empty
  public static void write(
      Path path, Map<String, String> metadata, List<SafetensorsFile.Entry> entries)
      throws IOException {
    Map<String, MemorySegment> data = new HashMap<>();
    entries.forEach(entry -> data.put(entry.name(), entry.data()));
    write(
        path,
        metadata,
        entries.stream().map(StoredTensor::of).toList(),
        (tensor, out) -> out.write(Objects.requireNonNull(data.get(tensor.name()))));
  }

  /// The same of tensors whose numbers need not be there at one time.
  static void write(
      Path path, Map<String, String> metadata, List<StoredTensor> tensors, Numbers numbers)
      throws IOException {
    checkNames(tensors);
    if (Files.isDirectory(path) || Files.isRegularFile(path)) {
      throw new InvalidInputException(path + " exists already; name a new file or remove it first");
    }
    byte[] header = SafetensorsHeader.layOut(metadata, tensors).toBytes();
    boolean created = Files.notExists(path, LinkOption.NOFOLLOW_LINKS);
    try (var channel =
        FileChannel.open(
            path,
            Set.of(
                StandardOpenOption.WRITE,
                created ? StandardOpenOption.CREATE_NEW : LinkOption.NOFOLLOW_LINKS))) {
      write(channel, header, tensors, numbers);
    } catch (IOException e) {
      if (created) {
        Files.deleteIfExists(path);
      }
      throw Failures.notWritten(path, e);
    }
  }

  private static void checkNames(List<StoredTensor> tensors) {
    Set<String> names = new HashSet<>();
    for (var tensor : tensors) {
      if (!names.add(tensor.name()) || tensor.name().equals("__metadata__")) {
        throw new IllegalArgumentException(
            "tensor name %s is reserved or given twice".formatted(Listing.quoted(tensor.name())));
      }
    }
  }

  private static void write(
      FileChannel channel, byte[] header, List<StoredTensor> tensors, Numbers numbers)
      throws IOException {
    var length = ByteBuffer.allocate(Long.BYTES).order(ByteOrder.LITTLE_ENDIAN);
    WholeFile.writeAll(channel, length.putLong(header.length).flip());
    WholeFile.writeAll(channel, ByteBuffer.wrap(header));
    for (var tensor : tensors.stream().sorted(StoredTensor.REFERENCE_ORDER).toList()) {
      long end = channel.position() + tensor.bytes();
      numbers.writeTo(tensor, bytes -> write(channel, bytes));
      if (channel.position() != end) {
        throw new IllegalStateException(
            "%s ends at %d, not at %d".formatted(tensor, channel.position(), end));
      }
    }
    channel.force(true);
  }

  private static void write(FileChannel channel, MemorySegment data) throws IOException {
    for (long begin = 0; begin < data.byteSize(); begin += CHUNK) {
      var chunk = data.asSlice(begin, Math.min(CHUNK, data.byteSize() - begin));
      if (chunk.isNative()) {
        WholeFile.writeAll(channel, chunk.asByteBuffer());
      } else {
        try (var arena = Arena.ofConfined()) {
          WholeFile.writeAll(
              channel, arena.allocate(chunk.byteSize()).copyFrom(chunk).asByteBuffer());
        }
      }
    }
  }
}
