package dev.sluice.operations;

import dev.sluice.kernel.Kernels;
import dev.sluice.kernel.MachineProducts;
import dev.sluice.kernel.StoredMatrix;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.function.LongFunction;
import java.util.function.LongPredicate;
import org.jspecify.annotations.Nullable;

/// Products of vectors with several weights as they are: first the vectors are arranged, in groups
/// that share the decoding of a weight, then all rows of all weights are shared among the threads
/// at once.
///
/// Vectors may have weights of their own, those of an expert of a mixture: they are sorted by
/// expert, and the rows of all experts that have vectors are shared among the threads at once.
///
/// What a vector gives depends on itself and its weights, and on nothing else.
final class DirectProduct {
  /// Weights of a piece for one vector, and for more half of it: some ten microseconds, in which
  /// memory is read in one stretch. They stay in a core's cache for further groups of vectors.
  private static final long PIECE = 1 << 18;

  /// Vectors of a group that no machine code takes.
  private static final int USUAL = 8;

  /// Rows of which all threads' pieces are multiples.
  private static final long ALIGNED = 16;

  private final @Nullable MachineProducts machine = MachineProducts.here();

  /// Of each expert; all have matrices of the same shapes in the same formats and orders.
  private final List<List<StoredMatrix>> experts;

  private final MemorySegment x;
  private final List<MemorySegment> ys;
  private final long columns;

  /// Where the rows of each of an expert's matrices begin, with those that are missing to a
  /// multiple of [#ALIGNED], and where they end.
  private final long[] starts;

  private final List<Arranged> arranged = new ArrayList<>();

  /// Vectors of a group, at most: the largest number that shares the decoding of a weight.
  private final int group;

  /// Of each of an expert's matrices; null where it takes vectors as they are.
  private final @Nullable Arranged[] ofMatrix;

  /// Of the vectors at hand, in their order.
  private final List<Group> groups = new ArrayList<>();

  /// The experts that have vectors, and where their groups begin.
  private final int[] active;

  private final int[] firstGroup;
  private int activeExperts;
  private int inputs;

  /// Vectors in the order that some of the matrices ask for.
  ///
  /// @param most vectors that are multiplied at once
  /// @param bytes of one
  /// @param memory of all vectors
  private record Arranged(StoredMatrix of, int most, long bytes, MemorySegment memory) {}

  /// Vectors of one expert.
  ///
  /// @param arranged as each of [#arranged] has them, as many together as it takes
  private record Group(int expert, int first, int count, MachineProducts.Inputs[][] arranged) {}

  /// Of vectors that all have the same weights.
  DirectProduct(
      List<StoredMatrix> weights,
      MemorySegment x,
      int most,
      List<MemorySegment> ys,
      LongFunction<MemorySegment> memory) {
    this(x, most, List.of(weights), ys, memory);
  }

  /// @param x float32 `[most, columns]`
  /// @param most vectors
  /// @param experts matrices of each, which are [#alike]
  /// @param ys float32, `[most, rows]` of each of an expert's matrices
  /// @param memory gives so many bytes, where the vectors are arranged
  DirectProduct(
      MemorySegment x,
      int most,
      List<List<StoredMatrix>> experts,
      List<MemorySegment> ys,
      LongFunction<MemorySegment> memory) {
    this.experts = experts;
    this.x = x;
    this.ys = ys;
    var first = experts.getFirst();
    this.columns = first.getFirst().columns();
    this.starts = new long[first.size() + 1];
    this.ofMatrix = new Arranged[first.size()];
    for (int i = 0; i < first.size(); i++) {
      starts[i + 1] = starts[i] + Math.ceilDiv(first.get(i).rows(), ALIGNED) * ALIGNED;
      ofMatrix[i] = arranged(first.get(i), most, memory);
    }
    this.group = arranged.stream().mapToInt(Arranged::most).max().orElse(USUAL);
    this.active = new int[Math.min(experts.size(), most)];
    this.firstGroup = new int[active.length + 1];
  }

  /// Whether experts' matrices can be shared among the threads as those of one.
  static boolean alike(List<List<StoredMatrix>> experts) {
    var first = experts.getFirst();
    for (var expert : experts) {
      for (int i = 0; i < first.size(); i++) {
        var one = first.get(i);
        var other = expert.get(i);
        if (one.format() != other.format()
            || one.order() != other.order()
            || one.rows() != other.rows()
            || one.columns() != other.columns()) {
          return false;
        }
      }
    }
    return true;
  }

  /// Those of another matrix where they are the same.
  private @Nullable Arranged arranged(
      StoredMatrix matrix, int most, LongFunction<MemorySegment> memory) {
    if (machine == null || !machine.takes(matrix)) {
      return null;
    }
    for (var other : arranged) {
      if (MachineProducts.arrangedAlike(matrix, other.of)) {
        return other;
      }
    }
    long bytes = MachineProducts.arrangedBytes(matrix.format(), columns, 1);
    arranged.add(
        new Arranged(matrix, machine.atOnce(matrix, most), bytes, memory.apply(bytes * most)));
    return arranged.getLast();
  }

  /// Begins with other vectors, all of one expert.
  void begin(int count) {
    begin(new long[] {0, count}, _ -> true);
  }

  /// Begins with other vectors.
  ///
  /// @param begins where each expert's vectors start, and behind them how many vectors there are
  /// @param taken which numbers of vectors of an expert are multiplied; others are left out
  void begin(long[] begins, LongPredicate taken) {
    groups.clear();
    activeExperts = 0;
    inputs = Math.toIntExact(begins[experts.size()]);
    for (int expert = 0; expert < experts.size(); expert++) {
      long end = begins[expert + 1];
      long its = end - begins[expert];
      if (its == 0 || !taken.test(its)) {
        continue;
      }
      active[activeExperts] = expert;
      firstGroup[activeExperts++] = groups.size();
      for (int first = (int) begins[expert]; first < end; first += group) {
        int count = (int) Math.min(group, end - first);
        groups.add(new Group(expert, first, count, rooms(first, count)));
      }
    }
    firstGroup[activeExperts] = groups.size();
  }

  /// Room for the vectors of a group, as each of [#arranged] takes them.
  private MachineProducts.Inputs[][] rooms(int first, int count) {
    var rooms = new MachineProducts.Inputs[arranged.size()][];
    for (int i = 0; i < rooms.length; i++) {
      var each = arranged.get(i);
      rooms[i] = new MachineProducts.Inputs[Math.ceilDiv(count, each.most)];
      for (int part = 0; part < rooms[i].length; part++) {
        int before = part * each.most;
        rooms[i][part] =
            Objects.requireNonNull(machine)
                .room(
                    each.of.format(),
                    each.of.order(),
                    each.of.digits(),
                    columns,
                    Math.min(each.most, count - before),
                    each.memory.asSlice((first + before) * each.bytes));
      }
    }
    return rooms;
  }

  /// Takes up what the vectors of some groups are now.
  void arrangeGroups(long from, long to) {
    for (var each : groups.subList((int) from, (int) to)) {
      arrange(each, 0, each.count);
    }
  }

  /// Takes up what some vectors are now, where all have the same weights.
  void arrange(long from, long to) {
    for (int at = (int) from; at < to; ) {
      var its = groups.get(at / group);
      int first = at - its.first;
      int end = (int) Math.min(its.count, to - its.first);
      arrange(its, first, end);
      at = its.first + end;
    }
  }

  private void arrange(Group group, int first, int end) {
    for (int i = 0; i < arranged.size(); i++) {
      int most = arranged.get(i).most;
      for (int at = first; at < end; at++) {
        var vector = x.asSlice((group.first + at) * columns * Float.BYTES);
        Objects.requireNonNull(machine).arrange(vector, group.arranged[i][at / most], at % most);
      }
    }
  }

  /// The vectors at hand, with those that are left out.
  int vectors() {
    return inputs;
  }

  /// Groups of the vectors at hand.
  int groups() {
    return groups.size();
  }

  /// Whose vectors a group has.
  int expert(long group) {
    return groups.get((int) group).expert;
  }

  /// The first vector of a group.
  int first(long group) {
    return groups.get((int) group).first;
  }

  /// The vector behind the last of a group.
  int end(long group) {
    return first(group) + groups.get((int) group).count;
  }

  /// All rows of all matrices of the experts that have vectors, with those that are missing to a
  /// multiple of [#ALIGNED].
  long rows() {
    return activeExperts * ofOne();
  }

  private long ofOne() {
    return starts[starts.length - 1];
  }

  /// Rows for which a thread is worth its start.
  long grain() {
    return Math.ceilDiv(StoredProduct.GRAIN, columns);
  }

  /// Rows of a piece, which may begin at multiples of it.
  long piece() {
    return piece(inputs);
  }

  /// The same for so many vectors.
  long piece(int count) {
    return Math.ceilDiv(count == 1 ? PIECE : PIECE / 2, columns * ALIGNED) * ALIGNED;
  }

  /// Multiplies some of all rows.
  void multiply(long first, long last) {
    long ofOne = ofOne();
    for (long at = first; at < last; ) {
      int number = (int) (at / ofOne);
      long end = Math.min(last, (number + 1) * ofOne);
      multiply(number, at - number * ofOne, end - number * ofOne);
      at = end;
    }
  }

  private void multiply(int number, long first, long last) {
    var matrices = experts.get(active[number]);
    for (int i = 0; i < matrices.size(); i++) {
      var matrix = matrices.get(i);
      long from = Math.max(first, starts[i]) - starts[i];
      long to = Math.min(last, starts[i] + matrix.rows()) - starts[i];
      if (from >= to) {
        continue;
      }
      for (var group : groups.subList(firstGroup[number], firstGroup[number + 1])) {
        var its = ofMatrix[i];
        long rowBytes = matrix.rows() * Float.BYTES;
        if (its == null) {
          var vectors = x.asSlice(group.first * columns * Float.BYTES);
          var y = ys.get(i).asSlice(group.first * rowBytes);
          Kernels.FASTEST.storedProduct(matrix, vectors, group.count, y, matrix.rows(), from, to);
          continue;
        }
        int at = group.first;
        for (var vectors : group.arranged[arranged.indexOf(its)]) {
          var y = ys.get(i).asSlice(at * rowBytes);
          inMachineCode(
              Objects.requireNonNull(machine),
              matrix,
              Objects.requireNonNull(vectors),
              y,
              from,
              to);
          at += its.most;
        }
      }
    }
  }

  private static void inMachineCode(
      MachineProducts machine,
      StoredMatrix weight,
      MachineProducts.Inputs x,
      MemorySegment y,
      long first,
      long last) {
    if (weight.order() == StoredMatrix.Order.STRIPS) {
      machine.multiplyStrips(
          weight, first, last - first, x, y.asSlice(first * Float.BYTES), weight.rows());
      return;
    }
    for (long row = first; row < last; ) {
      long count = Math.min(last, (row / weight.together() + 1) * weight.together()) - row;
      machine.multiply(
          weight.format(),
          weight.data(),
          weight.offset(row),
          weight.rowBytes(),
          count,
          x,
          y.asSlice(row * Float.BYTES),
          weight.rows());
      row += count;
    }
  }
}
