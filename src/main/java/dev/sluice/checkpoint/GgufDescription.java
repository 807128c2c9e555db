package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.attention.AttentionConfig;
import dev.sluice.attention.Positions;
import dev.sluice.attention.RopeScaling;
import dev.sluice.attention.Rotary;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.Experts;
import dev.sluice.decoder.FeedForwardConfig;
import dev.sluice.decoder.Glu;
import dev.sluice.decoder.LayerConfig;
import dev.sluice.decoder.MixerConfig;
import dev.sluice.decoder.Router.Weighting;
import dev.sluice.gguf.GgufWriter;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.function.ToDoubleFunction;
import java.util.function.ToIntFunction;
import org.jspecify.annotations.Nullable;

/// Writes what a model is as the metadata of a GGUF file: the way back of [GgufConfig].
final class GgufDescription {
  /// Of llama.cpp's `llama_expert_gating_func_type`.
  private static final int SIGMOID = 2;

  private final GgufArchitecture architecture;
  private final DecoderConfig decoder;

  /// Blocks after the model's, which predict further tokens.
  private final int ahead;

  private final GgufWriter to;

  private GgufDescription(
      GgufArchitecture architecture, DecoderConfig decoder, int ahead, GgufWriter to) {
    this.architecture = architecture;
    this.decoder = decoder;
    this.ahead = ahead;
    this.to = to;
  }

  /// The architecture that a model of a family has in GGUF.
  ///
  /// @throws InvalidInputException if there is none
  static GgufArchitecture architecture(ModelConfig model) {
    boolean mixture =
        model.decoder().layers().stream()
            .anyMatch(layer -> layer.feedForward().experts().count() > 0);
    var found =
        Arrays.stream(GgufArchitecture.values())
            .filter(each -> model.family().modelTypes().contains(each.modelType()))
            .filter(
                each ->
                    switch (each) {
                      case QWEN3, QWEN35 -> !mixture;
                      case QWEN3_MOE, QWEN35_MOE -> mixture;
                      case QWEN3_NEXT, AFMOE, GPT_OSS, LAGUNA, STEP35 -> true;
                    })
            .findFirst();
    return found.orElseThrow(
        () ->
            new InvalidInputException(
                "GGUF has no architecture for a model of model_type %s; it has for %s"
                    .formatted(
                        String.join(" or ", model.family().modelTypes().stream().sorted().toList()),
                        String.join(
                            ", ",
                            Arrays.stream(GgufArchitecture.values())
                                .map(GgufArchitecture::modelType)
                                .toList()))));
  }

  /// Writes all that the model is.
  ///
  /// @param drafts whether the block of a head that drafts tokens follows the model's
  /// @return what llama.cpp does otherwise, in sentences
  /// @throws InvalidInputException if it would take the file for another model
  static List<String> write(
      GgufArchitecture architecture, DecoderConfig decoder, boolean drafts, GgufWriter to) {
    var description = new GgufDescription(architecture, decoder, drafts ? 1 : 0, to);
    description.requireComputed();
    description.write();
    return description.doubts();
  }

  /// What no key says: llama.cpp takes some of what a model is for granted.
  private void requireComputed() {
    for (int i = 0; i < decoder.layers().size(); i++) {
      boolean turns =
          decoder
              .layers()
              .get(i)
              .attention()
              .flatMap(each -> each.positions().rotary())
              .isPresent();
      if (architecture == GgufArchitecture.AFMOE && turns == ((i + 1) % 4 == 0)) {
        throw new InvalidInputException(
            "llama.cpp turns in all layers of an afmoe model but every fourth, and layer %d %s; the model cannot be written as GGUF"
                .formatted(i, turns ? "turns" : "does not turn"));
      }
      var experts = decoder.layers().get(i).feedForward().experts();
      boolean shares = experts.router().weighting() instanceof Weighting.Shares;
      if (experts.count() > 0 && !shares) {
        throw new InvalidInputException(
            "llama.cpp lets the weights of the chosen experts of an architecture %s sum to one, and this model does not (norm_topk_prob); it cannot be written as GGUF"
                .formatted(architecture.word()));
      }
    }
  }

  private List<String> doubts() {
    List<String> doubts = new ArrayList<>();
    for (var layer : decoder.layers()) {
      if (layer.mixer() instanceof MixerConfig.DeltaNet(var net)
          && net.heads().keyWidth() != net.heads().valueWidth()) {
        doubts.add(
            "llama.cpp v0.5.0 refuses models whose keys and values of linear attention differ in width (%d and %d)"
                .formatted(net.heads().keyWidth(), net.heads().valueWidth()));
        break;
      }
    }
    boolean isTruncated =
        decoder.layers().stream()
            .flatMap(layer -> layer.attention().stream())
            .flatMap(each -> each.positions().rotary().stream())
            .allMatch(
                rotary -> !(rotary.scaling() instanceof RopeScaling.Yarn yarn) || yarn.truncate());
    if (!isTruncated) {
      doubts.add(
          "llama.cpp rounds the bounds between which YaRN stretches frequencies in part, and this"
              + " model does not (truncate false), so that its logits differ there");
    }
    return doubts;
  }

  /// A model without what only its training asks for, and no file says, and with the factors of
  /// rotary frequencies that a file has.
  static DecoderConfig computed(DecoderConfig decoder) {
    return new DecoderConfig(
        decoder.vocabSize(),
        decoder.hiddenSize(),
        decoder.mapAttention(GgufDescription::computed).layers().stream()
            .map(GgufDescription::computed)
            .toList(),
        decoder.maxPositionEmbeddings(),
        decoder.norm(),
        decoder.tieWordEmbeddings(),
        1,
        decoder.embeddingMultiplier());
  }

  private static AttentionConfig computed(AttentionConfig attention) {
    var positions = attention.positions();
    return attention.with(
        new Positions(
            positions.rotary().map(rotary -> rotary.asFactors(attention.headDim())),
            positions.window()));
  }

  private static LayerConfig computed(LayerConfig layer) {
    var feedForward = layer.feedForward();
    var experts = feedForward.experts();
    return new LayerConfig(
        computed(layer.mixer()),
        new FeedForwardConfig(
            feedForward.hiddenSize(),
            feedForward.intermediateSize(),
            feedForward.glu(),
            feedForward.biases(),
            new Experts(
                experts.count(), experts.perToken(), experts.router(), experts.shared(), 0, 0)),
        layer.residual());
  }

  /// With numbers as the file's float32 holds them.
  private static MixerConfig computed(MixerConfig mixer) {
    if (mixer instanceof MixerConfig.SoftmaxAttention(var attention)
        && attention.positions().rotary().orElse(null)
            instanceof Rotary(double theta, RopeScaling.Yarn yarn, double share)
        && yarn.attentionFactor() != null) {
      var rounded = yarn.withAttentionFactor(yarn.attentionFactor().floatValue());
      return new MixerConfig.SoftmaxAttention(
          attention.with(
              new Positions(
                  Optional.of(new Rotary(theta, rounded, share)), attention.positions().window())));
    }
    return mixer;
  }

  // ---------------------------------------------------------------- keys

  private String key(String key) {
    return architecture.word() + "." + key;
  }

  private void whole(String key, long value) {
    to.whole(key(key), value);
  }

  private void number(String key, double value) {
    to.number(key(key), value);
  }

  private int[] each(ToIntFunction<LayerConfig> of) {
    return decoder.layers().stream().mapToInt(of).toArray();
  }

  private boolean[] flags(ToIntFunction<LayerConfig> of) {
    boolean[] flags = new boolean[decoder.layers().size()];
    for (int i = 0; i < flags.length; i++) {
      flags[i] = of.applyAsInt(decoder.layers().get(i)) != 0;
    }
    return flags;
  }

  private static AttentionConfig attention(LayerConfig layer) {
    return layer.attention().orElseThrow();
  }

  // ---------------------------------------------------------------- what all have

  private void write() {
    whole("vocab_size", decoder.vocabSize());
    whole("block_count", decoder.layers().size() + ahead);
    if (ahead > 0) {
      whole("nextn_predict_layers", ahead);
    }
    whole("context_length", decoder.maxPositionEmbeddings());
    whole("embedding_length", decoder.hiddenSize());
    ConfigWriter.dense(decoder)
        .or(
            () ->
                architecture == GgufArchitecture.GPT_OSS
                    ? ConfigWriter.sparse(decoder)
                    : Optional.empty())
        .ifPresent(dense -> whole("feed_forward_length", dense.intermediateSize()));
    number("attention.layer_norm_rms_epsilon", decoder.norm().epsilon());
    var attention =
        decoder
            .firstAttention()
            .orElseThrow(
                () ->
                    new InvalidInputException(
                        "no layer of the model has attention, and GGUF's architecture %s has in some"
                            .formatted(architecture.word())));
    switch (architecture) {
      case LAGUNA, STEP35 ->
          to.wholes(key("attention.head_count"), each(layer -> attention(layer).attentionHeads()));
      case QWEN3, QWEN3_MOE, QWEN3_NEXT, QWEN35, QWEN35_MOE, AFMOE, GPT_OSS ->
          whole("attention.head_count", attention.attentionHeads());
    }
    if (architecture == GgufArchitecture.STEP35) {
      to.wholes(key("attention.head_count_kv"), each(layer -> attention(layer).keyValueHeads()));
    } else {
      whole("attention.head_count_kv", attention.keyValueHeads());
    }
    whole("attention.key_length", attention.headDim());
    whole("attention.value_length", attention.headDim());
    ConfigWriter.sparse(decoder).ifPresent(this::mixture);
    switch (architecture) {
      case QWEN3, QWEN3_MOE -> rotary(firstRotary(), "", attention.headDim());
      case QWEN3_NEXT, QWEN35, QWEN35_MOE -> hybrid(attention.headDim());
      case AFMOE -> afmoe(attention.headDim());
      case GPT_OSS -> {
        windows();
        rotary(firstRotary(), "", attention.headDim());
      }
      case LAGUNA -> laguna(attention.headDim());
      case STEP35 -> step35(attention.headDim());
    }
  }

  private Rotary firstRotary() {
    return decoder.layers().stream()
        .flatMap(layer -> layer.attention().stream())
        .flatMap(each -> each.positions().rotary().stream())
        .findFirst()
        .orElseThrow(
            () ->
                new InvalidInputException(
                    "no layer of the model turns, and those of GGUF's architecture %s do"
                        .formatted(architecture.word())));
  }

  private void mixture(FeedForwardConfig sparse) {
    var experts = sparse.experts();
    whole("expert_count", experts.count());
    whole("expert_used_count", experts.perToken());
    whole("expert_feed_forward_length", sparse.intermediateSize());
    boolean bySigmoid =
        switch (architecture) {
          case AFMOE, LAGUNA, STEP35 -> true;
          case QWEN3, QWEN3_MOE, QWEN3_NEXT, QWEN35, QWEN35_MOE, GPT_OSS -> false;
        };
    if (bySigmoid) {
      whole("expert_gating_func", SIGMOID);
      to.flag(key("expert_weights_norm"), true);
      number("expert_weights_scale", experts.router().scale());
    }
    int shared = experts.shared().width();
    if (architecture == GgufArchitecture.AFMOE) {
      whole("expert_shared_count", shared / sparse.intermediateSize());
    } else if (shared > 0) {
      whole("expert_shared_feed_forward_length", shared);
    }
  }

  private void leadingDense() {
    long dense =
        decoder.layers().stream()
            .takeWhile(layer -> layer.feedForward().experts().count() == 0)
            .count();
    whole("leading_dense_block_count", dense);
  }

  private void windows() {
    ConfigWriter.windows(decoder).ifPresent(window -> whole("attention.sliding_window", window));
    if (ConfigWriter.windows(decoder).isPresent()) {
      to.flags(
          key("attention.sliding_window_pattern"),
          flags(layer -> attention(layer).positions().window()));
    }
  }

  // ---------------------------------------------------------------- rotation

  /// @param kind empty, or `_swa` for layers with a window
  private void rotary(Rotary rotary, String kind, int headDim) {
    number("rope.freq_base" + kind, rotary.theta());
    whole("rope.dimension_count" + kind, Math.round(headDim * rotary.share()));
    switch (rotary.scaling()) {
      case RopeScaling.None() -> {}
      // a tensor has them
      case RopeScaling.Llama3 _, RopeScaling.Factors _
          when kind.isEmpty() && architecture.hasRotaryFactors() -> {}
      case RopeScaling.Linear(double factor) when isStretched(kind) -> scaling("linear", factor);
      case RopeScaling.Yarn yarn when isStretched(kind) -> {
        scaling("yarn", yarn.factor());
        whole("rope.scaling.original_context_length", yarn.originalMaxPositionEmbeddings());
        number("rope.scaling.yarn_beta_fast", yarn.betaFast());
        number("rope.scaling.yarn_beta_slow", yarn.betaSlow());
        Double factor = yarn.attentionFactor();
        if (factor != null) {
          // The checkpoint's own number, and what llama.cpp has to take to come to it.
          number("rope.scaling.yarn_attn_factor", factor);
          number(
              "rope.scaling.attn_factor",
              factor / RopeScaling.Yarn.usualAttentionFactor(yarn.factor()));
        }
      }
      default ->
          throw new InvalidInputException(
              "the model turns by %s, which GGUF's architecture %s does not say; give it other positions first"
                  .formatted(rotary.words(), architecture.word()));
    }
  }

  /// The factors of the frequencies of layers without a window, with ones for those pairs of
  /// elements that only turn in layers with one; null where nothing is to be divided.
  static float @Nullable [] rotaryFactors(GgufArchitecture architecture, DecoderConfig decoder) {
    if (!architecture.hasRotaryFactors()) {
      return null;
    }
    int most = 0;
    List<Double> given = List.of();
    for (var layer : decoder.layers()) {
      var attention = attention(layer);
      var rotary = attention.positions().rotary().orElseThrow().asFactors(attention.headDim());
      most = Math.max(most, rotary.inverseFrequencies(attention.headDim(), 1).length);
      if (rotary.scaling() instanceof RopeScaling.Factors(var factors)) {
        given = factors;
      }
    }
    if (given.isEmpty()) {
      return null;
    }
    float[] factors = new float[most];
    for (int i = 0; i < most; i++) {
      factors[i] = i < given.size() ? given.get(i).floatValue() : 1;
    }
    return factors;
  }

  /// Whether a file can say that layers of this kind are stretched: of step35, llama.cpp stretches
  /// those with a window then, too.
  private boolean isStretched(String kind) {
    return kind.isEmpty() && architecture != GgufArchitecture.STEP35;
  }

  private void scaling(String type, double factor) {
    to.text(key("rope.scaling.type"), type);
    number("rope.scaling.factor", factor);
  }

  /// The rotation of layers with a window, and of those without.
  private void byKind(int headDim, double shareOfFull) {
    for (boolean hasWindow : new boolean[] {false, true}) {
      decoder.layers().stream()
          .map(GgufDescription::attention)
          .filter(each -> each.positions().window() > 0 == hasWindow)
          .flatMap(each -> each.positions().rotary().stream())
          .findFirst()
          .ifPresent(
              rotary ->
                  rotary(
                      hasWindow
                          ? rotary
                          : new Rotary(
                              rotary.theta(), rotary.scaling(), rotary.share() / shareOfFull),
                      hasWindow ? "_swa" : "",
                      headDim));
    }
  }

  // ---------------------------------------------------------------- architectures

  private void hybrid(int headDim) {
    for (var layer : decoder.layers()) {
      if (layer.mixer() instanceof MixerConfig.DeltaNet(var net)) {
        whole("ssm.conv_kernel", net.convolutionWidth());
        whole("ssm.state_size", net.heads().keyWidth());
        whole("ssm.group_count", net.heads().keyHeads());
        whole("ssm.time_step_rank", net.heads().valueHeads());
        whole("ssm.inner_size", (long) net.heads().valueWidth() * net.heads().valueHeads());
        break;
      }
    }
    boolean[] recurrent = flags(layer -> layer.attention().isPresent() ? 0 : 1);
    to.flags(key("attention.recurrent_layers"), Arrays.copyOf(recurrent, recurrent.length + ahead));
    int interval = 1;
    while (interval <= recurrent.length && recurrent[interval - 1]) {
      interval++;
    }
    whole("full_attention_interval", interval);
    rotary(firstRotary(), "", headDim);
    if (architecture != GgufArchitecture.QWEN3_NEXT) {
      int turned = (int) Math.round(headDim * firstRotary().share()) / 2;
      int other = turned / 3; // as 11, 11 and 10 of 32: of text all positions are the same
      int first = turned - 2 * other;
      to.wholes(key("rope.dimension_sections"), new int[] {first, other, other, 0});
    }
  }

  private void afmoe(int headDim) {
    leadingDense();
    windows();
    rotary(firstRotary(), "", headDim);
  }

  private void laguna(int headDim) {
    leadingDense();
    windows();
    byKind(headDim, 1);
  }

  private void step35(int headDim) {
    leadingDense();
    whole("moe_every_n_layers", 1);
    if (ConfigWriter.windows(decoder).isEmpty()) {
      throw new InvalidInputException(
          "no layer of the model has a window, and GGUF's architecture step35 has in some");
    }
    windows();
    byKind(headDim, 0.5); // llama.cpp halves what the key says
    to.numbers(key("swiglu_clamp_exp"), limits(layer -> limit(layer.feedForward().glu())));
    to.numbers(
        key("swiglu_clamp_shexp"),
        limits(
            layer ->
                limit(
                    layer.feedForward().experts().count() > 0
                        ? layer.feedForward().experts().shared().glu()
                        : layer.feedForward().glu())));
  }

  private double[] limits(ToDoubleFunction<LayerConfig> of) {
    return decoder.layers().stream().mapToDouble(of).toArray();
  }

  private static double limit(Glu glu) {
    return glu instanceof Glu.ClampedFactors(double limit) ? limit : 0;
  }

  /// What keys say that every file has.
  static void general(GgufArchitecture architecture, String name, int fileType, GgufWriter to) {
    to.text("general.architecture", architecture.word());
    to.text("general.type", "model");
    to.text("general.name", name);
    to.whole("general.file_type", fileType);
    to.whole("general.quantization_version", 2);
  }
}
