package dev.sluice.tokenizer;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Objects;

/// One id for each byte of UTF-8, 0 … 255. The separator is 0, which text does not contain.
///
/// As files it is a BPE without merges, whose only token besides bytes is the character of the
/// separator, so that nothing that a text spells out becomes it.
public record ByteTokenizer() implements Tokenizer {
  static final EndToken END = new EndToken(0, "\0", "");

  private static final byte NEVER_IN_UTF8 = (byte) 0xFF;

  @Override
  public int vocabularySize() {
    return 256;
  }

  @Override
  public int[] encode(String text) {
    byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
    int[] ids = new int[bytes.length];
    for (int i = 0; i < bytes.length; i++) {
      ids[i] = bytes[i] & 0xFF;
    }
    return ids;
  }

  /// A model in training emits broken UTF-8, and one with a larger vocabulary ids that are no
  /// bytes; both become U+FFFD. The separator has no text.
  @Override
  public String decode(int[] ids) {
    byte[] bytes = new byte[ids.length];
    int length = 0;
    for (int id : ids) {
      if (id != END.id()) {
        bytes[length++] = (id & ~0xFF) == 0 ? (byte) id : NEVER_IN_UTF8;
      }
    }
    return new String(bytes, 0, length, StandardCharsets.UTF_8);
  }

  @Override
  public byte[][] tokenBytes() {
    byte[][] bytes = new byte[vocabularySize()][];
    Arrays.setAll(bytes, id -> id == END.id() ? new byte[0] : new byte[] {(byte) id});
    return bytes;
  }

  @Override
  public int endOfText() {
    return END.id();
  }

  @Override
  public String fingerprint() {
    return "bytes";
  }

  @Override
  public String describe() {
    return "bytes (256 ids)";
  }

  @Override
  public int bytesOf(int[] ids, int from, int to) {
    return (int) Arrays.stream(ids, from, to).filter(id -> id != END.id()).count();
  }

  @Override
  public void write(Path directory) throws IOException {
    TokenizerFolder.bytes(file()).write(directory);
  }

  /// Whether a `tokenizer.json` is the one that [#write] writes.
  static boolean is(byte[] file) {
    return Arrays.equals(file, file());
  }

  /// Never to change: checkpoints have it.
  private static byte[] file() {
    try (InputStream in = ByteTokenizer.class.getResourceAsStream("bytes.json")) {
      return Objects.requireNonNull(in, "bytes.json is not beside the class").readAllBytes();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
