package dev.sluice.training;

import dev.sluice.files.WholeFile;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.time.InstantSource;
import java.util.zip.CRC32C;

/// Scalars for TensorBoard: a file of TFRecords, each of which holds one `Event` message.
///
///     8 bytes   length of the message, little-endian
///     4 bytes   masked CRC-32C of those eight bytes
///     n bytes   the message, in protocol buffers' encoding
///     4 bytes   masked CRC-32C of the message
///
/// The few messages that are needed are encoded by hand (`event.proto` and `summary.proto` of
/// TensorBoard have the field numbers); that is less than a dependency.
public final class TensorBoardWriter implements AutoCloseable {
  private static final int VARINT = 0;
  private static final int FIXED64 = 1;
  private static final int BYTES = 2;
  private static final int FIXED32 = 5;

  private final FileChannel file;
  private final InstantSource clock;

  private TensorBoardWriter(FileChannel file, InstantSource clock) {
    this.file = file;
    this.clock = clock;
  }

  /// Begins the events of a new run.
  public static TensorBoardWriter start(Path directory, InstantSource clock) throws IOException {
    var writer = new TensorBoardWriter(create(directory, clock.instant()), clock);
    // Event { wall_time = 1, file_version = 3 }
    writer.write(writer.event(0, 3, "brain.Event:2".getBytes(StandardCharsets.UTF_8)));
    return writer;
  }

  /// Goes on after `step` in a further file, which tells TensorBoard to forget what earlier files
  /// say of later steps.
  public static TensorBoardWriter resume(Path directory, long step, InstantSource clock)
      throws IOException {
    var writer = start(directory, clock);
    // Event { wall_time = 1, step = 2, session_log = 7 { status = 1: START (1) } }
    writer.write(writer.event(step + 1, 7, new Message().varint(1, 1).bytes()));
    return writer;
  }

  /// TensorBoard reads the files of a directory in the order of their names, so a second file
  /// within one second takes the next second's name.
  private static FileChannel create(Path directory, Instant now) throws IOException {
    Files.createDirectories(directory);
    for (long second = now.getEpochSecond(); ; second++) {
      try {
        return WholeFile.create(directory.resolve("events.out.tfevents." + second + ".sluice"));
      } catch (FileAlreadyExistsException e) {
        // Taken: try the next second.
      }
    }
  }

  /// Appends one point of the curve `tag`.
  public void scalar(String tag, long step, double value) throws IOException {
    // Event { wall_time = 1, step = 2, summary = 5 { value = 1 { tag = 1, simple_value = 2 } } }
    byte[] point =
        new Message()
            .bytes(1, tag.getBytes(StandardCharsets.UTF_8))
            .fixed32(2, (float) value)
            .bytes();
    write(event(step, 5, new Message().bytes(1, point).bytes()));
  }

  @Override
  public void close() throws IOException {
    file.close();
  }

  private byte[] event(long step, int field, byte[] value) {
    Instant now = clock.instant();
    double seconds = now.getEpochSecond() + now.getNano() / 1e9;
    return new Message().fixed64(1, seconds).varint(2, step).bytes(field, value).bytes();
  }

  private void write(byte[] event) throws IOException {
    var record =
        ByteBuffer.allocate(Long.BYTES + Integer.BYTES + event.length + Integer.BYTES)
            .order(ByteOrder.LITTLE_ENDIAN);
    record.putLong(event.length);
    record.putInt(maskedCrc(record.array(), Long.BYTES));
    record.put(event).putInt(maskedCrc(event, event.length)).flip();
    WholeFile.writeAll(file, record);
  }

  /// TFRecord's mask, so that the checksum of bytes that contain checksums stays sound: rotate
  /// right by 15 bits and add a constant.
  static int maskedCrc(byte[] bytes, int length) {
    var crc = new CRC32C();
    crc.update(bytes, 0, length);
    return Integer.rotateRight((int) crc.getValue(), 15) + 0xa282ead8;
  }

  /// A protocol buffers message under construction. An event is small, so growing by doubling is
  /// all the care it needs.
  private static final class Message {
    private ByteBuffer buffer = ByteBuffer.allocate(64).order(ByteOrder.LITTLE_ENDIAN);

    Message varint(int field, long value) {
      tag(field, VARINT);
      number(value);
      return this;
    }

    Message fixed64(int field, double value) {
      tag(field, FIXED64);
      room(Double.BYTES).putDouble(value);
      return this;
    }

    Message fixed32(int field, float value) {
      tag(field, FIXED32);
      room(Float.BYTES).putFloat(value);
      return this;
    }

    Message bytes(int field, byte[] value) {
      tag(field, BYTES);
      number(value.length);
      room(value.length).put(value);
      return this;
    }

    byte[] bytes() {
      byte[] result = new byte[buffer.position()];
      buffer.get(0, result);
      return result;
    }

    private void tag(int field, int wireType) {
      number((long) field << 3 | wireType);
    }

    /// Seven bits a byte, lowest first; the top bit says that more follow.
    private void number(long value) {
      long rest = value;
      while ((rest & ~0x7fL) != 0) {
        room(1).put((byte) ((rest & 0x7f) | 0x80));
        rest >>>= 7;
      }
      room(1).put((byte) rest);
    }

    private ByteBuffer room(int bytes) {
      if (buffer.remaining() < bytes) {
        var larger = ByteBuffer.allocate(2 * (buffer.capacity() + bytes));
        buffer = larger.put(buffer.flip()).order(ByteOrder.LITTLE_ENDIAN);
      }
      return buffer;
    }
  }
}
