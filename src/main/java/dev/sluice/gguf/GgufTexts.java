package dev.sluice.gguf;

import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/// The texts of a list, one behind the other in one array: a vocabulary and its merges are hundreds
/// of thousands of them, and objects for each would take more time and memory than all else that is
/// done with them.
public final class GgufTexts {
  private static final int CHARACTERS_AT_A_TIME = 1 << 13;

  private final byte[] bytes;
  private final int[] ends;

  private GgufTexts(byte[] bytes, int[] ends) {
    this.bytes = bytes;
    this.ends = ends;
  }

  /// @param list the texts, each behind its length, which are known to be there; it is taken over
  static GgufTexts of(byte[] list, int count) {
    int[] ends = new int[count];
    int from = 0;
    int to = 0;
    for (int i = 0; i < count; i++) {
      int length = TextWalk.lengthOf(list, from);
      from += Long.BYTES;
      System.arraycopy(list, from, list, to, length);
      from += length;
      to += length;
      ends[i] = to;
    }
    return new GgufTexts(list, ends);
  }

  /// How many there are.
  public int count() {
    return ends.length;
  }

  /// The UTF-8 of all; only to be read.
  public byte[] bytes() {
    return bytes;
  }

  /// Where a text begins.
  public int start(int i) {
    return i == 0 ? 0 : ends[i - 1];
  }

  /// Where it ends.
  public int end(int i) {
    return ends[i];
  }

  /// A text.
  public String text(int i) {
    return new String(bytes, start(i), end(i) - start(i), StandardCharsets.UTF_8);
  }

  /// All texts.
  public List<String> strings() {
    List<String> all = new ArrayList<>(ends.length);
    for (int i = 0; i < ends.length; i++) {
      all.add(text(i));
    }
    return all;
  }

  /// Whether every one of them is UTF-8: all in a row are, and none begins within a character.
  boolean areUtf8() {
    int length = ends.length == 0 ? 0 : ends[ends.length - 1];
    for (int i = 1; i < ends.length; i++) {
      int start = ends[i - 1];
      if (start < length && (bytes[start] & 0xC0) == 0x80) {
        return false;
      }
    }
    var decoder = StandardCharsets.UTF_8.newDecoder();
    var in = ByteBuffer.wrap(bytes, 0, length);
    var out = CharBuffer.allocate(CHARACTERS_AT_A_TIME);
    while (true) {
      var result = decoder.decode(in, out, true);
      if (!result.isOverflow()) {
        return result.isUnderflow();
      }
      out.clear();
    }
  }
}
