package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.attention.AttentionConfig;
import dev.sluice.attention.AttentionVariant;
import dev.sluice.attention.Biases;
import dev.sluice.attention.RopeScaling;
import dev.sluice.attention.Rotary;
import dev.sluice.attention.SoftmaxSink;
import dev.sluice.checkpoint.ConfigReader.RotaryDefaults;
import dev.sluice.decoder.Experts;
import dev.sluice.decoder.FeedForwardConfig;
import dev.sluice.decoder.Glu;
import dev.sluice.decoder.LayerConfig;
import dev.sluice.decoder.ResidualVariant;
import dev.sluice.decoder.Router;
import dev.sluice.decoder.SharedExpert;
import dev.sluice.tensor.RmsNorm;
import java.util.List;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import tools.jackson.databind.node.ObjectNode;

/// gpt-oss (`configuration_gpt_oss.py`, `modeling_gpt_oss.py`): a learned sink for every head,
/// windows in every other layer, biases, and experts whose SwiGLU is clamped. Its experts are
/// stored the other way round, with gate and input in turn.
final class GptOss implements Family {
  private static final String TYPE = "gpt_oss";
  private static final double THETA = 150_000;
  private static final Glu CLAMPED = new Glu.ClampedInputs(7, 1.702);

  private static final Pattern EXPERT =
      Pattern.compile(
          "mlp\\.experts\\.(?<expert>\\d+)\\.(?<part>gate|up|down)_proj\\.(?<kind>weight|bias)");

  @Override
  public Set<String> modelTypes() {
    return Set.of(TYPE);
  }

  @Override
  public Set<String> architectures() {
    return Set.of("GptOssForCausalLM", "GptOssModel");
  }

  @Override
  public Set<String> keys() {
    return Set.of(
        "intermediate_size",
        "num_local_experts",
        "num_experts",
        "num_experts_per_tok",
        "experts_per_token",
        "router_aux_loss_coef",
        "swiglu_limit",
        "initial_context_length",
        "layer_types",
        "sliding_window",
        "attention_bias");
  }

  // ---------------------------------------------------------------- reading

  @Override
  public ModelConfig read(ConfigReader config) {
    var keys = config.keys();
    int vocabSize = config.size("vocab_size", 201_088);
    int hiddenSize = config.size("hidden_size", 2880);
    int width = config.size("intermediate_size", 2880);
    int layers = config.layers(36);
    int heads = config.size("num_attention_heads", 64);
    int keyValueHeads = config.size("num_key_value_heads", 8);
    int headDim = config.size("head_dim", 64);
    int longest = config.longest(131_072);
    var norm = new RmsNorm(config.epsilon(1e-5), false);
    boolean tied = config.flag("tie_word_embeddings", false);
    double range = config.number("initializer_range", 0.02);
    Double limit = keys.number("swiglu_limit");
    if (limit != null && limit != 7) {
      throw new InvalidInputException(
          "swiglu_limit is %s; transformers always takes 7, whatever it says".formatted(limit));
    }
    // the same facts under names of the first release
    var _ = keys.integer("experts_per_token");
    var _ = keys.integer("initial_context_length");
    Integer count = keys.has("num_experts") ? null : Integer.valueOf(128);
    var experts =
        new Experts(
            config.expertCount(count),
            config.size("num_experts_per_tok", 4),
            new Router(Router.Score.SOFTMAX, new Router.Weighting.Shares(0), 1, true, false, 0),
            SharedExpert.NONE,
            config.number("router_aux_loss_coef", 1e-3),
            0);
    List<String> kinds =
        config.layerTypes(
            layers,
            List.of(ConfigReader.SLIDING, ConfigReader.FULL),
            layer -> layer % 2 == 0 ? ConfigReader.SLIDING : ConfigReader.FULL);
    int window = config.window(kinds, 128);
    boolean biases = config.flag("attention_bias", true);
    var rotary = rotary(config, longest);
    config.finish();
    var attention =
        new AttentionConfig(hiddenSize, heads, keyValueHeads, headDim, false, norm, rotary)
            .with(new Biases(biases, biases))
            .with(AttentionVariant.PLAIN.with(SoftmaxSink.LEARNED));
    var feedForward = new FeedForwardConfig(hiddenSize, width, CLAMPED, true, experts);
    return config.model(
        ConfigReader.decoder(
            vocabSize,
            layers,
            layer ->
                new LayerConfig(
                    attention.with(
                        attention
                            .positions()
                            .withWindow(kinds.get(layer).equals(ConfigReader.FULL) ? 0 : window)),
                    feedForward,
                    ResidualVariant.PLAIN),
            longest,
            norm,
            tied,
            range),
        this,
        GatePacking.SEPARATE);
  }

  private static Rotary rotary(ConfigReader config, int longest) {
    if (config.keys().has("rope_parameters") || config.keys().has("rope_scaling")) {
      return config.rotary(longest, new RotaryDefaults(THETA, null, false));
    }
    Double theta = config.keys().number("rope_theta");
    config.taken("rope_parameters of yarn with factor 32");
    return new Rotary(
        theta == null ? THETA : theta, new RopeScaling.Yarn(32, 4096, 32, 1, null, false));
  }

  // ---------------------------------------------------------------- writing

  @Override
  public void write(ModelConfig model, ObjectNode json) {
    var decoder = model.decoder();
    var feedForward = decoder.feedForward();
    ConfigWriter.head(json, "GptOssForCausalLM", TYPE);
    ConfigWriter.common(json, decoder);
    ConfigWriter.attention(json, decoder);
    ConfigWriter.rotary(
        json.putObject("rope_parameters"),
        decoder.firstAttention().orElseThrow().positions().rotary().orElseThrow());
    ConfigWriter.layerTypes(json, decoder);
    ConfigWriter.windows(decoder).ifPresent(window -> json.put("sliding_window", window));
    json.put("intermediate_size", feedForward.intermediateSize());
    json.put("num_local_experts", feedForward.experts().count());
    json.put("num_experts_per_tok", feedForward.experts().perToken());
    json.put("router_aux_loss_coef", feedForward.experts().balance());
  }

  @Override
  public List<Placement> places(ModelConfig model, Parameter parameter) {
    Matcher expert = EXPERT.matcher(parameter.part());
    if (!expert.matches()) {
      String part = parameter.part();
      String name = part.startsWith("mlp.gate.") ? part.replace("mlp.gate.", "mlp.router.") : part;
      return Placement.usual(model, parameter, parameter.beside(name));
    }
    var feedForward = model.decoder().layers().get(parameter.layer()).feedForward();
    long experts = feedForward.experts().count();
    long hidden = feedForward.hiddenSize();
    long width = feedForward.intermediateSize();
    long number = Long.parseLong(expert.group("expert"));
    long second = expert.group("part").equals("up") ? 1 : 0;
    boolean down = expert.group("part").equals("down");
    boolean bias = expert.group("kind").equals("bias");
    String name =
        parameter.beside(
            "mlp.experts." + (down ? "down_proj" : "gate_up_proj") + (bias ? "_bias" : ""));
    if (bias) {
      long each = down ? hidden : 2 * width;
      return List.of(
          new Placement(
              name, new long[] {experts, each}, 1, _ -> number * each + second, down ? 1 : 2, ""));
    }
    return List.of(
        down
            ? new Placement(
                name,
                new long[] {experts, width, hidden},
                hidden,
                row -> number * width * hidden + row,
                hidden,
                "")
            : new Placement(
                name,
                new long[] {experts, hidden, 2 * width},
                width,
                row -> number * hidden * 2 * width + 2 * row + second,
                2 * width,
                ""));
  }
}
