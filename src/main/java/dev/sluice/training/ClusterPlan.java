package dev.sluice.training;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.ActivationMemory;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.Recompute;
import dev.sluice.distributed.GradientExchange;
import dev.sluice.optimizer.Optimizer;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.ParameterSpec;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.ToDoubleFunction;

/// What data-parallel training of a model would take on many devices, by arithmetic alone.
///
/// Memory is what Sluice holds on the device that holds most: float32 weights, for bfloat16
/// products a copy of them, float32 gradients, and the optimizer's float32 moments (two, or one of
/// what Muon moves); `zero` 1 shares the moments by whole parameters, 2 the gradients too. Weights
/// are whole on every device. Activations are those of one sequence, as the fused operations keep
/// them; the other sequences of a device follow one after the other.
///
/// A device sends, as a share of the gradients' float32 bytes Ψ with n devices: 2 (n−1)/n by a ring
/// all-reduce (Patarasuk and Yuan 2009), (n−1)/n by a reduction to owners, and (n−1)/n for the
/// owners' parameters afterwards, so that `zero` 2 sends no more than 0 (Rajbhandari et al. 2020,
/// arXiv 1910.02054, section 7), while 1, which sums all gradients everywhere as Sluice does, sends
/// half as much again. Rings enter and leave a node through all of its adapters at once, so the
/// slowest link is that within a node or all adapters of one together. On a GPU gradients leave
/// when the backward pass is done: nothing is hidden behind it. Latency is not counted.
///
/// @param weightBytes on a device, with the copy for products
/// @param gradientBytes on a device
/// @param momentBytes on a device
/// @param activationBytes on a device
/// @param sentBytes of a device in a step
/// @param computeSeconds of a step
/// @param waitSeconds of a step, for what is sent
public record ClusterPlan(
    double weightBytes,
    double gradientBytes,
    double momentBytes,
    double activationBytes,
    double sentBytes,
    double computeSeconds,
    double waitSeconds) {
  /// The devices.
  ///
  /// @param devices how many
  /// @param perNode how many have the faster links between them
  /// @param memoryBytes of one
  /// @param flops dense operations in the products' type a second, of one
  /// @param share of these that training reaches
  /// @param nodeBandwidth bytes a second that one device sends within a node
  /// @param networkBandwidth bytes a second that one device sends to other nodes
  public record Cluster(
      int devices,
      int perNode,
      double memoryBytes,
      double flops,
      double share,
      double nodeBandwidth,
      double networkBandwidth) {
    public Cluster {
      require(devices >= 1, "--gpus", devices, "at least 1");
      require(perNode >= 1, "--gpus-per-node", perNode, "at least 1");
      requirePositive("--gpu-memory", memoryBytes);
      requirePositive("--gpu-flops", flops);
      require(share > 0 && share <= 1, "--gpu-share", share, "a share above 0 and at most 1");
      requirePositive("--node-bandwidth", nodeBandwidth);
      requirePositive("--network-bandwidth", networkBandwidth);
    }

    private static void requirePositive(String name, double value) {
      require(value > 0 && Double.isFinite(value), name, value, "a positive number");
    }

    private static void require(boolean holds, String name, Object value, String wayOut) {
      if (!holds) {
        throw new InvalidInputException(name + " cannot be " + value + "; use " + wayOut);
      }
    }

    /// Of the slowest link of a ring through all devices.
    double bandwidth() {
      return devices > perNode
          ? Math.min(nodeBandwidth, perNode * networkBandwidth)
          : nodeBandwidth;
    }
  }

  /// Plans a step.
  ///
  /// @param type of what goes into matrix products
  /// @param sequences of a step on all devices, a multiple of their number
  /// @param zero 0, 1 or 2
  public static ClusterPlan of(
      DecoderConfig config,
      ElementType type,
      Recompute recompute,
      Optimizer.Kind optimizer,
      int sequenceLength,
      int sequences,
      int zero,
      Cluster cluster) {
    int n = cluster.devices;
    if (sequences < 1 || sequences % n != 0) {
      throw new InvalidInputException(
          "%d sequences cannot be shared evenly by %d devices; use a multiple of %d for --global-batch"
              .formatted(sequences, n, n));
    }
    double numbers = config.parameterCount();
    int owners = zero == 0 ? 1 : n;
    double gradients = Float.BYTES * numbers;
    double others = (n - 1.0) / n;
    double sentGradients = (zero == 2 ? 1 : 2) * others * gradients;
    double sentParameters = zero == 0 ? 0 : others * gradients;
    double passes =
        switch (recompute) {
          case NONE -> 3;
          case BLOCKS -> 4; // forwards twice
        };
    double perSequence =
        config.trainingFlopsPerToken(sequenceLength)
            * (passes / 3)
            * sequenceLength
            / (cluster.flops * cluster.share);
    return new ClusterPlan(
        numbers * (Float.BYTES + (type == ElementType.FLOAT32 ? 0 : type.bytes())),
        zero == 2
            ? largestShare(config, n, spec -> (double) spec.elements() * Float.BYTES)
            : gradients,
        largestShare(config, owners, optimizer::momentBytes),
        ActivationMemory.bytesPerToken(config, type, recompute) * sequenceLength,
        sentGradients + sentParameters,
        perSequence * sequences / n,
        (sentGradients + sentParameters) / cluster.bandwidth());
  }

  /// Bytes that the rank with most has of the parameters that it owns.
  private static double largestShare(
      DecoderConfig config, int ranks, ToDoubleFunction<ParameterSpec> bytes) {
    var parameters = config.parameters();
    Map<String, Long> sizes = new LinkedHashMap<>();
    parameters.forEach((name, spec) -> sizes.put(name, spec.elements()));
    // of more ranks than parameters some own nothing
    var owners = GradientExchange.owners(sizes, Math.min(ranks, sizes.size()));
    Map<Integer, Double> loads = new HashMap<>();
    parameters.forEach(
        (name, spec) ->
            loads.merge(owners.getOrDefault(name, 0), bytes.applyAsDouble(spec), Double::sum));
    return loads.values().stream().mapToDouble(Double::doubleValue).max().orElse(0);
  }

  public double memoryBytes() {
    return weightBytes + gradientBytes + momentBytes + activationBytes;
  }

  public double stepSeconds() {
    return computeSeconds + waitSeconds;
  }
}
