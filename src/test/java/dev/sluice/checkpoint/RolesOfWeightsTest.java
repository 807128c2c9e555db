package dev.sluice.checkpoint;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.sluice.kernel.WeightFormat;
import dev.sluice.operations.Precision;
import dev.sluice.tensor.Weight;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ObjectNode;

/// What becomes of each weight of each family when matrices are rounded as they are read.
///
/// The table is written from what others do: `llama-quantize` leaves norms, convolutions, decays,
/// routers, and biases as they are, and the matrix that gives logits has six bits where others have
/// four; publishers leave the gate of a shared expert, and the rates of Gated DeltaNet, which are
/// one number a head as headwise gates are. `llama-quantize` alone rounds those rates.
class RolesOfWeightsTest {
  /// What a weight of a role becomes.
  private enum Role {
    /// Of four bits where rows are whole blocks of 256, else of eight.
    MATRIX,
    /// One more matrix, but looked up in.
    TABLE,
    LOGITS,
    /// Float32, as the file has it.
    LEFT;

    WeightFormat format(WeightFormat wanted, long columns) {
      if (this == LEFT) {
        return WeightFormat.F32;
      }
      if (wanted == WeightFormat.Q8_0 || columns % 256 != 0) {
        return WeightFormat.Q8_0;
      }
      return this == LOGITS ? WeightFormat.Q6_K : WeightFormat.Q4_K;
    }
  }

  private record Row(Role role, Pattern names) {
    Row(Role role, String names) {
      this(role, Pattern.compile(names));
    }
  }

  private static final String UNIT = "(gate|up|down)_proj\\.weight";

  /// Names after `model.layers.N.`, and whole ones.
  private static final List<Row> ROWS =
      List.of(
          new Row(Role.TABLE, "model\\.embed_tokens\\.weight"),
          new Row(Role.LOGITS, "lm_head\\.weight"),
          new Row(Role.MATRIX, "self_attn\\.[qkvo]_proj\\.weight"),
          new Row(Role.MATRIX, "mlp\\." + UNIT),
          new Row(Role.MATRIX, "mlp\\.experts\\.\\d+\\." + UNIT),
          new Row(Role.MATRIX, "mlp\\.shared_expert\\." + UNIT),
          new Row(Role.MATRIX, "linear_attn\\.(in_proj_qkv|in_proj_z|out_proj)\\.weight"),
          new Row(Role.MATRIX, "mtp\\.fc\\.weight"),
          new Row(Role.LEFT, "(model|mtp)\\.norm\\.weight|mtp\\.pre_fc_norm_.*\\.weight"),
          new Row(Role.LEFT, "[a-z_]*layernorm\\.weight"),
          new Row(Role.LEFT, "self_attn\\.[qk]_norm\\.weight"),
          new Row(Role.LEFT, "linear_attn\\.norm\\.weight"),
          new Row(Role.LEFT, "linear_attn\\.conv1d\\.weight"),
          new Row(Role.LEFT, "linear_attn\\.(A_log|dt_bias)"),
          new Row(Role.LEFT, "linear_attn\\.in_proj_[ab]\\.weight"),
          new Row(Role.LEFT, "mlp\\.gate\\.(weight|bias|e_score_correction_bias)"),
          new Row(Role.LEFT, "mlp\\.shared_expert_gate\\.weight"),
          new Row(Role.LEFT, "self_attn\\.sinks"),
          new Row(Role.LEFT, "(self_attn|mlp)\\..*_proj\\.bias"),
          new Row(Role.MATRIX, "self_attn\\.gates\\.sdpa\\.weight"), // elementwise
          new Row(Role.LEFT, "self_attn\\.gates\\.sdpa\\.weight")); // headwise

  /// The families whose gate gives one number for each head.
  private static final Set<String> HEADWISE = Set.of("paper-headwise", "laguna", "step3.7");

  @TempDir Path directory;

  // ---------------------------------------------------------------- models

  /// Each family once, and gates of both kinds.
  private static final List<String> FAMILIES =
      List.of(
          "qwen3",
          "qwen3_moe",
          "paper-elementwise",
          "paper-headwise",
          "qwen3.5",
          "qwen3.5-moe",
          "qwen3-next",
          "afmoe",
          "gpt-oss",
          "laguna",
          "laguna-element",
          "step3.7");

  private static ObjectNode config(String family) {
    boolean isMixture = family.equals("qwen3_moe");
    var config = TinyCheckpoints.config(isMixture ? "qwen3" : family);
    if (isMixture) {
      config.put("model_type", "qwen3_moe").put("moe_intermediate_size", 32);
      config.putArray("architectures").add("Qwen3MoeForCausalLM");
      config.put("num_experts", 3).put("num_experts_per_tok", 2);
      config.remove("layer_types");
    }
    var model = config.has("text_config") ? (ObjectNode) config.get("text_config") : config;
    // rows of 256 inputs of the hidden state, and of 32 or some more within layers
    model.put("hidden_size", 256);
    for (String width :
        List.of("moe_intermediate_size", "shared_expert_intermediate_size", "share_expert_dim")) {
      replace(model, width, 32);
    }
    replace(model, "intermediate_size", family.equals("gpt-oss") ? 32 : 256);
    if (model.path("head_dim").asInt() % 16 != 0) {
      model.put("head_dim", 16);
    }
    return config;
  }

  private static void replace(ObjectNode config, String key, int value) {
    JsonNode old = config.get(key);
    if (old != null) {
      config.put(key, value);
    }
  }

  /// The one row of the table that a weight is in.
  private static Row row(String family, Weight weight) {
    String name = weight.name().replaceFirst("model\\.layers\\.\\d+\\.", "");
    boolean isHeadwise = HEADWISE.contains(family);
    var rows =
        ROWS.stream()
            .filter(row -> row.names.matcher(name).matches())
            .filter(row -> !name.contains(".gates.") || isHeadwise == (row.role == Role.LEFT))
            .toList();
    assertEquals(1, rows.size(), family + " has " + weight.name());
    return rows.getFirst();
  }

  // ---------------------------------------------------------------- the table

  @Test
  void eachWeightBecomesWhatItsRoleSays() throws IOException {
    List<String> wrong = new ArrayList<>();
    Set<Row> met = new HashSet<>();
    for (String family : FAMILIES) {
      boolean drafts = family.equals("qwen3.5-moe") || family.equals("qwen3-next");
      Path model = Files.createTempDirectory(directory, "model");
      TinyCheckpoints.write(model, config(family), false, drafts);
      for (var format : List.of(WeightFormat.Q8_0, WeightFormat.Q4_K)) {
        try (var decoder =
            ModelDirectory.openInPlace(
                    model, Precision.FLOAT32, format.word(), drafts, Conversion.Listener.NOBODY)
                .decoder()) {
          boolean isTied = decoder.config().tieWordEmbeddings();
          for (var weight : decoder.parameters().weights().values()) {
            var row = row(family, weight);
            met.add(row);
            var role = row.role == Role.TABLE && isTied ? Role.LOGITS : row.role;
            long[] shape = weight.spec().shape();
            var wanted = role.format(format, shape[shape.length - 1]);
            var stored = weight.stored();
            var found = stored == null ? WeightFormat.F32 : stored.format();
            if (found != wanted) {
              wrong.add(
                  "%s, %s: %s became %s where %s belongs"
                      .formatted(family, format.word(), weight.name(), found, wanted));
            }
          }
        }
      }
    }
    assertEquals(List.of(), wrong);
    assertEquals(Set.copyOf(ROWS), met);
  }
}
