package dev.sluice.distributed;

import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.LostContactException;
import dev.sluice.tensor.ProcessGroup;
import dev.sluice.tensor.ProcessGroup.Store;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.time.Duration;
import java.util.Arrays;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/// The ranks of a data-parallel job, each with the whole model and its rows of every batch. All
/// ranks must call the same methods in the same order.
public final class Replicas implements AutoCloseable {
  /// How long the slowest rank may keep the others waiting: for an evaluation, a sample, a save.
  public static final Duration LONGEST_WAIT = Duration.ofMinutes(30);

  private final Ranks ranks;
  private final @Nullable Store store;
  private final @Nullable ProcessGroup group;

  private Replicas(Ranks ranks, @Nullable Store store, @Nullable ProcessGroup group) {
    this.ranks = ranks;
    this.store = store;
    this.group = group;
  }

  /// One process alone, for which everything here is nothing.
  public static Replicas alone() {
    return new Replicas(Ranks.ALONE, null, null);
  }

  /// Joins the others; returns when all are there.
  ///
  /// @param store of the job
  /// @param cuda whether tensors on a GPU are exchanged
  public static Replicas join(Ranks ranks, Store store, boolean cuda) {
    if (ranks.isAlone()) {
      return alone();
    }
    String host =
        ranks.networkInterface() != null
            ? "interface:" + ranks.networkInterface()
            : isLoopback(ranks.masterAddress()) ? ranks.masterAddress() : null;
    var group = ProcessGroup.join(store, ranks.rank(), ranks.worldSize(), host, cuda, LONGEST_WAIT);
    return new Replicas(ranks, store, group);
  }

  /// Whether a rank failed because another one did not answer.
  public static boolean isLostContact(Throwable e) {
    for (Throwable cause = e; cause != null; cause = cause.getCause()) {
      if (cause instanceof LostContactException) {
        return true;
      }
    }
    return false;
  }

  private static boolean isLoopback(String address) {
    return address.equals("localhost") || address.startsWith("127.");
  }

  public int rank() {
    return ranks.rank();
  }

  public int size() {
    return ranks.worldSize();
  }

  /// Whether this rank writes what there is one of: metrics, checkpoints, samples.
  public boolean isFirst() {
    return ranks.rank() == 0;
  }

  ProcessGroup group() {
    return Objects.requireNonNull(group);
  }

  /// What rank 0 says, on every rank.
  public String fromFirst(String key, String said) {
    if (store == null) {
      return said;
    }
    if (isFirst()) {
      store.set(key, said);
      return said;
    }
    return store.await(key);
  }

  /// The sums of every rank's numbers.
  public double[] sum(double... own) {
    if (group == null) {
      return own;
    }
    try (var _ = Scope.withoutGradient()) {
      var numbers = Tensor.of(own, own.length);
      group.allReduce(numbers).await();
      return numbers.doubles();
    }
  }

  /// Sums of counts, exact below 2⁵³.
  public long[] sum(long... own) {
    return group == null
        ? own
        : Arrays.stream(sum(Arrays.stream(own).asDoubleStream().toArray()))
            .mapToLong(Math::round)
            .toArray();
  }

  public double mean(double own) {
    return group == null ? own : sum(own)[0] / size();
  }

  /// Whether it holds on any rank.
  public boolean any(boolean own) {
    return group == null ? own : sum(own ? 1.0 : 0.0)[0] > 0;
  }

  /// Waits for all ranks.
  public void barrier() {
    var _ = sum(0.0);
  }

  static Tensor scratch(Tensor like, long elements) {
    return Tensor.uninitialized(like, ElementType.FLOAT32, elements);
  }

  @Override
  public void close() {
    if (group != null) {
      group.close();
    }
  }
}
