package dev.sluice.study;

import dev.sluice.InvalidInputException;
import java.util.regex.Pattern;

/// A share of a study's trials, so that several machines can do it: trial t belongs to shard t
/// modulo `count`.
///
/// @param index from 1
/// @param count how many shards there are
public record Shard(int index, int count) {
  public static final Shard ALL = new Shard(1, 1);

  private static final Pattern WRITTEN = Pattern.compile("(\\d{1,6})/(\\d{1,6})");

  public Shard {
    if (index < 1 || index > count) {
      throw new InvalidInputException(
          "there is no shard %d/%d; use a number from 1 on, of at most as many shards as there are, such as 1/%d"
              .formatted(index, count, Math.max(1, count)));
    }
  }

  /// Reads `2/8`.
  public static Shard parse(String text) {
    var parts = WRITTEN.matcher(text);
    if (!parts.matches()) {
      throw new InvalidInputException("a shard is written INDEX/COUNT, such as 2/8, not " + text);
    }
    return new Shard(Integer.parseInt(parts.group(1)), Integer.parseInt(parts.group(2)));
  }

  /// How many of so many trials are this shard's.
  public int of(int trials) {
    return (trials - index + count) / count;
  }

  /// Whether it has the trial of that index, from 0.
  public boolean has(int trial) {
    return trial % count == index - 1;
  }
}
