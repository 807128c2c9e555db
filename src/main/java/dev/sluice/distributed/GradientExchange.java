package dev.sluice.distributed;

import dev.sluice.InvalidInputException;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.ProcessGroup.Work;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.Deque;
import java.util.HashMap;
import java.util.IdentityHashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.PriorityQueue;
import java.util.Queue;
import java.util.SequencedSet;
import java.util.function.Predicate;
import org.jspecify.annotations.Nullable;

/// Makes each rank's gradients the mean over all ranks while the backward pass goes on.
///
/// Gradients travel in buckets of about [#BUCKET_BYTES], in the order in which the first backward
/// pass completed them: a gradient is complete when as many contributions have been added as in
/// that pass. A bucket is on its way as soon as it and all before it are complete, so that every
/// rank sends them in the same order. Gradients that libtorch itself accumulates (of composed
/// operations, and all on a GPU) follow when the pass is done.
///
/// With `zero` 1 the optimizer's state of each parameter is on one rank, its owner, which sends the
/// parameter to the others after the update (ZeRO-1; Rajbhandari et al. 2020, arXiv 1910.02054, by
/// whole parameters as torch's `ZeroRedundancyOptimizer` does). With 2 a gradient is summed at its
/// owner only, and the others free theirs as soon as its bucket is on its way.
public final class GradientExchange {
  private static final long BUCKET_BYTES = 25 << 20;

  /// The first is small: it is on its way early.
  private static final long FIRST_BUCKET_BYTES = 1 << 20;

  private static final int EVERYONE = -1;

  /// Gradients that travel together.
  ///
  /// @param owner where they are summed
  private record Bucket(int owner, List<String> names) {}

  /// A bucket that is on its way.
  ///
  /// @param flat its gradients one after the other
  /// @param there which of its parameters had a gradient
  private record Sent(Bucket bucket, Tensor flat, List<Boolean> there, Work work) {}

  private final Replicas replicas;
  private final Parameters parameters;
  private final int zero;
  private final Map<String, Integer> owners;
  private final IdentityHashMap<Tensor, String> names = new IdentityHashMap<>();

  private final Map<String, Integer> contributions = new HashMap<>();
  private @Nullable List<Bucket> buckets;

  // of the backward pass under way
  private final Map<String, Integer> added = new HashMap<>();
  private final SequencedSet<String> completed = new LinkedHashSet<>();
  private final Map<String, Integer> bucketOf = new HashMap<>();
  private int[] missing = {};
  private final Deque<Sent> underWay = new ArrayDeque<>();
  private int next;
  private int sentEarly;

  /// @param zero 0, 1 or 2
  public GradientExchange(Replicas replicas, Parameters parameters, int zero) {
    this.replicas = replicas;
    this.parameters = parameters;
    this.zero = replicas.size() == 1 ? 0 : zero;
    Map<String, Long> sizes = new LinkedHashMap<>();
    parameters.all().forEach((name, parameter) -> sizes.put(name, parameter.elements()));
    this.owners = owners(sizes, replicas.size());
    if (replicas.size() > 1) {
      parameters.all().forEach((name, parameter) -> names.put(parameter, name));
    }
  }

  /// Who owns which parameter: the largest first, each to the rank that has least.
  ///
  /// @param sizes elements of each parameter
  public static Map<String, Integer> owners(Map<String, Long> sizes, int ranks) {
    Map<String, Integer> owners = new HashMap<>();
    Queue<Load> loads = new PriorityQueue<>(); // of the least, the first rank
    for (int rank = 0; rank < ranks; rank++) {
      loads.add(new Load(0, rank));
    }
    sizes.entrySet().stream()
        .sorted(Comparator.comparingLong(size -> -size.getValue()))
        .forEach(
            size -> {
              var least = loads.remove();
              owners.put(size.getKey(), least.rank);
              loads.add(new Load(least.elements + size.getValue(), least.rank));
            });
    return owners;
  }

  private record Load(long elements, int rank) implements Comparable<Load> {
    @Override
    public int compareTo(Load that) {
      int bySize = Long.compare(elements, that.elements);
      return bySize != 0 ? bySize : Integer.compare(rank, that.rank);
    }
  }

  /// No other ranks.
  public static GradientExchange none(Parameters parameters) {
    return new GradientExchange(Replicas.alone(), parameters, 0);
  }

  /// The rows of a global batch that are this rank's.
  ///
  /// @param rows `[batchSize, rowLength]` of all ranks, row-major
  public static long[] share(long[] rows, int batchSize, int rank, int size) {
    requireEven(batchSize, size);
    int own = rows.length / size;
    return Arrays.copyOfRange(rows, rank * own, (rank + 1) * own);
  }

  /// Refuses a batch that ranks cannot share evenly.
  public static void requireEven(int batchSize, int size) {
    if (batchSize % size != 0) {
      throw new InvalidInputException(
          "batch_size %d cannot be shared evenly by %d ranks; use a multiple of %d"
              .formatted(batchSize, size, size));
    }
  }

  public Replicas replicas() {
    return replicas;
  }

  /// Whether this rank has the optimizer's state of a parameter.
  public boolean owns(String name) {
    return zero == 0 || owner(name) == replicas.rank();
  }

  private int owner(String name) {
    return owners.getOrDefault(name, 0);
  }

  /// Bytes of one float32 number for each element of the parameters that this rank owns.
  public long ownedBytes() {
    return bytes(zero >= 1);
  }

  /// Bytes of the gradients that this rank has once they are exchanged.
  public long keptGradientBytes() {
    return bytes(zero == 2);
  }

  private long bytes(boolean ownedOnly) {
    return parameters.all().entrySet().stream()
        .filter(named -> !ownedOnly || owns(named.getKey()))
        .mapToLong(named -> named.getValue().elements() * Float.BYTES)
        .sum();
  }

  /// Bytes of the gradients that are there now.
  public long gradientBytes() {
    long bytes = 0;
    for (var parameter : parameters.all().values()) {
      try (var _ = Scope.withoutGradient()) {
        bytes += parameter.gradient() == null ? 0 : parameter.elements() * Float.BYTES;
      }
    }
    return bytes;
  }

  /// Share of the last pass's buckets that were on their way before the pass was done.
  public double overlapped() {
    return buckets == null || buckets.isEmpty() ? 0 : (double) sentEarly / buckets.size();
  }

  /// Call when backward passes will add to other gradients than before: the next one is again the
  /// first.
  public void planAnew() {
    buckets = null;
    contributions.clear();
    bucketOf.clear();
  }

  /// Call before the backward pass whose gradients are then whole: that of the last micro-batch.
  public void begin() {
    if (replicas.size() == 1) {
      return;
    }
    added.clear();
    completed.clear();
    underWay.clear();
    next = 0;
    if (buckets != null) {
      missing = buckets.stream().mapToInt(bucket -> bucket.names.size()).toArray();
    }
    FusedOp.watchGradients(this::added);
  }

  private void added(Tensor weight) {
    String name = names.get(weight);
    if (name == null) {
      return;
    }
    int times = added.merge(name, 1, Integer::sum);
    if (buckets == null) {
      completed.remove(name);
      completed.add(name);
    } else if (times == contributions.getOrDefault(name, 0)) {
      missing[bucketOf.getOrDefault(name, 0)]--;
      while (next < missing.length && missing[next] == 0) {
        send(buckets.get(next++));
      }
      receiveWhatIsThere();
    }
  }

  /// Takes up the buckets that have come back, so that only those under way take memory.
  private void receiveWhatIsThere() {
    FusedOp.watchGradients(null); // what is received is no contribution
    for (var first = underWay.peek(); first != null && first.work.isDone(); ) {
      receive(underWay.remove());
      first = underWay.peek();
    }
    FusedOp.watchGradients(this::added);
  }

  /// Call after the backward pass: then gradients are means over all ranks, with `zero` 2 those of
  /// this rank's parameters, and the others have none.
  public void finish() {
    if (replicas.size() == 1) {
      return;
    }
    FusedOp.watchGradients(null);
    sentEarly = next;
    var all = buckets;
    if (all == null) {
      contributions.putAll(added);
      all = plan();
      buckets = all;
    } else if (!added.equals(contributions)) {
      throw new IllegalStateException(
          "a backward pass added to other gradients than the first did: %s, not %s"
              .formatted(added, contributions));
    }
    while (next < all.size()) {
      send(all.get(next++));
    }
    while (!underWay.isEmpty()) {
      receive(underWay.remove());
    }
  }

  /// Buckets in the order of completion, behind them what libtorch accumulates.
  private List<Bucket> plan() {
    var order = new ArrayList<>(completed);
    parameters.all().keySet().stream()
        .filter(name -> !completed.contains(name))
        .forEach(order::add);
    List<Bucket> plan = new ArrayList<>();
    Map<Integer, Bucket> open = new LinkedHashMap<>();
    Map<Integer, Long> bytes = new HashMap<>();
    for (String name : order) {
      int owner = zero == 2 ? owner(name) : EVERYONE;
      open.computeIfAbsent(owner, _ -> new Bucket(owner, new ArrayList<>())).names.add(name);
      long size = bytes.merge(owner, parameters.get(name).elements() * Float.BYTES, Long::sum);
      if (size >= (plan.isEmpty() ? FIRST_BUCKET_BYTES : BUCKET_BYTES)) {
        close(open.remove(owner), plan);
        bytes.remove(owner);
      }
    }
    open.values().forEach(bucket -> close(bucket, plan));
    return plan;
  }

  private void close(@Nullable Bucket bucket, List<Bucket> plan) {
    if (bucket != null) {
      bucket.names.forEach(name -> bucketOf.put(name, plan.size()));
      plan.add(bucket);
    }
  }

  private void send(Bucket bucket) {
    try (var _ = Scope.withoutGradient()) {
      long elements =
          bucket.names.stream().mapToLong(name -> parameters.get(name).elements()).sum();
      var flat =
          Replicas.scratch(parameters.get(bucket.names.getFirst()).detach(), elements).retain();
      List<Boolean> there = new ArrayList<>();
      long at = 0;
      for (String name : bucket.names) {
        var parameter = parameters.get(name);
        long length = parameter.elements();
        var gradient = parameter.gradient();
        var place = flat.narrow(0, at, length);
        there.add(gradient != null);
        if (gradient == null) {
          place.fill(0);
        } else {
          place.copyFrom(gradient.reshape(length));
          if (bucket.owner != EVERYONE && bucket.owner != replicas.rank()) {
            parameter.clearGradient();
          }
        }
        at += length;
      }
      var work =
          bucket.owner == EVERYONE
              ? replicas.group().allReduce(flat)
              : replicas.group().reduce(flat, bucket.owner);
      underWay.add(new Sent(bucket, flat, there, work));
    }
  }

  private void receive(Sent one) {
    one.work.await();
    try (var _ = Scope.withoutGradient()) {
      if (one.bucket.owner == EVERYONE || one.bucket.owner == replicas.rank()) {
        one.flat.scaleInPlace(1.0 / replicas.size());
        long at = 0;
        for (int i = 0; i < one.there.size(); i++) {
          var parameter = parameters.get(one.bucket.names.get(i));
          long length = parameter.elements();
          if (one.there.get(i)) {
            var mean = one.flat.narrow(0, at, length).reshape(parameter.shape());
            FusedOp.gradientOf(parameter, (gradient, _) -> gradient.copyFrom(mean));
          }
          at += length;
        }
      }
    }
    one.flat.close();
  }

  /// The norm of all gradients, where `own` is that of this rank's.
  public double norm(double own) {
    return zero == 2 ? Math.sqrt(replicas.sum(own * own)[0]) : own;
  }

  /// Call after the update: every rank gets the parameters that others own.
  public void publish() {
    if (zero == 0) {
      return;
    }
    try (var _ = Scope.withoutGradient()) {
      List<Work> all = new ArrayList<>();
      parameters
          .all()
          .forEach(
              (name, parameter) ->
                  all.add(replicas.group().broadcast(parameter.detach(), owner(name))));
      all.forEach(Work::await);
    }
  }

  /// State of parameters, of which each rank has its own: complete on rank 0, for a checkpoint that
  /// does not depend on the number of ranks. The caller's scope holds it.
  ///
  /// @param owned float32, of the parameters' shapes
  /// @param exists which parameters have such a state, on whatever rank
  public Map<String, Tensor> gathered(Map<String, Tensor> owned, Predicate<String> exists) {
    if (zero == 0) {
      return owned;
    }
    Map<String, Tensor> all = new LinkedHashMap<>();
    parameters
        .all()
        .forEach(
            (name, parameter) -> {
              if (!exists.test(name)) {
                return;
              }
              int owner = owner(name);
              var own = owned.get(name);
              if (owner == 0) {
                if (own != null) {
                  all.put(name, own);
                }
                return;
              }
              try (var scope = Scope.withoutGradient()) {
                var state =
                    own != null
                        ? own
                        : Replicas.scratch(parameter.detach(), parameter.elements())
                            .reshape(parameter.shape());
                replicas.group().broadcast(state, owner).await();
                if (replicas.isFirst()) {
                  all.put(name, scope.keep(state));
                }
              }
            });
    return all;
  }
}
