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
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/// Writes safetensors files with the bytes that the reference implementation writes for the same
/// tensors, so that two files can be compared by their checksum.
public final class SafetensorsWriter {
  /// Large enough for the disk's full speed, small enough to be nothing beside a model.
  private static final long CHUNK = 8 << 20;

  private SafetensorsWriter() {}

  /// Writes a new file and returns when it is on the disk. An existing file is refused rather than
  /// overwritten: it may be mapped, and truncating a mapped file kills whoever reads it. What a
  /// failure leaves is removed.
  ///
  /// @param metadata written in its order; none if empty
  public static void write(
      Path path, Map<String, String> metadata, List<SafetensorsFile.Entry> entries)
      throws IOException {
    checkNames(entries);
    if (Files.isDirectory(path) || Files.isRegularFile(path)) {
      throw new InvalidInputException(path + " exists already; name a new file or remove it first");
    }
    byte[] header = SafetensorsHeader.layOut(metadata, entries).toBytes();
    boolean created = Files.notExists(path, LinkOption.NOFOLLOW_LINKS);
    try (var channel =
        FileChannel.open(
            path,
            Set.of(
                StandardOpenOption.WRITE,
                created ? StandardOpenOption.CREATE_NEW : LinkOption.NOFOLLOW_LINKS))) {
      write(channel, header, entries);
    } catch (IOException e) {
      if (created) {
        Files.deleteIfExists(path);
      }
      throw Failures.notWritten(path, e);
    }
  }

  private static void checkNames(List<SafetensorsFile.Entry> entries) {
    Set<String> names = new HashSet<>();
    for (var entry : entries) {
      if (!names.add(entry.name()) || entry.name().equals("__metadata__")) {
        throw new IllegalArgumentException(
            "tensor name %s is reserved or given twice".formatted(Listing.quoted(entry.name())));
      }
    }
  }

  private static void write(FileChannel channel, byte[] header, List<SafetensorsFile.Entry> entries)
      throws IOException {
    var length = ByteBuffer.allocate(Long.BYTES).order(ByteOrder.LITTLE_ENDIAN);
    WholeFile.writeAll(channel, length.putLong(header.length).flip());
    WholeFile.writeAll(channel, ByteBuffer.wrap(header));
    for (var entry : entries.stream().sorted(SafetensorsHeader.REFERENCE_ORDER).toList()) {
      write(channel, entry.data());
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
