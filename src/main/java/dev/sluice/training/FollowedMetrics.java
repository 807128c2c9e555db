package dev.sluice.training;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Arrays;

/// A run's record that another process writes meanwhile: each time it is asked, only what was added
/// is read. A last line without its end is one that is being written; it waits for the next time. A
/// record that was cut or written anew, as by a run that was resumed, is read from its start.
///
/// Not thread-safe.
public final class FollowedMetrics {
  private static final int BUFFER = 1 << 16;

  private final Path file;
  private RunMetrics metrics = new RunMetrics();
  private long read;
  private byte[] lastLine = {};
  private long passedOver;
  private boolean isTooLong;

  private FollowedMetrics(Path file) {
    this.file = file;
  }

  /// Follows `metrics.jsonl` of a run directory.
  public static FollowedMetrics metrics(Path runDirectory) {
    return new FollowedMetrics(runDirectory.resolve(MetricsWriter.METRICS));
  }

  /// Follows `timings.jsonl` of a run directory.
  public static FollowedMetrics timings(Path runDirectory) {
    return new FollowedMetrics(runDirectory.resolve(MetricsWriter.TIMINGS));
  }

  /// Reads what was added. Where the file is not there, what was read before stays.
  ///
  /// @return whether there is anything new
  public boolean update() throws IOException {
    if (!Files.isRegularFile(file)) {
      return false;
    }
    try (var channel = FileChannel.open(file, StandardOpenOption.READ)) {
      boolean again = !goesOn(channel);
      if (again) {
        metrics = new RunMetrics();
        read = 0;
        lastLine = new byte[0];
        passedOver = 0;
        isTooLong = false;
      }
      long before = read;
      readLines(channel);
      return again || read > before;
    }
  }

  /// Whether the line that was read last still stands where it stood.
  private boolean goesOn(FileChannel channel) throws IOException {
    if (channel.size() < read) {
      return false;
    }
    var there = ByteBuffer.allocate(lastLine.length);
    long at = read - lastLine.length;
    while (there.hasRemaining()) {
      int bytes = channel.read(there, at + there.position());
      if (bytes < 0) {
        return false;
      }
    }
    return Arrays.equals(there.array(), lastLine);
  }

  private void readLines(FileChannel channel) throws IOException {
    var line = new ByteArrayOutputStream();
    var buffer = ByteBuffer.allocate(BUFFER);
    long at = read;
    while (!isTooLong && channel.read(buffer.clear(), at) > 0) {
      at += buffer.flip().remaining();
      while (buffer.hasRemaining()) {
        byte b = buffer.get();
        line.write(b);
        if (b == '\n') {
          take(line.toByteArray());
          line.reset();
        }
      }
      isTooLong = line.size() > RunMetrics.LONGEST_LINE;
    }
  }

  private void take(byte[] line) {
    var object = RunMetrics.object(file, Arrays.copyOf(line, line.length - 1));
    if (object == null) {
      passedOver++;
    } else {
      metrics.add(object);
    }
    read += line.length;
    lastLine = line;
  }

  /// What was read so far. It grows with the next [#update].
  public RunMetrics metrics() {
    return metrics;
  }

  /// What is wrong with the record, in a sentence; empty if nothing.
  public String damage() {
    if (isTooLong) {
      return "%s has a line of more than %d bytes; nothing is shown of it from there on."
          .formatted(file, RunMetrics.LONGEST_LINE);
    }
    return passedOver == 0
        ? ""
        : "%s has %d lines that are no JSON objects with a step; they are not shown."
            .formatted(file, passedOver);
  }
}
