package dev.sluice.files;

import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;

/// SHA-256 of texts and files.
public final class Sha256 {
  private static final int SAMPLES = 64;
  private static final int SAMPLE = 1 << 12;

  private Sha256() {}

  public static MessageDigest digest() {
    try {
      return MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException e) {
      throw new AssertionError("every Java platform has SHA-256", e);
    }
  }

  /// Adds a text with its length before it, so that neighbouring texts cannot trade characters.
  public static void update(MessageDigest digest, String text) {
    byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
    digest.update(ByteBuffer.allocate(Long.BYTES).putLong(bytes.length).flip());
    digest.update(bytes);
  }

  /// Adds a file's size and content.
  public static void update(MessageDigest digest, Path file) throws IOException {
    digest.update(ByteBuffer.allocate(Long.BYTES).putLong(Files.size(file)).flip());
    updateContent(digest, file);
  }

  /// Adds a file's size and samples of its content, its beginning and its end among them: what is
  /// too large to be read whole, and has other bytes all over where it is another file of one name,
  /// size and time.
  public static void updateSampled(MessageDigest digest, Path file) throws IOException {
    try (var channel = FileChannel.open(file)) {
      long size = channel.size();
      digest.update(ByteBuffer.allocate(Long.BYTES).putLong(size).flip());
      long last = Math.max(0, size - SAMPLE);
      var sample = ByteBuffer.allocate(SAMPLE);
      for (int i = 0; i < SAMPLES; i++) {
        long at = last / (SAMPLES - 1) * i + (i == SAMPLES - 1 ? last % (SAMPLES - 1) : 0);
        sample.clear();
        while (sample.hasRemaining() && channel.read(sample, at + sample.position()) > 0) {}
        digest.update(sample.flip());
      }
    }
  }

  /// Adds a file's content.
  public static void updateContent(MessageDigest digest, Path file) throws IOException {
    byte[] block = new byte[1 << 18];
    try (InputStream in = Files.newInputStream(file)) {
      for (int n = in.read(block); n >= 0; n = in.read(block)) {
        digest.update(block, 0, n);
      }
    }
  }

  /// The digest in lower-case hexadecimal digits.
  public static String hex(MessageDigest digest) {
    return HexFormat.of().formatHex(digest.digest());
  }

  /// Of some bytes.
  public static String hex(byte[] content) {
    return HexFormat.of().formatHex(digest().digest(content));
  }

  /// Of a file's content.
  public static String hex(Path file) throws IOException {
    var digest = digest();
    updateContent(digest, file);
    return hex(digest);
  }
}
