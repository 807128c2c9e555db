package dev.sluice.sink;

import dev.sluice.probe.Probe;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import java.util.TreeMap;

/// How large single entries of the residual stream become.
///
/// M-Act (arXiv 2505.06708, table 4) is the mean over blocks of max |x| in the block's output. An
/// entry is massive when |x| > 100 and |x| is about a thousand times the median |x| of its hidden
/// state (arXiv 2402.17762, section 2).
public final class MassiveActivation implements Probe {
  private static final double MASSIVE = 100;
  private static final double MASSIVE_RATIO = 1000;

  private final TreeMap<Integer, Peak> residuals = new TreeMap<>();

  /// Has seen nothing yet.
  public MassiveActivation() {}

  private static final class Peak {
    float maximum = -1;
    int channel;
    int token;
    double medians;
    long passes;
  }

  /// The residual stream at one index: 0 after the embedding, i after block i − 1, the last after
  /// the final norm.
  ///
  /// @param maximum max |x| over everything seen
  /// @param channel the hidden dimension of the maximum
  /// @param token the position of the maximum in its sequence
  /// @param median median |x|, the lower of the middle two, averaged over passes
  /// @param ratio maximum / median
  /// @param massive whether the maximum is a massive activation
  public record Residual(
      int index,
      double maximum,
      int channel,
      int token,
      double median,
      double ratio,
      boolean massive) {}

  /// @param meanBlockMaximum M-Act: the mean of the maxima after the blocks, without the embedding
  ///   and the final norm
  public record Result(double meanBlockMaximum, List<Residual> residuals) {
    public Result {
      residuals = List.copyOf(residuals);
    }
  }

  @Override
  public void residual(int index, Tensor xBTD) {
    int tokens = Math.toIntExact(xBTD.size(1));
    int channels = Math.toIntExact(xBTD.size(2));
    float[] values = xBTD.floats();
    var peak = residuals.computeIfAbsent(index, _ -> new Peak());
    for (int i = 0; i < values.length; i++) {
      float size =
          Math.abs(NotFinite.require(values[i], "the residual stream's values at index", index));
      values[i] = size;
      if (size > peak.maximum) {
        peak.maximum = size;
        peak.channel = i % channels;
        peak.token = i / channels % tokens;
      }
    }
    peak.medians += median(values);
    peak.passes++;
  }

  /// The lower median of non-negative numbers: floats without sign are ordered like their bits, so
  /// their upper halves are counted, then the lower halves of those that share the median's upper
  /// half.
  static float median(float[] sizes) {
    int[] counts = new int[1 << 16];
    for (float size : sizes) {
      counts[Float.floatToRawIntBits(size) >>> 16]++;
    }
    int rank = (sizes.length - 1) / 2;
    int upper = 0;
    while (rank >= counts[upper]) {
      rank -= counts[upper++];
    }
    int[] lowerCounts = new int[1 << 16];
    for (float size : sizes) {
      int bits = Float.floatToRawIntBits(size);
      if (bits >>> 16 == upper) {
        lowerCounts[bits & 0xFFFF]++;
      }
    }
    int lower = 0;
    while (rank >= lowerCounts[lower]) {
      rank -= lowerCounts[lower++];
    }
    return Float.intBitsToFloat(upper << 16 | lower);
  }

  /// What was seen so far.
  public Result result() {
    List<Residual> results = new ArrayList<>();
    residuals.forEach(
        (index, peak) -> {
          double median = peak.medians / peak.passes;
          double ratio = peak.maximum / median;
          boolean massive = peak.maximum > MASSIVE && ratio >= MASSIVE_RATIO;
          results.add(
              new Residual(index, peak.maximum, peak.channel, peak.token, median, ratio, massive));
        });
    if (results.size() < 3) {
      throw new IllegalStateException("no residual stream was seen");
    }
    double mean =
        results.subList(1, results.size() - 1).stream()
            .mapToDouble(Residual::maximum)
            .average()
            .orElseThrow();
    return new Result(mean, results);
  }
}
