package dev.sluice.sink;

import dev.sluice.probe.Probe;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.TreeMap;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;

/// How large single entries of the residual stream become.
///
/// M-Act (arXiv 2505.06708, table 4) is the mean over blocks of max |x| in the block's output. An
/// entry is massive when |x| > 100 and |x| is about a thousand times the median |x| of its hidden
/// state (arXiv 2402.17762, section 2).
public final class MassiveActivation implements Probe {
  private static final double MASSIVE = 100;
  private static final double MASSIVE_RATIO = 1000;

  /// How many times the median channel's mean |x| an outlier channel's is; a choice of ours.
  public static final double OUTLIER_RATIO = 10;

  /// What part of the peak the blocks of a plateau reach.
  private static final double PLATEAU_SHARE = 0.9;

  private final TreeMap<Integer, Peak> residuals = new TreeMap<>();

  /// Has seen nothing yet.
  public MassiveActivation() {}

  private static final class Peak {
    float maximum = -1;
    int channel;
    int token;
    double medians;
    long passes;
    double[] channelSums = {};
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
  /// @param outlierChannels the channels whose mean |x| over all tokens but the sequences' first is
  ///   at least [#OUTLIER_RATIO] times that of the median channel, the largest first
  public record Residual(
      int index,
      double maximum,
      int channel,
      int token,
      double median,
      double ratio,
      boolean massive,
      List<Integer> outlierChannels) {
    public Residual {
      // a report of before there were outlier channels has none
      outlierChannels = outlierChannels == null ? List.of() : List.copyOf(outlierChannels);
    }
  }

  /// The run of blocks around the largest activation whose maxima reach nine tenths of it: massive
  /// activations appear at one block, stay as they are and are removed by the last blocks.
  ///
  /// @param firstBlock from 0
  /// @param lastBlock included
  public record Plateau(int firstBlock, int lastBlock) {}

  /// @param meanBlockMaximum M-Act: the mean of the maxima after the blocks, without the embedding
  ///   and the final norm
  /// @param plateau of the massive activations, or null where no block's are massive
  public record Result(
      double meanBlockMaximum, @Nullable Plateau plateau, List<Residual> residuals) {
    public Result {
      residuals = List.copyOf(residuals);
    }

    /// The largest |x| after any block.
    public double largest() {
      return residuals.subList(1, residuals.size() - 1).stream()
          .mapToDouble(Residual::maximum)
          .max()
          .orElseThrow();
    }
  }

  @Override
  public void residual(int index, Tensor xBTD) {
    int tokens = Math.toIntExact(xBTD.size(1));
    int channels = Math.toIntExact(xBTD.size(2));
    float[] values = xBTD.floats();
    var peak = residuals.computeIfAbsent(index, _ -> new Peak());
    if (peak.channelSums.length == 0) {
      peak.channelSums = new double[channels];
    }
    for (int row = 0; row < values.length / channels; row++) {
      int token = row % tokens;
      for (int channel = 0; channel < channels; channel++) {
        int i = row * channels + channel;
        float size =
            Math.abs(NotFinite.require(values[i], "the residual stream's values at index", index));
        values[i] = size;
        if (token > 0) {
          peak.channelSums[channel] += size;
        }
        if (size > peak.maximum) {
          peak.maximum = size;
          peak.channel = channel;
          peak.token = token;
        }
      }
    }
    peak.medians += median(values);
    peak.passes++;
  }

  /// The lower median, as the source's `torch.median` takes it, of non-negative numbers: floats
  /// without sign are ordered like their bits, so their upper halves are counted, then the lower
  /// halves of those that share the median's upper half.
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
              new Residual(
                  index,
                  peak.maximum,
                  peak.channel,
                  peak.token,
                  median,
                  ratio,
                  massive,
                  outliers(peak.channelSums)));
        });
    if (results.size() < 3) {
      throw new IllegalStateException("no residual stream was seen");
    }
    var blocks = results.subList(1, results.size() - 1);
    double mean = blocks.stream().mapToDouble(Residual::maximum).average().orElseThrow();
    return new Result(mean, plateau(blocks), results);
  }

  private static List<Integer> outliers(double[] channelSums) {
    double[] sorted = channelSums.clone();
    Arrays.sort(sorted);
    double limit = OUTLIER_RATIO * sorted[(sorted.length - 1) / 2];
    return IntStream.range(0, channelSums.length)
        .filter(channel -> channelSums[channel] > 0 && channelSums[channel] >= limit)
        .boxed()
        .sorted(Comparator.comparingDouble(channel -> -channelSums[channel]))
        .toList();
  }

  private static @Nullable Plateau plateau(List<Residual> blocks) {
    int peak = 0;
    for (int block = 1; block < blocks.size(); block++) {
      if (blocks.get(block).maximum() > blocks.get(peak).maximum()) {
        peak = block;
      }
    }
    if (!blocks.get(peak).massive()) {
      return null;
    }
    double level = PLATEAU_SHARE * blocks.get(peak).maximum();
    int first = peak;
    while (first > 0 && blocks.get(first - 1).maximum() >= level) {
      first--;
    }
    int last = peak;
    while (last + 1 < blocks.size() && blocks.get(last + 1).maximum() >= level) {
      last++;
    }
    return new Plateau(first, last);
  }
}
