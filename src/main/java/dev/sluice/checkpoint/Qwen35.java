package dev.sluice.checkpoint;

import java.util.Set;
import tools.jackson.databind.node.ObjectNode;

/// Qwen3.5 and what is built like it (3.6, 3.8-27B), dense and mixture (`configuration_qwen3_5.py`,
/// `configuration_qwen3_5_moe.py`), by itself or as the text part of a model that sees too, whose
/// vision is passed over.
final class Qwen35 extends QwenHybrid {
  private static final String DENSE = "qwen3_5_text";
  private static final String MIXTURE = "qwen3_5_moe_text";

  /// A model that sees: the text part stands under `text_config`.
  private static final String DENSE_WHOLE = "qwen3_5";

  private static final String MIXTURE_WHOLE = "qwen3_5_moe";

  private static final Defaults OF_DENSE = new Defaults(248_320, 4096, 12_288, 32, 16, 4, null, 0);
  private static final Defaults OF_MIXTURE = new Defaults(248_320, 2048, 512, 40, 16, 2, 256, 8);

  @Override
  public Set<String> modelTypes() {
    return Set.of(DENSE, MIXTURE, DENSE_WHOLE, MIXTURE_WHOLE);
  }

  @Override
  public Set<String> architectures() {
    return Set.of(
        "Qwen3_5ForCausalLM",
        "Qwen3_5MoeForCausalLM",
        "Qwen3_5ForConditionalGeneration",
        "Qwen3_5MoeForConditionalGeneration");
  }

  @Override
  public Set<String> skipped() {
    return Set.of("mtp.", "model.visual.", "visual.");
  }

  // ---------------------------------------------------------------- reading

  @Override
  public ModelConfig read(ConfigReader config) {
    boolean mixture = config.type().equals(MIXTURE) || config.type().equals(MIXTURE_WHOLE);
    boolean whole = config.type().equals(DENSE_WHOLE) || config.type().equals(MIXTURE_WHOLE);
    var text = whole ? text(config, mixture ? MIXTURE : DENSE) : config;
    text.require("norm_topk_prob", true); // its code asks nobody
    var decoder = read(text, mixture ? OF_MIXTURE : OF_DENSE, _ -> true, true);
    if (whole) {
      Boolean tied = config.keys().flag("tie_word_embeddings");
      config.finish();
      decoder = tied == null ? decoder : decoder.withTieWordEmbeddings(tied);
    }
    return config.model(decoder, this, GatePacking.QUERY_HEAD);
  }

  /// The text part of a model that sees.
  private static ConfigReader text(ConfigReader config, String type) {
    var text = config.within("text_config", type);
    for (String key : config.keys().all()) {
      if (key.startsWith("vision_") || key.startsWith("image_") || key.startsWith("video_")) {
        var _ = config.keys().value(key);
      }
    }
    config.note("the model's text part alone is read; it sees no images");
    return text;
  }

  // ---------------------------------------------------------------- writing

  @Override
  public void write(ModelConfig model, ObjectNode json) {
    boolean mixture = model.decoder().layers().getFirst().feedForward().experts().count() > 0;
    ConfigWriter.head(
        json, mixture ? "Qwen3_5MoeForCausalLM" : "Qwen3_5ForCausalLM", mixture ? MIXTURE : DENSE);
    write(model.decoder(), json);
  }
}
