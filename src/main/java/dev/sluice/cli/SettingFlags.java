package dev.sluice.cli;

import dev.sluice.training.RunConfig;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import picocli.CommandLine;
import picocli.CommandLine.Model.OptionSpec;
import picocli.CommandLine.ParseResult;

/// One flag for every setting of a run: `batch_size` in a file is `--batch-size` here.
final class SettingFlags {
  /// What `--help` says of each setting; the names are those of [RunConfig].
  static final Map<String, String> HELP = new LinkedHashMap<>();

  static {
    HELP.put(
        "data",
        "A .txt, .jsonl (also .gz, .zst) or Parquet file or a folder of them; moby-dick is the"
            + " bundled book.");
    HELP.put("text_field", "The JSON field or Parquet column that holds the text.");
    HELP.put("tokenizer", "bytes, or the path of a Hugging Face tokenizer.json.");
    HELP.put("held_out_share", "The share of the text kept from training.");
    HELP.put("model", "A named model: tiny, small, paper-dense-28, paper-dense-48, paper-1b-…");
    HELP.put("vocab_size", "Vocabulary of the model; 0 is the tokenizer's.");
    HELP.put("hidden_size", "Model width; 0 here and below is the named model's.");
    HELP.put("intermediate_size", "Feed-forward width.");
    HELP.put("layers", "Number of blocks.");
    HELP.put("attention_heads", "Query heads.");
    HELP.put("key_value_heads", "Key/value heads.");
    HELP.put("head_dim", "Size of a head.");
    HELP.put("tie_word_embeddings", "Use the embedding as the output matrix.");
    HELP.put(
        "gate",
        "model (the named model's own), none, sdpa-headwise, sdpa-elementwise, or"
            + " (query|key|value|sdpa|dense)-(headwise|elementwise)…, joined by +.");
    HELP.put(
        "match_parameters",
        "Narrow the feed-forward so that the gated model is as large as the ungated one.");
    HELP.put(
        "precision", "float32, or bfloat16 (matrix products; weights and the rest stay float32).");
    HELP.put("device", "cpu, cuda, cuda:INDEX or auto.");
    HELP.put("sequence_length", "Tokens per sequence.");
    HELP.put("batch_size", "Sequences per micro-batch.");
    HELP.put("gradient_accumulation", "Micro-batches per step.");
    HELP.put("steps", "Optimizer steps.");
    HELP.put("learning_rate", "The maximum.");
    HELP.put("schedule", "cosine, or wsd (warm-up, stable, decay).");
    HELP.put("warmup_steps", "Steps until the maximum.");
    HELP.put("decay_steps", "Steps of the last phase of wsd; 0 is a fifth of all.");
    HELP.put("min_learning_rate_share", "Share of the maximum at the end.");
    HELP.put("weight_decay", "AdamW's decay, on matrices only.");
    HELP.put("beta1", "AdamW's β₁.");
    HELP.put("beta2", "AdamW's β₂.");
    HELP.put("epsilon", "AdamW's ε.");
    HELP.put("clip_norm", "The largest global gradient norm.");
    HELP.put("seed", "Of weights and data order.");
    HELP.put("held_out_windows", "Held-out sequences per evaluation.");
    HELP.put("evaluate_every", "Steps between evaluations.");
    HELP.put("save_every", "Steps between checkpoints.");
    HELP.put("keep_checkpoints", "How many of the newest checkpoints stay.");
    HELP.put("sample_every", "Steps between samples; 0 samples at the end only.");
    HELP.put("sample_prompt", "What samples continue.");
    HELP.put("sample_tokens", "Tokens per sample; 0 for none.");
  }

  private SettingFlags() {}

  /// Adds the flags to a subcommand.
  ///
  /// @param left settings that the subcommand decides itself
  static void addTo(CommandLine main, String subcommand, RunConfig defaults, Set<String> left) {
    var spec = Objects.requireNonNull(main.getSubcommands().get(subcommand)).getCommandSpec();
    var values = defaults.settings();
    HELP.forEach(
        (name, help) -> {
          if (left.contains(name)) {
            return;
          }
          var option =
              OptionSpec.builder(flag(name))
                  .type(String.class)
                  .description(help + " Default: " + values.get(name) + ".")
                  .paramLabel(values.get(name) instanceof Number ? "N" : "VALUE");
          if (values.get(name) instanceof Boolean) {
            option.arity("0..1").fallbackValue("true").paramLabel("true|false");
          }
          spec.addOption(option.build());
        });
  }

  /// The settings that the user gave.
  static Map<String, String> given(ParseResult parsed) {
    Map<String, String> given = new LinkedHashMap<>();
    for (String name : HELP.keySet()) {
      if (parsed.hasMatchedOption(flag(name))) {
        given.put(name, parsed.matchedOptionValue(flag(name), ""));
      }
    }
    return given;
  }

  private static String flag(String name) {
    return "--" + name.replace('_', '-');
  }
}
