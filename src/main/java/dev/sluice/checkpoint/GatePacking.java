package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.attention.AttentionConfig;
import dev.sluice.gate.Granularity;
import java.util.Arrays;
import java.util.Locale;

/// Where the rows of the SDPA gate's weights stand in a file.
///
/// With N query heads, M key/value heads, G = N / M and head size H, a group or head holds first
/// its query rows, then its gate rows. All packings have plausible shapes when mixed up, so the
/// configuration has to say which one it is.
public enum GatePacking {
  /// Inside `q_proj`, per key/value head: `[G·H query rows | G·H or G gate rows]`. The paper's code
  /// (qiuzh20/gated_attention, `modeling_qwen3.py`) and Megatron.
  KEY_VALUE_GROUP,
  /// Inside `q_proj`, per query head: `[H query rows | H gate rows, or one]`. Qwen3-Next and
  /// Qwen3.5 in `transformers`.
  QUERY_HEAD,
  /// In a matrix of its own.
  SEPARATE;

  /// The key of `config.json` that names one.
  static final String KEY = "gate_packing";

  /// Reads `key_value_group`, `query_head` or `separate`.
  static GatePacking parse(String word) {
    for (GatePacking packing : values()) {
      if (packing.word().equals(word)) {
        return packing;
      }
    }
    throw new InvalidInputException(
        "unknown gate_packing '"
            + word
            + "' in config.json; use key_value_group, query_head or separate");
  }

  String word() {
    return name().toLowerCase(Locale.ROOT);
  }

  /// How many rows `q_proj` has.
  int queryProjectionRows(AttentionConfig config, Granularity granularity) {
    int queryRows = config.attentionHeads() * config.headDim();
    return this == SEPARATE ? queryRows : queryRows + gateRows(config, granularity);
  }

  /// The row of a packed `q_proj` that holds query row `row` (head-major).
  int queryRow(AttentionConfig config, Granularity granularity, int row) {
    int heads = headsTogether(config);
    int queryRows = heads * config.headDim();
    int gateRows = heads * gateRowsPerHead(config, granularity);
    return row / queryRows * (queryRows + gateRows) + row % queryRows;
  }

  /// The row of a packed `q_proj` that holds gate row `row` (head-major).
  int gateRow(AttentionConfig config, Granularity granularity, int row) {
    int heads = headsTogether(config);
    int queryRows = heads * config.headDim();
    int gateRows = heads * gateRowsPerHead(config, granularity);
    return row / gateRows * (queryRows + gateRows) + queryRows + row % gateRows;
  }

  /// How many rows the gate has.
  static int gateRows(AttentionConfig config, Granularity granularity) {
    return config.attentionHeads() * gateRowsPerHead(config, granularity);
  }

  private int headsTogether(AttentionConfig config) {
    return switch (this) {
      case KEY_VALUE_GROUP -> config.attentionHeads() / config.keyValueHeads();
      case QUERY_HEAD -> 1;
      case SEPARATE -> throw new IllegalStateException("a separate gate is not packed");
    };
  }

  private static int gateRowsPerHead(AttentionConfig config, Granularity granularity) {
    return switch (granularity) {
      case HEADWISE -> 1;
      case ELEMENTWISE -> config.headDim();
    };
  }

  /// The packed rows of the queries, in head-major order.
  long[] queryRows(AttentionConfig config, Granularity granularity) {
    long[] rows = new long[config.attentionHeads() * config.headDim()];
    Arrays.setAll(rows, row -> queryRow(config, granularity, row));
    return rows;
  }

  /// The packed rows of the gate, in head-major order.
  long[] gateRowsPacked(AttentionConfig config, Granularity granularity) {
    long[] rows = new long[gateRows(config, granularity)];
    Arrays.setAll(rows, row -> gateRow(config, granularity, row));
    return rows;
  }
}
