package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.attention.AttentionConfig;
import dev.sluice.gate.Granularity;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import org.jspecify.annotations.Nullable;

/// Where the rows of the SDPA gate's weights stand in a file.
///
/// With N query heads, M key/value heads, G = N / M and head size H, a group or head holds first
/// its query rows, then its gate rows. All packings have plausible shapes when mixed up, so the
/// configuration has to say which one it is.
public enum GatePacking {
  /// Inside `q_proj`, per key/value head: `[G·H query rows | G·H or G gate rows]`. The paper's code
  /// (qiuzh20/gated_attention, `modeling_qwen3.py`).
  KEY_VALUE_GROUP,
  /// Inside `q_proj`, per query head: `[H query rows | H gate rows, or one]`. Qwen3-Next and
  /// Qwen3.5 in `transformers`.
  QUERY_HEAD,
  /// In a matrix of its own.
  SEPARATE,
  /// Queries, gate, keys and values in one matrix, [#QKV], per key/value head: `[G·H query rows |
  /// G·H or G gate rows | H key rows | H value rows]`, for a model without a gate too.
  /// Megatron-LM's `linear_qkv` (`core/transformer/attention.py`).
  MEGATRON_QKV;

  /// The key of `config.json` that names one.
  static final String KEY = "gate_packing";

  /// The matrix of [#MEGATRON_QKV], by its name within a layer.
  static final String QKV = "self_attn.linear_qkv.weight";

  /// Reads `key_value_group`, `query_head`, `separate` or `megatron_qkv`.
  public static GatePacking parse(String word) {
    for (GatePacking packing : values()) {
      if (packing.word().equals(word)) {
        return packing;
      }
    }
    throw new InvalidInputException(
        "unknown gate_packing '%s'; use %s"
            .formatted(Printable.brief(word, 60), words(Arrays.asList(values()))));
  }

  /// The packings in a sentence: `key_value_group, query_head or separate`.
  static String words(List<GatePacking> packings) {
    var words = packings.stream().map(GatePacking::word).toList();
    return words.size() == 1
        ? words.getFirst()
        : String.join(", ", words.subList(0, words.size() - 1)) + " or " + words.getLast();
  }

  /// The word that [#parse] reads.
  public String word() {
    return name().toLowerCase(Locale.ROOT);
  }

  /// How many rows the matrix has that holds the queries.
  ///
  /// @param gate of the gate that is packed; null where there is none
  int storedRows(AttentionConfig config, @Nullable Granularity gate) {
    return units(config) * unitRows(config, gate);
  }

  /// The stored rows of the queries, in head-major order.
  long[] queryRows(AttentionConfig config, @Nullable Granularity gate) {
    return rows(config, gate, 0, together(config) * config.headDim());
  }

  /// The stored rows of the gate, in head-major order.
  long[] gateRows(AttentionConfig config, Granularity gate) {
    int queries = together(config) * config.headDim();
    return rows(config, gate, queries, together(config) * gateRowsPerHead(config, gate));
  }

  /// The rows of the keys in [#QKV], in head-major order.
  long[] keyRows(AttentionConfig config, @Nullable Granularity gate) {
    return rows(config, gate, unitRows(config, gate) - 2 * config.headDim(), config.headDim());
  }

  /// The rows of the values in [#QKV], in head-major order.
  long[] valueRows(AttentionConfig config, @Nullable Granularity gate) {
    return rows(config, gate, unitRows(config, gate) - config.headDim(), config.headDim());
  }

  /// Rows `from … from + count` of each group or head.
  private long[] rows(AttentionConfig config, @Nullable Granularity gate, int from, int count) {
    long unitRows = unitRows(config, gate);
    long[] rows = new long[units(config) * count];
    Arrays.setAll(rows, row -> row / count * unitRows + from + row % count);
    return rows;
  }

  private int units(AttentionConfig config) {
    return config.attentionHeads() / together(config);
  }

  /// How many rows a group or head has.
  private int unitRows(AttentionConfig config, @Nullable Granularity gate) {
    return together(config) * (config.headDim() + gateRowsPerHead(config, gate))
        + (this == MEGATRON_QKV ? 2 * config.headDim() : 0);
  }

  /// How many query heads stand together.
  private int together(AttentionConfig config) {
    return switch (this) {
      case KEY_VALUE_GROUP, MEGATRON_QKV -> config.attentionHeads() / config.keyValueHeads();
      case QUERY_HEAD -> 1;
      case SEPARATE -> throw new IllegalStateException("a separate gate is not packed");
    };
  }

  private static int gateRowsPerHead(AttentionConfig config, @Nullable Granularity gate) {
    return switch (gate) {
      case null -> 0;
      case HEADWISE -> 1;
      case ELEMENTWISE -> config.headDim();
    };
  }
}
