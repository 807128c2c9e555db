package dev.sluice.checkpoint;

import dev.sluice.checkpoint.Family.Parameter;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.MixerConfig;
import dev.sluice.operations.DeltaHeads;
import dev.sluice.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.LongUnaryOperator;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.LongStream;
import org.jspecify.annotations.Nullable;

/// Where a parameter stands in a GGUF file, and how its numbers are stored there (`conversion/` of
/// llama.cpp v0.5.0).
///
/// @param place rows of a tensor of the file; elements of a row always follow one another
record GgufPlace(Placement place, Values values) {
  /// How a number of a file is made of a parameter's.
  enum Values {
    /// As it is.
    SAME,
    /// w + 1: the factor of a norm whose weights are centred.
    PLUS_ONE,
    /// −exp(w): the decay's factor of a DeltaNet layer.
    NEGATED_EXPONENTIAL
  }

  private static final Pattern EXPERT =
      Pattern.compile(
          "mlp\\.experts\\.(?<expert>\\d+)\\.(?<part>gate|up|down)_proj\\.(?<kind>weight|bias)");

  /// Factors by which rotary frequencies are divided, of which a layer takes the first ones; no
  /// parameter.
  static final String ROTARY_FACTORS = "rope_freqs.weight";

  private static final String LINEAR = "linear_attn.";

  private static final String FINAL_NORM = "output_norm.weight";

  private static final Map<String, String> OUTSIDE =
      Map.of(
          "model.embed_tokens.weight", "token_embd.weight",
          "model.norm.weight", FINAL_NORM,
          "lm_head.weight", "output.weight");

  /// The names of a head that drafts tokens, and those within its block in a file.
  private static final Map<String, String> AHEAD =
      Map.of(
          "mtp.fc.weight", "nextn.eh_proj.weight",
          "mtp.pre_fc_norm_embedding.weight", "nextn.enorm.weight",
          "mtp.pre_fc_norm_hidden.weight", "nextn.hnorm.weight",
          "mtp.norm.weight", "nextn.shared_head_norm.weight");

  /// The projection of the head that drafts tokens for a model.
  static String projection(DecoderConfig model) {
    return "blk." + model.layers().size() + "." + AHEAD.get("mtp.fc.weight");
  }

  /// Our names within a layer, and those of a file.
  private static final Map<String, String> NAMES =
      Map.ofEntries(
          Map.entry("input_layernorm.weight", "attn_norm.weight"),
          Map.entry("attention_output_layernorm.weight", "post_attention_norm.weight"),
          Map.entry("mlp_output_layernorm.weight", "post_ffw_norm.weight"),
          Map.entry("self_attn.q_proj.weight", "attn_q.weight"),
          Map.entry("self_attn.k_proj.weight", "attn_k.weight"),
          Map.entry("self_attn.v_proj.weight", "attn_v.weight"),
          Map.entry("self_attn.o_proj.weight", "attn_output.weight"),
          Map.entry("self_attn.q_proj.bias", "attn_q.bias"),
          Map.entry("self_attn.k_proj.bias", "attn_k.bias"),
          Map.entry("self_attn.v_proj.bias", "attn_v.bias"),
          Map.entry("self_attn.o_proj.bias", "attn_output.bias"),
          Map.entry("self_attn.q_norm.weight", "attn_q_norm.weight"),
          Map.entry("self_attn.k_norm.weight", "attn_k_norm.weight"),
          Map.entry("self_attn.sinks", "attn_sinks.weight"),
          Map.entry(ModelDirectory.GATE, "attn_gate.weight"),
          Map.entry("mlp.gate_proj.weight", "ffn_gate.weight"),
          Map.entry("mlp.up_proj.weight", "ffn_up.weight"),
          Map.entry("mlp.down_proj.weight", "ffn_down.weight"),
          Map.entry("mlp.gate.weight", "ffn_gate_inp.weight"),
          Map.entry("mlp.gate.bias", "ffn_gate_inp.bias"),
          Map.entry("mlp.gate.e_score_correction_bias", "exp_probs_b.bias"),
          Map.entry("mlp.shared_expert.gate_proj.weight", "ffn_gate_shexp.weight"),
          Map.entry("mlp.shared_expert.up_proj.weight", "ffn_up_shexp.weight"),
          Map.entry("mlp.shared_expert.down_proj.weight", "ffn_down_shexp.weight"),
          Map.entry("mlp.shared_expert_gate.weight", "ffn_gate_inp_shexp.weight"),
          Map.entry("linear_attn.in_proj_qkv.weight", "attn_qkv.weight"),
          Map.entry("linear_attn.in_proj_z.weight", "attn_gate.weight"),
          Map.entry("linear_attn.in_proj_b.weight", "ssm_beta.weight"),
          Map.entry("linear_attn.in_proj_a.weight", "ssm_alpha.weight"),
          Map.entry("linear_attn.conv1d.weight", "ssm_conv1d.weight"),
          Map.entry("linear_attn.A_log", "ssm_a"),
          Map.entry("linear_attn.dt_bias", "ssm_dt.bias"),
          Map.entry("linear_attn.norm.weight", "ssm_norm.weight"),
          Map.entry("linear_attn.out_proj.weight", "ssm_out.weight"));

  /// Where a parameter may stand: at the first of these places that is there, and at the first when
  /// it is written; empty where no file of the architecture has it.
  static List<GgufPlace> of(GgufArchitecture architecture, ModelConfig model, Parameter parameter) {
    var values = values(model, parameter);
    return placements(architecture, model, parameter).stream()
        .map(place -> new GgufPlace(place, values))
        .toList();
  }

  private static Values values(ModelConfig model, Parameter parameter) {
    String name = parameter.name();
    if (name.endsWith(LINEAR + "A_log")) {
      return Values.NEGATED_EXPONENTIAL;
    }
    boolean isCentred =
        model.decoder().norm().centred()
            && (name.endsWith("norm.weight") || name.startsWith("mtp.pre_fc_norm_"))
            && !name.endsWith(LINEAR + "norm.weight");
    return isCentred ? Values.PLUS_ONE : Values.SAME;
  }

  private static List<Placement> placements(
      GgufArchitecture architecture, ModelConfig model, Parameter parameter) {
    long[] shape = parameter.spec().shape();
    if (parameter.layer() < 0) {
      String ahead = AHEAD.get(parameter.name());
      if (ahead != null) { // the head's block is the last layer
        String block = "blk." + (model.decoder().layers().size() - 1) + ".";
        var own = Placement.whole(block + ahead, shape);
        return parameter.name().equals("mtp.norm.weight")
            ? List.of(own, Placement.whole(FINAL_NORM, shape))
            : List.of(own);
      }
      String name = OUTSIDE.get(parameter.name());
      return name == null ? List.of() : List.of(Placement.whole(name, shape));
    }
    String block = "blk." + parameter.layer() + ".";
    Matcher expert = EXPERT.matcher(parameter.part());
    if (expert.matches()) {
      return experts(model, parameter, expert, block);
    }
    if (parameter.part().equals("post_attention_layernorm.weight")) {
      return List.of(Placement.whole(block + architecture.feedForwardNorm(), shape));
    }
    String name = NAMES.get(parameter.part());
    if (name == null) {
      return List.of();
    }
    if (parameter.part().startsWith(LINEAR)) {
      return linear(architecture, model, parameter, block, block + name);
    }
    if (parameter.part().startsWith("self_attn.")) {
      return attention(architecture, model, parameter, block, block + name);
    }
    return List.of(Placement.whole(block + name, shape));
  }

  // ---------------------------------------------------------------- experts

  /// One expert's matrix or bias in a layer's tensor of all: gates, inputs and results have a
  /// tensor each, or gates stand before inputs in one.
  private static List<Placement> experts(
      ModelConfig model, Parameter parameter, Matcher expert, String block) {
    long[] shape = parameter.spec().shape();
    long count = model.decoder().layers().get(parameter.layer()).feedForward().experts().count();
    long number = Long.parseLong(expert.group("expert"));
    String kind = expert.group("kind");
    String part = expert.group("part");
    long size = LongStream.of(shape).reduce(1, Math::multiplyExact);
    long[] all = LongStream.concat(LongStream.of(count), LongStream.of(shape)).toArray();
    var own =
        new Placement(block + "ffn_" + part + "_exps." + kind, all, 1, _ -> number * size, 1, "");
    if (part.equals("down")) {
      return List.of(own);
    }
    long[] both = all.clone();
    both[1] *= 2;
    long first = 2 * number * size + (part.equals("up") ? size : 0);
    return List.of(
        own, new Placement(block + "ffn_gate_up_exps." + kind, both, 1, _ -> first, 1, ""));
  }

  // ---------------------------------------------------------------- attention

  private static List<Placement> attention(
      GgufArchitecture architecture,
      ModelConfig model,
      Parameter parameter,
      String block,
      String name) {
    long[] shape = parameter.spec().shape();
    var config = model.decoder().layers().get(parameter.layer()).attention().orElseThrow();
    boolean isGate = parameter.part().equals(ModelDirectory.GATE);
    boolean isQuery = parameter.part().equals(ModelDirectory.QUERY);
    long queries = (long) config.attentionHeads() * config.headDim();
    long keys = (long) config.keyValueHeads() * config.headDim();
    Placement own = Placement.whole(name, shape);
    if (architecture.isHybrid() && (isGate || isQuery)) {
      // packed as transformers has it
      own = Placement.usual(model, parameter, parameter.name()).getFirst();
      queries = own.shape()[0];
      own = own.within(block + "attn_q.weight", own.shape(), 0);
    } else if (isGate) {
      boolean hasOwn =
          architecture == GgufArchitecture.AFMOE
              || architecture == GgufArchitecture.LAGUNA
              || architecture == GgufArchitecture.STEP35;
      return hasOwn ? List.of(own) : List.of();
    } else if (architecture.isHybrid()) {
      queries *= 2;
    }
    String part = parameter.part().substring("self_attn.".length());
    boolean fuses =
        part.startsWith("q_proj.")
            || part.startsWith("k_proj.")
            || part.startsWith("v_proj.")
            || (isGate && architecture.isHybrid());
    if (!fuses) {
      return List.of(own);
    }
    long before =
        part.startsWith("k_proj.") ? queries : part.startsWith("v_proj.") ? queries + keys : 0;
    long width = shape.length == 2 ? shape[1] : 1;
    long[] all = shape.clone();
    all[0] = queries + 2 * keys;
    String kind = parameter.part().endsWith("bias") ? "attn_qkv.bias" : "attn_qkv.weight";
    return List.of(own, own.within(block + kind, all, before * width));
  }

  // ---------------------------------------------------------------- Gated DeltaNet

  private static List<Placement> linear(
      GgufArchitecture architecture,
      ModelConfig model,
      Parameter parameter,
      String block,
      String name) {
    if (!(model.decoder().layers().get(parameter.layer()).mixer()
        instanceof MixerConfig.DeltaNet(var net))) {
      throw new IllegalStateException(parameter.name() + " is of no DeltaNet layer");
    }
    long[] shape = parameter.spec().shape();
    String part = parameter.part().substring(LINEAR.length());
    var heads = net.heads();
    if (architecture == GgufArchitecture.QWEN3_NEXT) {
      var own = Placement.whole(name, shape);
      if (!part.startsWith("in_proj_")) {
        return List.of(own);
      }
      var packed = DeltaPacking.rows(heads, part);
      boolean isRate = packed.stored().equals("in_proj_ba.weight");
      var together =
          Placement.ofRows(
              block + (isRate ? "ssm_ba.weight" : "ssm_in.weight"),
              packed.of(),
              net.hiddenSize(),
              packed.rows());
      return isRate ? List.of(together) : List.of(own, together);
    }
    if (!architecture.isHybrid()) {
      return List.of();
    }
    var stored = heads.with(architecture.valueHeads());
    if (heads.equals(stored) || heads.group() == 1 || part.equals("norm.weight")) {
      return List.of(Placement.whole(name, shape)); // the order of heads is the same
    }
    var tiled = tiled(heads, stored);
    long width = heads.valueWidth();
    long values = heads.valueHeads();
    return switch (part) {
      case "in_proj_qkv.weight", "conv1d.weight" -> {
        long keys = 2L * heads.keyHeads() * heads.keyWidth();
        yield List.of(rows(name, shape, keys, width, tiled));
      }
      case "in_proj_z.weight" -> List.of(rows(name, shape, 0, width, tiled));
      case "in_proj_b.weight", "in_proj_a.weight" -> List.of(rows(name, shape, 0, 1, tiled));
      case "A_log", "dt_bias" -> List.of(new Placement(name, shape, values, tiled, 1, ""));
      case "out_proj.weight" ->
          List.of(
              new Placement(
                  name,
                  shape,
                  shape[0] * values,
                  piece -> piece / values * shape[1] + tiled.applyAsLong(piece % values) * width,
                  1,
                  ""));
      default -> List.of();
    };
  }

  /// Rows of which the last ones are those of value heads, so many to a head.
  private static Placement rows(
      String name, long[] shape, long before, long perHead, LongUnaryOperator tiled) {
    List<Long> rows = new ArrayList<>();
    for (long row = 0; row < shape[0]; row++) {
      long own = row - before;
      rows.add(own < 0 ? row : before + tiled.applyAsLong(own / perHead) * perHead + own % perHead);
    }
    return Placement.ofRows(
        name, shape[0], shape[1], rows.stream().mapToLong(Long::longValue).toArray());
  }

  /// Where a file has a value head: those of a key head, which stand together here, are as far
  /// apart there as there are key heads.
  private static LongUnaryOperator tiled(DeltaHeads heads, DeltaHeads stored) {
    int group = heads.group();
    return head -> stored.valueHead((int) head / group, (int) head % group);
  }

  // ---------------------------------------------------------------- numbers

  /// Makes a parameter's numbers of a file's, where they are; gives the first that is none, or −1.
  long restore(Tensor parameter) {
    var layout = ValueLayout.JAVA_FLOAT;
    MemorySegment numbers = parameter.memory();
    for (long i = 0; values != Values.SAME && i < parameter.elements(); i++) {
      float stored = numbers.getAtIndex(layout, i);
      float own =
          switch (values) {
            case SAME -> stored;
            case PLUS_ONE -> stored - 1;
            case NEGATED_EXPONENTIAL -> (float) Math.log(-stored);
          };
      if (!Float.isFinite(own)) {
        return i;
      }
      numbers.setAtIndex(layout, i, own);
    }
    return -1;
  }

  /// Makes a file's numbers of a parameter's, where they are.
  void store(Tensor parameter) {
    var layout = ValueLayout.JAVA_FLOAT;
    MemorySegment numbers = parameter.memory();
    for (long i = 0; values != Values.SAME && i < parameter.elements(); i++) {
      float own = numbers.getAtIndex(layout, i);
      numbers.setAtIndex(layout, i, values == Values.PLUS_ONE ? own + 1 : (float) -Math.exp(own));
    }
  }

  /// The name of the tensor, where there is one place.
  static @Nullable String name(List<GgufPlace> places) {
    return places.isEmpty() ? null : places.getFirst().place.tensor();
  }
}
