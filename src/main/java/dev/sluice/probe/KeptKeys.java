package dev.sluice.probe;

/// Which keys a cache keeps: the first ones of a text and the last ones before each query, its own
/// among them. Positions are those in the cache, numbered anew after every eviction, as in
/// StreamingLLM (Xiao et al. 2023, arXiv 2309.17453).
///
/// @param first how many of the first, at least 0
/// @param last how many of the last, at least 1
public record KeptKeys(int first, int last) {
  public KeptKeys {
    if (first < 0 || last < 1) {
      throw new IllegalArgumentException("%d first and %d last keys".formatted(first, last));
    }
  }
}
