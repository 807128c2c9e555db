package dev.sluice.checkpoint;

import dev.sluice.operations.DeltaHeads;
import java.util.ArrayList;
import java.util.List;

/// Where Qwen3-Next stores the rows of a DeltaNet layer's projections (`modeling_qwen3_next.py`,
/// `fix_query_key_value_ordering`): each key head has, in `in_proj_qkvz`, the rows of its query,
/// its key, the values of its value heads and their gates; in `in_proj_ba` the rates' and then the
/// decays' rows of its value heads.
final class DeltaPacking {
  private DeltaPacking() {}

  /// @param stored the matrix's name in the file
  /// @param of how many rows it has
  /// @param rows those of the parameter, in its order
  record Rows(String stored, long of, long[] rows) {}

  /// @param part the parameter's name within the layer
  static Rows rows(DeltaHeads heads, String part) {
    int keyWidth = heads.keyWidth();
    int values = heads.group() * heads.valueWidth();
    int qkvz = 2 * keyWidth + 2 * values;
    int group = heads.group();
    return switch (part) {
      case "in_proj_qkv.weight" -> {
        List<Long> rows = new ArrayList<>();
        add(rows, heads, qkvz, 0, keyWidth);
        add(rows, heads, qkvz, keyWidth, keyWidth);
        add(rows, heads, qkvz, 2 * keyWidth, values);
        yield rows("in_proj_qkvz.weight", heads, qkvz, rows);
      }
      case "in_proj_z.weight" -> {
        List<Long> rows = new ArrayList<>();
        add(rows, heads, qkvz, 2 * keyWidth + values, values);
        yield rows("in_proj_qkvz.weight", heads, qkvz, rows);
      }
      case "in_proj_b.weight", "in_proj_a.weight" -> {
        List<Long> rows = new ArrayList<>();
        add(rows, heads, 2 * group, part.equals("in_proj_b.weight") ? 0 : group, group);
        yield rows("in_proj_ba.weight", heads, 2 * group, rows);
      }
      default -> throw new IllegalArgumentException("no projection is called " + part);
    };
  }

  private static Rows rows(String stored, DeltaHeads heads, int perHead, List<Long> rows) {
    return new Rows(
        stored,
        (long) heads.keyHeads() * perHead,
        rows.stream().mapToLong(Long::longValue).toArray());
  }

  /// Adds rows `from … from + count` of each key head's `perHead`.
  private static void add(List<Long> rows, DeltaHeads heads, int perHead, int from, int count) {
    for (int head = 0; head < heads.keyHeads(); head++) {
      for (int i = 0; i < count; i++) {
        rows.add((long) head * perHead + from + i);
      }
    }
  }
}
