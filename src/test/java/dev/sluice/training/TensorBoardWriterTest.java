package dev.sluice.training;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.time.InstantSource;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class TensorBoardWriterTest {
  private static final InstantSource CLOCK =
      InstantSource.fixed(Instant.ofEpochSecond(1_700_000_000L, 500_000_000));

  @TempDir Path run;

  @Test
  void maskedCrcOfKnownBytes() {
    // As TensorBoard's own record_writer computes it.
    byte[] digits = "123456789".getBytes(StandardCharsets.US_ASCII);
    assertEquals(0xc78ab0e5, TensorBoardWriter.maskedCrc(digits, digits.length));
  }

  @Test
  void eventsAreTheBytesOfTheFormat() throws IOException {
    try (var writer = TensorBoardWriter.start(run, CLOCK)) {
      writer.scalar("loss", 300, 2.5);
    }
    Path file = run.resolve("events.out.tfevents.1700000000.sluice");
    List<byte[]> events = events(file);
    assertEquals(2, events.size());
    String wallTime = "09" + "00002040fc54d941";
    assertArrayEquals(
        HexFormat.of().parseHex(wallTime + "1000" + "1a0d" + hex("brain.Event:2")), events.get(0));
    assertArrayEquals(
        HexFormat.of()
            .parseHex(
                wallTime + "10ac02" + "2a0d" + "0a0b" + "0a04" + hex("loss") + "15" + "00002040"),
        events.get(1));
  }

  @Test
  void longTagsAndSecondFiles() throws IOException {
    String tag = "sink/" + "x".repeat(1000);
    try (var writer = TensorBoardWriter.start(run, CLOCK)) {
      writer.scalar(tag, Long.MAX_VALUE, Double.NaN);
    }
    try (var writer = TensorBoardWriter.resume(run, 300, CLOCK)) {
      writer.scalar("loss", 301, 2.5);
    }
    List<byte[]> first = events(run.resolve("events.out.tfevents.1700000000.sluice"));
    assertTrue(new String(first.get(1), StandardCharsets.ISO_8859_1).contains(tag));
    List<byte[]> second = events(run.resolve("events.out.tfevents.1700000001.sluice"));
    assertEquals(3, second.size());
    // step 301, session_log { status: START }
    assertTrue(HexFormat.of().formatHex(second.get(1)).endsWith("10ad02" + "3a02" + "0801"));
  }

  private static String hex(String text) {
    return HexFormat.of().formatHex(text.getBytes(StandardCharsets.UTF_8));
  }

  /// Reads TFRecords and checks both checksums of each.
  private static List<byte[]> events(Path file) throws IOException {
    var bytes = ByteBuffer.wrap(Files.readAllBytes(file)).order(ByteOrder.LITTLE_ENDIAN);
    List<byte[]> events = new ArrayList<>();
    while (bytes.hasRemaining()) {
      byte[] length = new byte[8];
      bytes.get(bytes.position(), length);
      byte[] event = new byte[(int) bytes.getLong()];
      assertEquals(TensorBoardWriter.maskedCrc(length, 8), bytes.getInt());
      bytes.get(event);
      assertEquals(TensorBoardWriter.maskedCrc(event, event.length), bytes.getInt());
      events.add(event);
    }
    return events;
  }
}
