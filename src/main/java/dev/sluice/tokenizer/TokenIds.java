package dev.sluice.tokenizer;

import dev.sluice.gguf.GgufTexts;
import java.nio.charset.StandardCharsets;
import java.util.AbstractMap;
import java.util.AbstractSet;
import java.util.Arrays;
import java.util.Iterator;
import java.util.Map;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;

/// The ids of tokens that stand in one array, in their order from 0: a map that makes a `String` of
/// a token only for those who want one. It is not changed.
final class TokenIds extends AbstractMap<String, Integer> {
  private static final long PRIME = 0x100000001b3L;

  private final GgufTexts tokens;
  private final int count;

  /// One more than an id in each, 0 where there is none; a token's first place follows from its
  /// bytes, and the next free one is taken.
  private final int[] places;

  /// Which nobody who makes a file knows, so that nobody puts all tokens into one place.
  private final long seed = new SplittableRandom().nextLong();

  private int @Nullable [] twice;

  /// @param count how many of the texts, from the first, are tokens
  TokenIds(GgufTexts tokens, int count) {
    this.tokens = tokens;
    this.count = count;
    this.places = new int[Integer.highestOneBit(Math.max(count, 1)) << 2];
    byte[] bytes = tokens.bytes();
    for (int id = 0; id < count; id++) {
      int start = tokens.start(id);
      int end = tokens.end(id);
      int place = place(bytes, start, end);
      if (places[place] == 0) {
        places[place] = id + 1;
      } else if (twice == null) {
        twice = new int[] {places[place] - 1, id};
      }
    }
  }

  /// The first two ids of the same token, or null.
  int @Nullable [] twice() {
    return twice;
  }

  /// Where the token with these bytes is, or would be.
  private int place(byte[] bytes, int start, int end) {
    long hash = seed;
    for (int i = start; i < end; i++) {
      hash = (hash ^ bytes[i]) * PRIME;
    }
    int place = (int) ((hash ^ hash >>> 32) & (places.length - 1));
    while (places[place] != 0) {
      int id = places[place] - 1;
      if (Arrays.equals(bytes, start, end, tokens.bytes(), tokens.start(id), tokens.end(id))) {
        break;
      }
      place = (place + 1) & (places.length - 1);
    }
    return place;
  }

  @Override
  public int size() {
    return count;
  }

  @Override
  public @Nullable Integer get(@Nullable Object token) {
    if (!(token instanceof String text)) {
      return null;
    }
    byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
    int id = places[place(bytes, 0, bytes.length)] - 1;
    // Half a surrogate pair has no bytes, so that another text's stand for it.
    return id >= 0 && tokens.text(id).equals(text) ? (Integer) id : null;
  }

  @Override
  public boolean containsKey(@Nullable Object token) {
    return get(token) != null;
  }

  @Override
  public Set<Map.Entry<String, Integer>> entrySet() {
    return new AbstractSet<>() {
      @Override
      public int size() {
        return count;
      }

      @Override
      public Iterator<Map.Entry<String, Integer>> iterator() {
        return IntStream.range(0, count).mapToObj(id -> Map.entry(tokens.text(id), id)).iterator();
      }
    };
  }
}
