package dev.sluice.tokenizer;

import java.nio.charset.StandardCharsets;

/// One id for each byte of UTF-8, 0 … 255. The separator is 0, which text does not contain.
public record ByteTokenizer() implements Tokenizer {
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
  /// bytes; both become U+FFFD.
  @Override
  public String decode(int[] ids) {
    byte[] bytes = new byte[ids.length];
    for (int i = 0; i < ids.length; i++) {
      bytes[i] = (ids[i] & ~0xFF) == 0 ? (byte) ids[i] : NEVER_IN_UTF8;
    }
    return new String(bytes, StandardCharsets.UTF_8);
  }

  @Override
  public int endOfText() {
    return 0;
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
    return to - from;
  }
}
